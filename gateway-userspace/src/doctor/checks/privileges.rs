//! Capabilities, and files that must be private.

use crate::{
    dataplane::privileges::{AGENT, Capability},
    doctor::{
        facts::{Facts, Readability},
        finding::{Check, Finding},
        subject::Subject,
    },
};

/// Of the agent, or of this process in its place.
pub const CAPABILITIES: Check = Check {
    name: "capabilities",
    why: "CAP_BPF is for maps and programs, CAP_NET_ADMIN for attaching them and for interfaces. Loading the programs \
          takes CAP_PERFMON as well: without it the verifier forbids variable offsets into packets.",
};

/// Secrets.
pub const PRIVATE_FILES: Check = Check {
    name: "private-files",
    why: "Who knows the fleet secret can forge handshakes and, knowing the members, enter the tunnel.",
};

pub(super) fn all(subject: &Subject, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![capabilities(facts)];
    if subject.node.is_some() && facts.private_files.is_empty() {
        findings.push(PRIVATE_FILES.not_applicable("no secrets in files"));
    }
    findings.extend(facts.private_files.iter().map(private_file));
    findings
}

fn capabilities(facts: &Facts) -> Finding {
    let (who, set, runs) = match &facts.agent.capabilities {
        Some(set) => ("the agent", set, true),
        None => ("this process", &facts.capabilities, false),
    };
    let set = match set {
        Ok(set) => *set,
        Err(unknown) => return CAPABILITIES.unchecked(unknown.0.clone()),
    };
    let has = |one: Capability| set & 1 << one as u32 != 0;
    let lacking: Vec<_> = AGENT.iter().filter(|one| !has(**one)).map(Capability::to_string).collect();
    let lacks = format!("{who} lacks {}", lacking.join(" and "));
    match (lacking.is_empty(), runs) {
        (true, _) if has(Capability::Perfmon) => CAPABILITIES.ok(format!("{who} has CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")),
        (true, true) => CAPABILITIES.ok(format!("{who} has CAP_BPF and CAP_NET_ADMIN")),
        (true, false) => CAPABILITIES.warning(
            format!("{who} has CAP_BPF and CAP_NET_ADMIN, but not CAP_PERFMON"),
            "add it for the agent, or run `ringsteer load` with it first: once the programs are loaded, the agent does without",
        ),
        (false, true) => CAPABILITIES.wrong(lacks, "start the agent as root, or with these capabilities"),
        // Whoever asks need not be who runs the agent.
        (false, false) => CAPABILITIES
            .unchecked(format!("{lacks}; the agent will need them, and some checks need them, too: run this as root")),
    }
}

fn private_file(file: &Readability) -> Finding {
    let path = file.path.display();
    match &file.mode {
        Ok(mode) if mode & 0o007 == 0 => PRIVATE_FILES.ok(format!("mode {:04o}", mode & 0o7777)),
        Ok(mode) => PRIVATE_FILES.wrong(
            format!("it holds {}, and every user may read or change it (mode {:04o})", file.what, mode & 0o7777),
            format!("chmod o= {path}"),
        ),
        Err(unknown) => PRIVATE_FILES.unchecked(unknown.0.clone()),
    }
    .about(path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{facts::Unknown, finding::Outcome, fixtures::healthy};

    const BPF: u64 = 1 << 39;
    const NET_ADMIN: u64 = 1 << 12;
    const PERFMON_BIT: u64 = 1 << 38;

    #[test]
    fn who_is_looked_at_and_what_it_lacks() {
        let mut facts = healthy();
        let mut outcome = |agent: Option<u64>, own: u64| {
            facts.agent.capabilities = agent.map(Ok);
            facts.capabilities = Ok(own);
            let finding = capabilities(&facts);
            (finding.outcome, finding.found)
        };
        assert_eq!(outcome(None, u64::MAX).0, Outcome::Ok);
        assert_eq!(outcome(None, BPF | NET_ADMIN).0, Outcome::Warning);
        assert_eq!(outcome(Some(BPF | NET_ADMIN), 0).0, Outcome::Ok);
        let (unchecked, found) = outcome(None, PERFMON_BIT);
        assert_eq!(unchecked, Outcome::Unchecked);
        assert!(found.starts_with("this process lacks CAP_BPF and CAP_NET_ADMIN"), "{found}");
        assert_eq!(outcome(Some(NET_ADMIN), u64::MAX), (Outcome::Wrong, "the agent lacks CAP_BPF".into()));
    }

    #[test]
    fn a_secret_that_everybody_can_read() {
        let outcome = |mode| private_file(&Readability { path: "/s".into(), what: "a fleet secret", mode }).outcome;
        assert_eq!(outcome(Ok(0o100_400)), Outcome::Ok);
        assert_eq!(outcome(Ok(0o100_640)), Outcome::Ok);
        assert_eq!(outcome(Ok(0o100_644)), Outcome::Wrong);
        assert_eq!(outcome(Ok(0o100_602)), Outcome::Wrong);
        assert_eq!(outcome(Err(Unknown("no".into()))), Outcome::Unchecked);
    }
}
