//! Firewall rules, as the tools that make them print them.

use std::{collections::BTreeSet, process::Command};

use crate::doctor::{
    facts::{Fact, Unknown},
    rules::{self, Danger},
};

/// Rules that could harm connections to these ports. Each tool that is installed is asked; at least one must answer.
pub fn dangers(ports: &BTreeSet<u16>) -> Fact<Vec<Danger>> {
    let mut answers = Vec::new();
    let mut refusals = Vec::new();
    match run("nft", &["-j", "list", "ruleset"])
        .and_then(|text| rules::nft(&text).ok_or_else(|| "nft: no ruleset".into()))
    {
        Ok(ruleset) => answers.push(ruleset),
        Err(refusal) => refusals.push(refusal),
    }
    for tool in ["iptables-save", "ip6tables-save"] {
        match run(tool, &[]) {
            Ok(text) => answers.push(rules::iptables(&text)),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if answers.is_empty() {
        return Err(Unknown(format!("no tool lists the firewall's rules ({})", refusals.join("; "))));
    }
    Ok(answers.iter().flat_map(|ruleset| ruleset.dangers(ports)).collect())
}

fn run(tool: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(tool).args(arguments).output().map_err(|error| format!("{tool}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{tool}: {}", said.lines().next().unwrap_or("failed")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
