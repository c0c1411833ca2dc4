//! Firewall rules that drop what is steered, found in what `nft` and `iptables-save` print. Pure.
//!
//! Best effort: rules are looked at one by one, in the chains that packets for this host pass, up to the point where the
//! services' ports are accepted. A rule with a condition that is not known here is passed over.

mod iptables;
mod nft;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{iptables::parse as iptables, nft::parse as nft};

/// What a rule does to steered connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Harm {
    /// Drops segments that connection tracking calls invalid: harmless while it picks up connections in the middle.
    DropsInvalid,
    /// Drops segments that start a connection, as far as connection tracking knows, and are no SYN: the first that it
    /// sees of every steered connection.
    DropsNewWithoutSyn,
    /// Drops packets whose sender is not routed by the interface they came in by, as strict reverse-path filtering does.
    ReversePath,
}

/// A rule that could harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Danger {
    /// How.
    pub harm: Harm,
    /// Where it stands.
    pub place: String,
}

/// The rules, as far as they matter here.
#[derive(Debug, Default)]
pub struct Ruleset {
    chains: BTreeMap<String, Chain>,
}

#[derive(Debug, Default)]
struct Chain {
    /// Whether packets for this host come to it by themselves, rather than from another chain.
    entry: bool,
    rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Default)]
struct Rule {
    place: String,
    harm: Option<Harm>,
    /// TCP ports to which it accepts everything.
    accepts: Vec<u16>,
    /// Chains it sends packets to.
    targets: Vec<String>,
}

// === impl Ruleset ===

impl Ruleset {
    fn chain(&mut self, name: &str) -> &mut Chain {
        self.chains.entry(name.to_owned()).or_default()
    }

    /// The rules that could harm connections to these ports.
    pub fn dangers(&self, ports: &BTreeSet<u16>) -> Vec<Danger> {
        let mut dangers = Vec::new();
        for (name, _) in self.chains.iter().filter(|(_, chain)| chain.entry) {
            let mut left = ports.clone();
            self.walk(name, &mut left, !ports.is_empty(), &mut BTreeSet::new(), &mut dangers);
        }
        dangers
    }

    /// Looks through a chain and those it leads to. `left` are the ports that no rule has accepted so far; when there
    /// are none (and there were some), nothing further matters.
    fn walk<'a>(
        &'a self,
        name: &'a str,
        left: &mut BTreeSet<u16>,
        bounded: bool,
        been: &mut BTreeSet<&'a str>,
        dangers: &mut Vec<Danger>,
    ) {
        let Some(chain) = self.chains.get(name) else { return };
        if !been.insert(name) {
            return;
        }
        for rule in &chain.rules {
            if bounded && left.is_empty() {
                return;
            }
            rule.accepts.iter().for_each(|port| {
                left.remove(port);
            });
            dangers.extend(rule.harm.map(|harm| Danger { harm, place: rule.place.clone() }));
            for target in &rule.targets {
                self.walk(target, left, bounded, been, dangers);
            }
        }
    }
}

/// What a rule asks for, gathered while its conditions are read.
#[derive(Debug, Default)]
struct Conditions {
    /// States of connection tracking, any of which will do.
    states: Vec<String>,
    /// No SYN.
    not_syn: bool,
    /// No route back by the interface it came in by.
    no_way_back: bool,
    /// TCP ports it is for.
    ports: Vec<u16>,
    /// Something else.
    other: bool,
}

impl Conditions {
    /// What a rule with these conditions does if it drops.
    fn harm(&self) -> Option<Harm> {
        let state = |name: &str| self.states.iter().any(|state| state.eq_ignore_ascii_case(name));
        if self.other || !self.ports.is_empty() {
            None
        } else if self.no_way_back {
            Some(Harm::ReversePath)
        } else if self.not_syn && state("new") {
            Some(Harm::DropsNewWithoutSyn)
        } else if state("invalid") {
            Some(Harm::DropsInvalid)
        } else {
            None
        }
    }

    /// The ports to which a rule with these conditions accepts everything, if it accepts.
    fn accepts(self) -> Vec<u16> {
        let free = self.states.is_empty() && !self.not_syn && !self.no_way_back && !self.other;
        if free { self.ports } else { Vec::new() }
    }
}
