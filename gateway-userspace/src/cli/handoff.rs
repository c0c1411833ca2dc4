//! `ringsteer handoff`: how live sessions go from node to node, and having them wait, go on, or go faster.

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use super::{
    names::Names,
    node::Node,
    output::{self, Output, Verdict, exit_codes, left, right, table},
};
use crate::{
    control::{self, MovesReport, NodeMoves, Order},
    ring::{MemberNumber, MemberState},
};

/// Show how live sessions go from node to node; have them wait, go on, go faster or slower
///
/// When the ring changes, or a node drains, the sessions of users who have another owner now go there with their
/// connections. This shows how far that has come at every node, and gives the gateways orders. An order holds for
/// what one node gives away; it is forgotten when that gateway is started again.
///
/// What has been given away cannot be called back. To undo a change publish another ring, or take a drain back
/// (`ringsteer drain --end`): the sessions then return.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer handoff status\n  \
       ringsteer handoff pause                  nothing begins to move, anywhere\n  \
       ringsteer handoff rate 200 gw-2.example  at most 200 a second from that node\n  \
       ringsteer handoff resume\n  \
       ringsteer handoff status -o json | jq '[.nodes[].moves.waiting] | add'\n\n",
    exit_codes!("a node did not answer, or has sessions that cannot be moved")
))]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How far it has come
    Status(On),
    /// No session begins to move; those that are on their way arrive
    Pause(On),
    /// Sessions move again, after `pause` or `abort`
    Resume(On),
    /// No session begins to move, and those that have not been given away yet stay where they are
    Abort(On),
    /// So many begin to move in a second, at each node
    Rate {
        /// How many; `none` for as many as can be
        #[arg(value_name = "PER_SECOND", value_parser = rate)]
        moves_per_s: Rate,
        #[command(flatten)]
        on: On,
    },
}

/// A rate; none for as many as can be.
type Rate = Limit;

/// Wrapped, for clap takes an `Option` for an argument that may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit(Option<u32>);

#[derive(Debug, clap::Args)]
struct On {
    /// The node: its number, its identity, or that without the port; all nodes if it is left out
    #[arg(value_name = "NODE")]
    at: Option<String>,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    match text.parse::<u32>() {
        Ok(rate @ 1..) => Ok(Limit(Some(rate))),
        Ok(0) => Err("0 would be never; `ringsteer handoff pause` says that".into()),
        Err(_) => Err("a whole number of moves a second, or `none`".into()),
    }
}

impl Args {
    /// Gives the order, and prints how it is then.
    pub async fn run(self) -> Result<Verdict> {
        let (on, order) = match self.what {
            What::Status(on) => (on, None),
            What::Pause(on) => (on, Some(Order::Pause)),
            What::Resume(on) => (on, Some(Order::Continue)),
            What::Abort(on) => (on, Some(Order::Stop)),
            What::Rate { moves_per_s: Limit(moves_per_s), on } => (on, Some(Order::Rate(moves_per_s))),
        };
        let names = Names::of(&on.node).await?;
        let at = on.at.as_deref().map(|name| find(&names, name)).transpose()?;
        let nodes = on.node.ask(async |socket: &Path| control::handoff(socket, at, order).await).await?;
        output::print(&match on.output {
            Output::Table => text(&nodes, &names),
            Output::Json => output::json(&serde_json::json!({ "nodes": nodes }))?,
        })?;
        let well = |node: &NodeMoves| node.moves.as_ref().is_some_and(|moves| moves.stranded == 0);
        Ok(if nodes.iter().all(well) { Verdict::Fine } else { Verdict::Wanting })
    }
}

/// The number of the node that the command line calls `name`.
pub fn find(names: &Names, name: &str) -> Result<MemberNumber> {
    let number = names.find(name)?;
    u16::try_from(number)
        .ok()
        .and_then(|number| MemberNumber::new(number).ok())
        .with_context(|| format!("{number} is no number of a node; `ringsteer nodes` lists them"))
}

fn text(nodes: &[NodeMoves], names: &Names) -> String {
    let columns = [
        left("node"),
        left("state"),
        right("sessions"),
        right("to go"),
        right("moving"),
        right("coming"),
        right("stuck"),
        right("gone"),
        right("come"),
        right("failed"),
        right("lost"),
        left("per second"),
        left("moves"),
    ];
    table(columns, nodes.iter().map(|node| row(node, names)))
}

fn row(node: &NodeMoves, names: &Names) -> [String; 13] {
    let NodeMoves { number, state, moves, error, .. } = node;
    let (name, state) = (names.label(number.get().into()), state.to_string());
    let Some(moves) = moves else {
        let why = error.clone().unwrap_or_default();
        return [
            name,
            state,
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            why,
        ];
    };
    let MovesReport { sessions, waiting, moving, committed, arriving, stranded, moved, taken, failed, lost, .. } =
        *moves;
    let [sessions, waiting, leaving, arriving, stranded, moved, taken, failed, lost] =
        [sessions, waiting, moving + committed, arriving, stranded, moved, taken, failed, lost]
            .map(|one| one.to_string());
    let rate = moves.moves_per_s.map_or("any".to_owned(), |rate| rate.to_string());
    [name, state, sessions, waiting, leaving, arriving, stranded, moved, taken, failed, lost, rate, word(node, moves)]
}

/// How it goes, in a word.
fn word(node: &NodeMoves, moves: &MovesReport) -> String {
    let going = moves.waiting + moves.moving + moves.committed;
    match () {
        () if moves.paused => "paused".into(),
        () if moves.leaving => "stopping".into(),
        () if going > 0 => "go on".into(),
        () if node.state == MemberState::Draining && moves.sessions == 0 => "drained".into(),
        () => "none".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_or_none() {
        assert_eq!((rate("12"), rate("none")), (Ok(Limit(Some(12))), Ok(Limit(None))));
        for wrong in ["0", "-1", "1.5", "fast", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_word_says_how_it_goes() {
        let node = |state| NodeMoves {
            number: MemberNumber::new(1).unwrap(),
            name: "gw-0:88".into(),
            state,
            here: true,
            moves: None,
            error: None,
        };
        let (active, draining) = (node(MemberState::Active), node(MemberState::Draining));
        let quiet = MovesReport::default();
        assert_eq!((word(&active, &quiet), word(&draining, &quiet)), ("none".into(), "drained".into()));
        let going = MovesReport { waiting: 1, sessions: 1, ..quiet.clone() };
        assert_eq!(word(&draining, &going), "go on");
        assert_eq!(word(&draining, &MovesReport { paused: true, ..going }), "paused");
        assert_eq!(word(&draining, &MovesReport { sessions: 1, ..quiet }), "none");
    }
}
