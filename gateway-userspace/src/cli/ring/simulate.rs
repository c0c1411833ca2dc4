//! `ringsteer ring simulate`: what a change of the fleet would move.

use std::num::NonZeroU64;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::{
    diff::{moves, users_of},
    input::{Given, Origin},
    labels::Labels,
};
use crate::{
    cli::{
        node::Node,
        output::{self, Output, Verdict, exit_codes, facts, left, percent, right, table},
    },
    ring::{
        Algorithm, Identity, NodeAddress, Precision, Ring,
        diff::Move,
        simulate::{Change, Holding, Shift, simulate},
    },
};

/// Say what a change of the ring would move, and how the balance would be: nothing is changed
///
/// Members are removed first, then drained, then added.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer ring simulate --add gw-5.example:88           one node more\n  \
       ringsteer ring simulate --drain gw-2.example --users 50000\n  \
       ringsteer ring simulate --ring ring.toml --algorithm multiprobe\n\n",
    exit_codes!()
))]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true))]
pub struct Args {
    /// A member more; its address, which moves no user, may be left out
    #[arg(long, value_name = "IDENTITY[@ADDRESS]", group = "changes")]
    add: Vec<NewMember>,
    /// A member less, named by its identity, or without the port
    #[arg(long, value_name = "MEMBER", group = "changes")]
    remove: Vec<String>,
    /// A member that stays in the ring and owns nothing any more
    #[arg(long, value_name = "MEMBER", group = "changes")]
    drain: Vec<String>,
    /// Another way of hashing
    #[arg(long, value_enum, group = "changes")]
    algorithm: Option<AlgorithmName>,
    /// The ring to change: `current`, `previous`, a file, `-`, or hosts separated by commas
    #[arg(long, default_value = "current")]
    ring: String,
    /// Count users, too, if there are this many
    #[arg(long, value_name = "NUMBER")]
    users: Option<NonZeroU64>,
    /// Show this many of the largest moves from one member to another
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The algorithms, as the command line spells them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmName {
    /// As OpenIM computes it
    Openim,
    /// Well balanced
    Multiprobe,
}

/// A member to add.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NewMember {
    identity: Identity,
    address: Option<NodeAddress>,
}

/// What would be, as JSON.
#[derive(Serialize)]
struct Forecast {
    share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<u64>,
    precision: Precision,
    balance: Balance,
    members: Vec<Shift>,
    moves: Vec<Move>,
}

/// How many times the mean the fullest member owns.
#[derive(Serialize)]
struct Balance {
    before: f64,
    after: f64,
}

impl Args {
    /// Tries it and prints what comes out.
    pub async fn run(self) -> Result<Verdict> {
        let given = Given::find(&self.ring, &self.node).await?;
        let forecast = Forecast::of(&given.ring, &self.changes(given.origin)?, self.users)?;
        output::print(&match self.output {
            Output::Table => forecast.text(&given, self.limit),
            Output::Json => output::json(&forecast)?,
        })?;
        Ok(Verdict::Fine)
    }

    fn changes(&self, origin: Origin) -> Result<Vec<Change>> {
        let removed = self.remove.iter().cloned().map(Change::Remove);
        let drained = self.drain.iter().cloned().map(Change::Drain);
        let mut changes: Vec<_> = removed.chain(drained).collect();
        for NewMember { identity, address } in self.add.iter().cloned() {
            // A list of hosts may be one of bare names. A ring has been told whether it may.
            if origin != Origin::Hosts {
                Identity::new(identity.as_str())?;
            }
            changes.push(Change::Add { identity, address });
        }
        changes.extend(self.algorithm.map(|name| Change::Algorithm(name.into())));
        Ok(changes)
    }
}

// === impl AlgorithmName ===

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::Openim => Self::OpenIm,
            AlgorithmName::Multiprobe => Self::Multiprobe,
        }
    }
}

// === impl NewMember ===

impl std::str::FromStr for NewMember {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        // Neither host names nor addresses have an @.
        let (identity, address) = match text.rsplit_once('@') {
            Some((identity, address)) => (identity, Some(address.parse()?)),
            None => (text, None),
        };
        Ok(Self { identity: Identity::port_optional(identity)?, address })
    }
}

// === impl Forecast ===

impl Forecast {
    fn of(ring: &Ring, changes: &[Change], users: Option<NonZeroU64>) -> Result<Self> {
        let simulation = simulate(ring, changes)?;
        let [before, after] = simulation.balance;
        Ok(Self {
            share: simulation.diff.share,
            users: users.map(|users| users_of(simulation.diff.share, users)),
            precision: simulation.diff.precision,
            balance: Balance { before, after },
            members: simulation.members,
            moves: simulation.diff.moves,
        })
    }

    fn text(&self, given: &Given, limit: usize) -> String {
        let users = self.users.map(|users| format!(", {users} of them")).unwrap_or_default();
        let labels = Labels::of([self.members.iter().map(|one| &one.identity)]);
        let Balance { before, after } = self.balance;
        let owns = |holding: Option<Holding>| holding.map_or_else(|| "-".into(), |one| percent(one.share));
        let rows = self.members.iter().map(|Shift { identity, before, after }| {
            let share = |holding: &Option<Holding>| holding.map_or(0.0, |one| one.share);
            let change = format!("{:+.1}", (share(after) - share(before)) * 100.0);
            let state = after.map_or_else(|| "removed".into(), |one| one.state.to_string());
            [identity.to_string(), state, owns(*before), owns(*after), change]
        });
        facts([
            ("ring", given.summary()),
            ("moved", format!("{} of all users{users} ({})", percent(self.share), self.precision)),
            ("balance", format!("the fullest member owns {before:.2} times the mean, then {after:.2}")),
        ]) + "\n"
            + &table([left("member"), left("then"), right("before"), right("after"), right("points")], rows)
            + &moves(&self.moves, &labels, limit)
    }
}

#[cfg(test)]
mod tests;
