//! What `nft -j list ruleset` prints (libnftables-json(5)).

use serde_json::Value;

use super::{Conditions, Harm, Rule, Ruleset};

/// The rules in that text. `None` if it is something else.
pub fn parse(text: &str) -> Option<Ruleset> {
    let document: Value = serde_json::from_str(text).ok()?;
    let mut ruleset = Ruleset::default();
    for object in document.get("nftables")?.as_array()? {
        if let Some(chain) = object.get("chain") {
            let hook = chain["hook"].as_str().unwrap_or_default();
            let entry = matches!(hook, "prerouting" | "input" | "ingress");
            if let Some(name) = name(chain, "name") {
                ruleset.chain(&name).entry |= entry;
            }
        } else if let Some(rule) = object.get("rule")
            && let Some(name) = name(rule, "chain")
        {
            let read = read(rule);
            ruleset.chain(&name).rules.push(read);
        }
    }
    Some(ruleset)
}

/// `family table chain`, of families whose packets are ours.
fn name(object: &Value, key: &str) -> Option<String> {
    let part = |key: &str| object[key].as_str();
    let family = part("family").filter(|family| matches!(*family, "ip" | "ip6" | "inet" | "netdev"))?;
    Some(format!("{family} {} {}", part("table")?, part(key)?))
}

fn read(rule: &Value) -> Rule {
    let place = format!("nft: {}, handle {}", name(rule, "chain").unwrap_or_default(), rule["handle"]);
    let family_and_table = format!("{} {}", text(&rule["family"]), text(&rule["table"]));
    let mut read = Rule { place, ..Rule::default() };
    let mut conditions = Conditions::default();
    let mut verdict = Verdict::None;
    for expression in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
        match kind.as_str() {
            "match" => condition(value, &mut conditions),
            "drop" | "reject" => verdict = Verdict::Drop,
            "accept" => verdict = Verdict::Accept,
            "jump" | "goto" => read.targets.push(format!("{family_and_table} {}", text(&value["target"]))),
            "vmap" => verdict_map(value, &family_and_table, &mut read),
            "counter" | "log" | "limit" | "comment" => {}
            _ => conditions.other = true,
        }
    }
    match verdict {
        Verdict::Drop => read.harm = conditions.harm(),
        Verdict::Accept => read.accepts = conditions.accepts(),
        Verdict::None => {}
    }
    read
}

