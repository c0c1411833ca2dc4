//! What `iptables-save` and `ip6tables-save` print.

use super::{Conditions, Rule, Ruleset};

/// The rules in that text.
pub fn parse(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let mut table = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim();
        } else if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            let entry = matches!(chain, "PREROUTING" | "INPUT");
            ruleset.chain(&format!("{table} {chain}")).entry |= entry;
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = words(rest);
            if let Some((chain, rule)) = words.split_first() {
                let read = read(table, line, rule);
                ruleset.chain(&format!("{table} {chain}")).rules.push(read);
            }
        }
    }
    ruleset
}

/// The words of a rule; a comment in quotes is one.
fn words<'a>(rule: &'a str) -> Vec<&'a str> {
    let part = |(index, part): (usize, &'a str)| {
        if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
    };
    rule.split('"').enumerate().flat_map(part).collect()
}

fn read(table: &str, line: &str, words: &[&str]) -> Rule {
    let mut conditions = Conditions::default();
    let mut rule = Rule { place: format!("iptables: -t {table} {line}"), ..Rule::default() };
    let mut verdict = "";
    let mut negated = false;
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let mut value = || words.next().copied().unwrap_or_default();
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-j" | "-g" => verdict = value(),
            "-m" | "--comment" | "-i" => drop(value()),
            "-p" => conditions.other |= value() != "tcp" || negated,
            "--ctstate" | "--state" => {
                conditions.states.extend(value().split(',').map(str::to_owned));
                conditions.other |= negated;
            }
            "--syn" => conditions.not_syn = negated,
            "--tcp-flags" => {
                let (_mask, flags) = (value(), value());
                conditions.not_syn = negated && flags == "SYN";
                conditions.other |= !conditions.not_syn;
            }
            "--dport" | "--dports" => {
                let ports: Result<Vec<u16>, _> = value().split(',').map(str::parse).collect();
                match ports {
                    Ok(ports) if !negated => conditions.ports.extend(ports),
                    _ => conditions.other = true,
                }
            }
            // Strict unless `--loose` says otherwise; inverted: those that fail the test.
            "--invert" => conditions.no_way_back = true,
            "--validmark" | "--accept-local" | "--reject-with" | "icmp-port-unreachable" | "tcp-reset" => {}
            _ => conditions.other = true,
        }
        negated = false;
    }
    match verdict {
        "DROP" | "REJECT" => rule.harm = conditions.harm(),
        "ACCEPT" => rule.accepts = conditions.accepts(),
        "RETURN" | "LOG" | "" => {}
        target => rule.targets.push(format!("{table} {target}")),
    }
    rule
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::doctor::rules::Harm;

    fn harms(rules: &str, ports: &[u16]) -> Vec<Harm> {
        let text = format!(
            "# Generated\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:SUB - [0:0]\n{rules}\nCOMMIT\n"
        );
        let ports: BTreeSet<u16> = ports.iter().copied().collect();
        parse(&text).dangers(&ports).into_iter().map(|danger| danger.harm).collect()
    }

    #[test]
    fn each_way_to_write_it() {
        use Harm::*;
        for (rule, expected) in [
            ("-A INPUT -m conntrack --ctstate INVALID -j DROP", Some(DropsInvalid)),
            (
                "-A INPUT -i eth0 -p tcp -m state --state INVALID,UNTRACKED -m comment --comment \"what is odd\" -j DROP",
                Some(DropsInvalid),
            ),
            (
                "-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP",
                Some(DropsNewWithoutSyn),
            ),
            (
                "-A INPUT -p tcp ! --syn -m state --state NEW -j REJECT --reject-with tcp-reset",
                Some(DropsNewWithoutSyn),
            ),
            ("-A INPUT -m rpfilter --validmark --invert -j DROP", Some(ReversePath)),
            ("-A INPUT -m rpfilter --loose --invert -j DROP", None),
            ("-A INPUT -m conntrack --ctstate INVALID -j ACCEPT", None),
            ("-A INPUT -m conntrack ! --ctstate INVALID -j DROP", None),
            ("-A INPUT -p udp -m conntrack --ctstate INVALID -j DROP", None),
            ("-A INPUT -m mark --mark 0x7 -m conntrack --ctstate INVALID -j DROP", None),
            // kube-proxy's rule, which only forwarded packets meet.
            ("-A FORWARD -m conntrack --ctstate INVALID -j DROP", None),
            ("-A SUB -m conntrack --ctstate INVALID -j DROP", None),
        ] {
            assert_eq!(harms(rule, &[]), expected.into_iter().collect::<Vec<_>>(), "{rule}");
        }
    }

    #[test]
    fn jumps_are_followed_and_acceptance_ends_it() {
        let sub = "-A INPUT -j SUB\n-A SUB -m conntrack --ctstate INVALID -j DROP";
        assert_eq!(harms(sub, &[]), [Harm::DropsInvalid]);
        let accepted = format!("-A INPUT -p tcp -m multiport --dports 10001,10002 -j ACCEPT\n{sub}");
        assert_eq!(harms(&accepted, &[10001]), []);
        assert_eq!(harms(&accepted, &[10001, 10003]).len(), 1);
    }
}
