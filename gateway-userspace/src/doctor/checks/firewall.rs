//! Firewall rules that drop what is steered.

use crate::doctor::{
    facts::Facts,
    finding::{Check, Finding},
    rules::{Danger, Harm},
};

/// All such rules.
pub const FIREWALL: Check = Check {
    name: "firewall",
    why: "Connection tracking never sees the handshake of a steered connection, which XDP answers: the first segment \
          it sees is one with data, in the middle.",
};

const LOOSE: &str = "net/netfilter/nf_conntrack_tcp_loose";

/// Settings this check looks at.
pub fn settings() -> Vec<String> {
    vec![LOOSE.into()]
}

pub(super) fn firewall(facts: &Facts) -> Finding {
    let dangers = match &facts.firewall {
        Ok(dangers) => dangers,
        Err(unknown) => return FIREWALL.unchecked(unknown.0.clone()),
    };
    let judged = dangers.iter().map(|danger| judge(danger, facts));
    // The worst is what there is to do first.
    judged
        .max_by_key(|finding| finding.outcome)
        .unwrap_or_else(|| FIREWALL.ok("no rule known to drop steered segments"))
}

fn judge(danger: &Danger, facts: &Facts) -> Finding {
    let place = &danger.place;
    let accept = "accept the services' TCP ports in front of that rule";
    match danger.harm {
        Harm::DropsNewWithoutSyn => FIREWALL.wrong(format!("{place}: drops what starts a connection without a SYN"), accept),
        Harm::ReversePath => FIREWALL.warning(
            format!("{place}: drops packets whose sender is not routed by the interface they came in by"),
            "have it check for any route at all (fib saddr oif, rpfilter --loose), unless all routes leave by one interface",
        ),
        Harm::DropsInvalid => match facts.settings.number(LOOSE) {
            Ok(0) => FIREWALL.wrong(
                format!("{place}: drops what connection tracking calls invalid, and net.netfilter.nf_conntrack_tcp_loose is 0"),
                "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
            ),
            Err(unknown) => FIREWALL.unchecked(format!("{place}: drops what connection tracking calls invalid; {unknown}")),
            Ok(_) => FIREWALL.ok(format!(
                "{place}: drops what connection tracking calls invalid, which is no harm while \
                 net.netfilter.nf_conntrack_tcp_loose is 1, as it is"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{facts::Unknown, finding::Outcome, fixtures::healthy};

    fn with(harms: &[Harm], loose: &str) -> Finding {
        let mut facts = healthy();
        facts.settings.0.insert(LOOSE.into(), Ok(loose.into()));
        facts.firewall = Ok(harms.iter().map(|harm| Danger { harm: *harm, place: "here".into() }).collect());
        firewall(&facts)
    }

    #[test]
    fn what_a_rule_does_depends() {
        assert_eq!(with(&[], "1").outcome, Outcome::Ok);
        assert_eq!(with(&[Harm::DropsInvalid], "1").outcome, Outcome::Ok);
        assert_eq!(with(&[Harm::DropsInvalid], "0").outcome, Outcome::Wrong);
        assert_eq!(with(&[Harm::ReversePath, Harm::DropsInvalid], "1").outcome, Outcome::Warning);
        let worst = with(&[Harm::ReversePath, Harm::DropsNewWithoutSyn, Harm::DropsInvalid], "1");
        assert!(worst.outcome == Outcome::Wrong && worst.found.contains("without a SYN"), "{worst:?}");
    }

    #[test]
    fn rules_that_cannot_be_read() {
        let mut facts = healthy();
        facts.firewall = Err(Unknown("no nft here".into()));
        assert_eq!(firewall(&facts).outcome, Outcome::Unchecked);
    }
}