enum Verdict {
    None,
    Drop,
    Accept,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The values that a match's right side lists.
fn values(right: &Value) -> Vec<&Value> {
    match right.get("set").unwrap_or(right) {
        Value::Array(several) => several.iter().collect(),
        one => vec![one],
    }
}

fn condition(value: &Value, conditions: &mut Conditions) {
    let (left, right, operator) = (&value["left"], &value["right"], text(&value["op"]));
    let positive = matches!(operator, "==" | "in");
    // The flags may be masked first.
    let flags = left.get("&").map_or(left, |masked| &masked[0]);
    if left["ct"]["key"] == "state" && positive {
        conditions.states.extend(values(right).into_iter().map(|state| text(state).to_owned()));
    } else if flags["payload"]["field"] == "flags" && operator == "!=" && right == "syn" {
        conditions.not_syn = true;
    } else if left["payload"]["protocol"] == "tcp" && left["payload"]["field"] == "dport" && positive {
        conditions.ports.extend(values(right).into_iter().filter_map(|port| u16::try_from(port.as_u64()?).ok()));
        // Ranges and the like: some port, but not one that counts as accepted.
        conditions.other |= conditions.ports.len() < values(right).len();
    } else if let Some(fib) = left.get("fib") {
        let strict = ["saddr", "iif"].iter().all(|flag| values(&fib["flags"]).iter().any(|has| *has == flag));
        let missing = *right == Value::Bool(false) || right == "0" || right.as_u64() == Some(0);
        conditions.no_way_back = strict && missing && positive;
        conditions.other |= !conditions.no_way_back;
    } else if !is_about_all_tcp(left, right, positive) {
        conditions.other = true;
    }
}

/// A condition that steered segments fulfil anyway, or may.
fn is_about_all_tcp(left: &Value, right: &Value, positive: bool) -> bool {
    let meta = text(&left["meta"]["key"]);
    let protocol = meta == "l4proto" || left["payload"]["field"] == "protocol" || left["payload"]["field"] == "nexthdr";
    match meta {
        "iif" | "iifname" | "nfproto" => true,
        _ => protocol && positive && values(right).iter().any(|value| *value == "tcp" || value.as_u64() == Some(6)),
    }
}

/// `ct state vmap { invalid : drop, … }`, and the chains a map leads to.
fn verdict_map(value: &Value, family_and_table: &str, read: &mut Rule) {
    let by_state = value["key"]["ct"]["key"] == "state";
    for pair in value["data"]["set"].as_array().into_iter().flatten() {
        let (element, verdict) = (&pair[0], &pair[1]);
        if by_state && element == "invalid" && verdict.get("drop").is_some() {
            read.harm = Some(Harm::DropsInvalid);
        }
        for kind in ["jump", "goto"] {
            if let Some(target) = verdict[kind]["target"].as_str() {
                read.targets.push(format!("{family_and_table} {target}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::doctor::rules::Danger;

    /// As nft 1.0.6 prints it; each rule is one of the ways to write it.
    fn ruleset(rules: &[(&str, &str)]) -> String {
        let chains =
            [("input", r#","hook":"input""#), ("sub", ""), ("unused", ""), ("forward", r#","hook":"forward""#)]
                .map(|(name, hook)| format!(r#"{{"chain":{{"family":"inet","table":"f","name":"{name}"{hook}}}}}"#));
        let rules = rules.iter().enumerate().map(|(handle, (chain, expression))| {
            format!(r#"{{"rule":{{"family":"inet","table":"f","chain":"{chain}","handle":{handle},"expr":[{expression}]}}}}"#)
        });
        let all: Vec<_> = chains.into_iter().chain(rules).collect();
        format!(r#"{{"nftables":[{{"metainfo":{{"json_schema_version":1}}}},{}]}}"#, all.join(","))
    }

    fn harms(rules: &[(&str, &str)], ports: &[u16]) -> Vec<Harm> {
        let ports: BTreeSet<u16> = ports.iter().copied().collect();
        parse(&ruleset(rules)).unwrap().dangers(&ports).into_iter().map(|danger| danger.harm).collect()
    }

    const INVALID: &str = r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}},{"drop":null}"#;
    const NOT_SYN: &str = r#"{"match":{"op":"!=","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},["fin","syn","rst","ack"]]},"right":"syn"}},{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"drop":null}"#;

    #[test]
    fn each_way_to_write_it() {
        use Harm::*;
        for (expression, expected) in [
            (INVALID, Some(DropsInvalid)),
            (
                r#"{"match":{"op":"==","left":{"ct":{"key":"state"}},"right":{"set":["invalid","untracked"]}}},{"counter":{"packets":0,"bytes":0}},{"drop":null}"#,
                Some(DropsInvalid),
            ),
            (
                r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["invalid","new"]}},{"log":null},{"drop":null}"#,
                Some(DropsInvalid),
            ),
            (
                r#"{"vmap":{"key":{"ct":{"key":"state"}},"data":{"set":[["invalid",{"drop":null}],["established",{"accept":null}]]}}}"#,
                Some(DropsInvalid),
            ),
            (NOT_SYN, Some(DropsNewWithoutSyn)),
            (
                r#"{"match":{"op":"!=","left":{"payload":{"protocol":"tcp","field":"flags"}},"right":"syn"}},{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"reject":{"type":"icmpx","expr":"port-unreachable"}}"#,
                Some(DropsNewWithoutSyn),
            ),
            (
                r#"{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr","iif"]}},"right":false}},{"drop":null}"#,
                Some(ReversePath),
            ),
            (
                r#"{"match":{"op":"==","left":{"fib":{"result":"oif","flags":["saddr"]}},"right":false}},{"drop":null}"#,
                None,
            ),
            (r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}},{"accept":null}"#, None),
            (r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"drop":null}"#, None),
            (
                r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}},{"drop":null}"#,
                None,
            ),
            (
                r#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":7}},{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"invalid"}},{"drop":null}"#,
                None,
            ),
        ] {
            assert_eq!(harms(&[("input", expression)], &[]), expected.into_iter().collect::<Vec<_>>(), "{expression}");
        }
    }

    #[test]
    fn only_chains_that_our_packets_pass() {
        assert_eq!(harms(&[("forward", INVALID), ("unused", INVALID)], &[]), []);
        let jump = r#"{"jump":{"target":"sub"}}"#;
        let back = r#"{"jump":{"target":"input"}}"#;
        assert_eq!(harms(&[("input", jump), ("sub", INVALID), ("sub", back)], &[]), [Harm::DropsInvalid]);
    }

    #[test]
    fn what_was_accepted_before_is_safe() {
        let accept = r#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":{"set":[10001,10002]}}},{"accept":null}"#;
        assert_eq!(harms(&[("input", accept), ("input", INVALID)], &[10001, 10002]), []);
        assert_eq!(harms(&[("input", accept), ("input", INVALID)], &[10001, 10003]).len(), 1);
        assert_eq!(harms(&[("input", INVALID), ("input", accept)], &[10001]).len(), 1);
    }

    #[test]
    fn the_place_can_be_found_again() {
        let dangers = parse(&ruleset(&[("input", INVALID)])).unwrap().dangers(&BTreeSet::new());
        assert_eq!(dangers, [Danger { harm: Harm::DropsInvalid, place: "nft: inet f input, handle 0".into() }]);
    }

    #[test]
    fn something_else_is_no_ruleset() {
        assert!(parse("").is_none() && parse("{}").is_none() && parse("Error: no").is_none());
        assert!(
            parse(r#"{"nftables":[{"rule":{}},{"rule":7},{"chain":[]}]}"#)
                .unwrap()
                .dangers(&BTreeSet::new())
                .is_empty()
        );
    }
}
