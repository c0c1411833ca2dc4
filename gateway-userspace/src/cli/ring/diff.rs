//! `ringsteer ring diff`: two rings, and what tells them apart.

use std::num::NonZeroU64;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    input::{Given, Origin},
    labels::Labels,
};
use crate::{
    cli::{
        node::Node,
        output::{self, Output, Verdict, count, exit_codes, facts, left, percent, right, table},
    },
    ring::{
        Identity, Precision,
        diff::{Changed, Diff, Move, Pairing},
    },
};

/// Compare two rings: the share of users who have another owner in the second, and who loses them to whom
///
/// Compares what the parts of a fleet compute each for themselves: give it the list of hosts that connections are placed
/// by and the list that pushes are sent by, and it says how many users no push reaches.
///
/// A member of one ring is known again in the other by its identity, or by its name without the port, or, where nothing
/// in one list is like anything in the other, by its place.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer ring diff connections.txt pushes.txt   two lists of hosts, one host a line\n  \
       ringsteer ring diff gw-0:88,gw-1:88 gw-0,gw-1    the same, pasted\n  \
       ringsteer ring diff current next.toml            what publishing next.toml would move\n\n",
    exit_codes!("the rings differ: in an owner, a member, the members' order or the algorithm")
))]
pub struct Args {
    /// A ring: `current`, `previous`, a file, `-`, or hosts separated by commas
    a: String,
    /// Another ring, likewise
    b: String,
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

/// Two rings and what tells them apart, as JSON.
#[derive(Serialize)]
struct Compared {
    differ: bool,
    share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<u64>,
    precision: Precision,
    pairing: Pairing,
    added: Vec<Identity>,
    removed: Vec<Identity>,
    changed: Vec<Change>,
    reordered: bool,
    moves: Vec<Move>,
}

/// One thing about one member, or about the ring, that is not alike in both.
#[derive(Serialize)]
struct Change {
    /// Which member; none for the ring.
    member: Option<Identity>,
    what: &'static str,
    before: String,
    after: String,
}

impl Args {
    /// Compares and prints.
    pub async fn run(self) -> Result<Verdict> {
        let (a, b) = (Given::find(&self.a, &self.node).await?, Given::find(&self.b, &self.node).await?);
        let compared = Compared::of(&a, &b, self.users);
        output::print(&match self.output {
            Output::Table => compared.text(&a, &b, self.limit),
            Output::Json => output::json(&compared)?,
        })?;
        Ok(if compared.differ { Verdict::Wanting } else { Verdict::Fine })
    }
}

/// The users that a share of so many is.
pub fn users_of(share: f64, users: NonZeroU64) -> u64 {
    (share * users.get() as f64).round() as u64
}

// === impl Compared ===

impl Compared {
    fn of(a: &Given, b: &Given, users: Option<NonZeroU64>) -> Self {
        let diff = Diff::between(&a.ring, &b.ring);
        // Of hosts, numbers, addresses and states are made up.
        let hosts = a.origin == Origin::Hosts || b.origin == Origin::Hosts;
        let identities = |members: Vec<crate::ring::Member>| members.into_iter().map(|one| one.identity).collect();
        let mut changed = changes(&diff.changed, hosts);
        let [before, after] = diff.algorithms;
        if before != after {
            let change =
                Change { member: None, what: "algorithm", before: before.to_string(), after: after.to_string() };
            changed.insert(0, change);
        }
        let mut compared = Self {
            differ: false,
            share: diff.share,
            users: users.map(|users| users_of(diff.share, users)),
            precision: diff.precision,
            pairing: diff.pairing,
            added: identities(diff.added),
            removed: identities(diff.removed),
            changed,
            reordered: diff.reordered,
            moves: diff.moves,
        };
        let members = !compared.added.is_empty() || !compared.removed.is_empty() || !compared.changed.is_empty();
        compared.differ = compared.share > 0.0 || members || compared.reordered;
        compared
    }

    fn text(&self, a: &Given, b: &Given, limit: usize) -> String {
        let mut text = facts([("a", a.summary()), ("b", b.summary())]) + "\n" + &self.headline() + "\n";
        if self.reordered {
            text += "The members both have stand in another order, which decides points that two members claim.\n";
        }
        let alone = |what: &'static str, identities: &[Identity]| {
            identities.iter().map(|one| [what.into(), one.to_string()]).collect::<Vec<_>>()
        };
        let alone = [alone("only in a", &self.removed), alone("only in b", &self.added)].concat();
        if !alone.is_empty() {
            text += "\n";
            text += &table([left("where"), left("member")], alone);
        }
        let labels = Labels::of_rings([&a.ring, &b.ring]);
        // Spelling is mostly wrong in all of them in the same way, and an example says it.
        let (spelled, changed): (Vec<_>, Vec<_>) = self.changed.iter().partition(|one| one.what == "identity");
        if let [first, ..] = spelled[..] {
            let members = count(spelled.len(), "member");
            text += &format!("\nSpelled differently: {members}, such as\n  {} in a\n", first.before);
            text += &format!("  {} in b\n", first.after);
        }
        if !changed.is_empty() {
            let rows = changed.into_iter().map(|one| {
                let member = one.member.as_ref().map_or("all", |member| labels.label(member));
                [member.into(), one.what.into(), one.before.clone(), one.after.clone()]
            });
            text += "\n";
            text += &table([left("member"), left("what"), left("in a"), left("in b")], rows);
        }
        text + &moves(&self.moves, &labels, limit)
    }

    fn headline(&self) -> String {
        if !self.differ {
            return "The rings are the same.".into();
        }
        let users = self.users.map(|users| format!(", {users} of them")).unwrap_or_default();
        let pairing = match self.pairing {
            Pairing::Identity => "",
            Pairing::Name => ", nodes known by their names without port",
            Pairing::Place => ", nodes known by their places in the lists, for nothing else fits",
        };
        let share = percent(self.share);
        format!("{share} of all users{users} have another owner in b than in a ({}{pairing}).", self.precision)
    }
}

/// What is not alike of members in both rings.
fn changes(changed: &[Changed], identities_only: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for Changed { before, after } in changed {
        let mut compare = |what, before_is: String, after_is: String| {
            if before_is != after_is {
                let member = Some(before.identity.clone());
                changes.push(Change { member, what, before: before_is, after: after_is });
            }
        };
        compare("identity", before.identity.to_string(), after.identity.to_string());
        if !identities_only {
            compare("number", before.number.to_string(), after.number.to_string());
            compare("address", before.address.to_string(), after.address.to_string());
            compare("state", before.state.to_string(), after.state.to_string());
        }
    }
    changes
}

/// The largest moves, as a table under an empty line; nothing if there are none.
pub fn moves(moves: &[Move], labels: &Labels, limit: usize) -> String {
    if moves.is_empty() || limit == 0 {
        return String::new();
    }
    let rows = moves.iter().take(limit);
    let rows = rows.map(|one| [labels.label(&one.from).into(), labels.label(&one.to).into(), percent(one.share)]);
    let mut text = "\n".to_owned() + &table([left("from"), left("to"), right("users")], rows);
    if moves.len() > limit {
        let rest: f64 = moves[limit..].iter().map(|one| one.share).sum();
        text += &format!("{} more, {} together; --limit shows them\n", moves.len() - limit, percent(rest));
    }
    text
}

#[cfg(test)]
mod tests;
