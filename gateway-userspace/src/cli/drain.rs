//! `ringsteer drain`: a node is to leave, and its users notice nothing.

use std::{
    io::IsTerminal as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tokio::time::sleep;

use super::{
    handoff::find,
    names::Names,
    node::Node,
    output::{self, Output, Reader, Verdict, exit_codes},
};
use crate::{
    control::{self, MovesReport, NodeMoves, Order},
    ring::{MemberNumber, MemberState},
};

/// From one look to the next.
const LOOK: Duration = Duration::from_millis(250);

/// From one line to the next, where nobody watches a bar.
const LINE: Duration = Duration::from_secs(1);

/// For how long a node may not answer before we give up.
const SILENCE: Duration = Duration::from_secs(30);

/// How wide a bar is.
const BAR: usize = 30;

/// Have a node leave: its sessions go to the others, without being disconnected, and it gets no new users
///
/// The node announces itself as draining, so the next ring gives its users to the others, and their sessions follow. This
/// waits until the last one has gone and shows how far it is: as a bar on a terminal, as lines elsewhere, with `-o json`
/// as one object a line. Interrupting it interrupts nothing but the view. Then the node may be stopped.
///
/// Where members are listed in a file, the state stands there, and this command says so; once it does, it follows.
/// The state is kept when the agent is started again; `--end` takes it back, and the users return.
///
/// `ringsteer handoff` has the sessions wait, go on, or go faster.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer drain                        this node\n  \
       ringsteer drain gw-2.example --rate 500\n  \
       ringsteer drain 2 --no-wait && ringsteer handoff status 2\n  \
       ringsteer drain 2 --end\n\n",
    exit_codes!("sessions are left that cannot be moved")
))]
pub struct Args {
    /// The node: its number, its identity, or that without the port; this one if it is left out
    #[arg(value_name = "NODE")]
    which: Option<String>,
    /// Take it back: the node is there for users again
    #[arg(long, conflicts_with_all = ["rate", "no_wait"])]
    end: bool,
    /// So many sessions begin to move in a second, at most
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Do not wait until the sessions have gone
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Tells the agents, and follows.
    pub async fn run(self) -> Result<Verdict> {
        let names = Names::of(&self.node).await?;
        let named = self.which.as_deref().map(|name| find(&names, name)).transpose()?;
        let before = self.look(named).await?;
        let number = before.number;
        if let Some(rate) = self.rate {
            let rated = self.ask(number, Some(Order::Rate(Some(rate)))).await?;
            if let Some(error) = rated.error {
                bail!("node {number}: {error}; its sessions do not move");
            }
        }
        let wanted = if self.end { MemberState::Active } else { MemberState::Draining };
        // By its number only where it is another node: an agent from before this could be told knows itself.
        let at = (!before.here).then_some(number);
        let told = self.node.ask(async |socket: &Path| control::announce(socket, wanted, at).await).await;
        let state = match told {
            // The list of members says so already.
            Err(_) if before.state == wanted && !self.end => wanted,
            told => told?,
        };
        if self.end && before.state == MemberState::Active && state == MemberState::Active {
            bail!("node {number} is not drained: by the ring in force it owns users");
        }
        if self.end || self.no_wait {
            output::print(&match self.output {
                Output::Table => format!("node {} announces itself as {state}\n", names.label(number.get().into())),
                Output::Json => output::json(&serde_json::json!({ "node": number, "announced": state }))?,
            })?;
            return Ok(Verdict::Fine);
        }
        self.follow(number, &names.label(number.get().into())).await
    }

    /// The node as it is now: that of this number, or this one.
    async fn look(&self, named: Option<MemberNumber>) -> Result<NodeMoves> {
        let nodes = self.node.ask(async |socket: &Path| control::handoff(socket, named, None).await).await?;
        let found = nodes.into_iter().find(|node| named.map_or(node.here, |number| node.number == number));
        found.context("this node is no member of the ring, and owns nobody; name the node that is meant")
    }

    async fn ask(&self, number: MemberNumber, order: Option<Order>) -> Result<NodeMoves> {
        let nodes = self.node.ask(async |socket: &Path| control::handoff(socket, Some(number), order).await).await?;
        nodes.into_iter().next().context("the agent answered for no node")
    }

    /// Shows how far it is, until nothing is left to go.
    async fn follow(&self, number: MemberNumber, name: &str) -> Result<Verdict> {
        let on_terminal = self.output == Output::Table && std::io::stdout().is_terminal();
        let (mut most, mut heard, mut next_line) = (0, Instant::now(), Instant::now());
        loop {
            let node = self.ask(number, None).await?;
            let moves = match (&node.moves, &node.error) {
                (Some(moves), _) => moves,
                (None, error) if heard.elapsed() >= SILENCE => {
                    bail!(
                        "node {name} drains, but how far it is nobody can say: {}",
                        error.as_deref().unwrap_or("nothing")
                    );
                }
                (None, _) => {
                    sleep(LOOK).await;
                    continue;
                }
            };
            heard = Instant::now();
            most = most.max(moves.sessions);
            let at = At { node: &node, moves, most };
            let done = at.is_done();
            if on_terminal || done || Instant::now() >= next_line {
                next_line = Instant::now() + LINE;
                let text = match self.output {
                    Output::Table if on_terminal => format!("\r\x1b[K{} {}", bar(at.gone(), most), at.words(name)),
                    Output::Table => at.words(name) + "\n",
                    Output::Json => at.json()?,
                };
                let text = if on_terminal && done { text + "\n" } else { text };
                if output::show(&text)? == Reader::Gone {
                    return Ok(Verdict::Fine);
                }
            }
            if done {
                return Ok(if moves.stranded == 0 { Verdict::Fine } else { Verdict::Wanting });
            }
            sleep(LOOK).await;
        }
    }
}

/// How far it is.
struct At<'a> {
    node: &'a NodeMoves,
    moves: &'a MovesReport,
    /// The most sessions that were seen.
    most: u64,
}

// === impl At ===

impl At<'_> {
    fn gone(&self) -> u64 {
        self.most - self.moves.sessions
    }

    /// Whether the ring is without the node, and nothing is left to go.
    fn is_done(&self) -> bool {
        let MovesReport { sessions, stranded, .. } = *self.moves;
        self.node.state == MemberState::Draining && self.moves.under_way() == 0 && sessions <= stranded
    }

    fn words(&self, name: &str) -> String {
        let MovesReport { sessions, stranded, paused, moves_per_s, .. } = *self.moves;
        let mut words = format!("{name}: {} of {} sessions have gone", self.gone(), self.most);
        if self.node.state != MemberState::Draining {
            words += "; the ring is not without it yet";
        } else if self.is_done() {
            words += if stranded == 0 { "; it may be stopped" } else { "" };
        } else if paused {
            words += "; PAUSED, `ringsteer handoff resume` has them go on";
        } else if let Some(rate) = moves_per_s {
            words += &format!("; at least {} s", (sessions - stranded.min(sessions)).div_ceil(rate.into()));
        }
        if stranded > 0 {
            words += &format!("; {stranded} cannot be moved and are closed when the gateway stops");
        }
        words
    }

    fn json(&self) -> Result<String> {
        let said = serde_json::json!({
            "node": self.node.number,
            "state": self.node.state,
            "sessions_at_most": self.most,
            "gone": self.gone(),
            "done": self.is_done(),
            "moves": self.moves,
        });
        Ok(serde_json::to_string(&said)? + "\n")
    }
}

/// A bar for people.
fn bar(done: u64, all: u64) -> String {
    let share = if all == 0 { 1.0 } else { done as f64 / all as f64 };
    let full = (share * BAR as f64) as usize;
    format!("[{}{}] {:>3.0} %", "#".repeat(full), ".".repeat(BAR - full), (share * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_when_all_is_done_and_not_before() {
        assert_eq!(bar(0, 10), format!("[{}]   0 %", ".".repeat(BAR)));
        assert_eq!(bar(999, 1000), format!("[{}.]  99 %", "#".repeat(BAR - 1)));
        assert_eq!(bar(10, 10), format!("[{}] 100 %", "#".repeat(BAR)));
        assert_eq!(bar(0, 0), format!("[{}] 100 %", "#".repeat(BAR)));
    }

    #[test]
    fn it_is_done_when_nothing_is_left_to_go() {
        let node = |state| NodeMoves {
            number: MemberNumber::new(2).unwrap(),
            name: "gw-1:88".into(),
            state,
            here: false,
            moves: None,
            error: None,
        };
        let is_done = |state, moves: MovesReport| At { node: &node(state), moves: &moves, most: 10 }.is_done();
        let left = |sessions, stranded| MovesReport { sessions, stranded, ..MovesReport::default() };
        assert!(is_done(MemberState::Draining, left(0, 0)));
        assert!(is_done(MemberState::Draining, left(2, 2)), "they cannot go");
        assert!(!is_done(MemberState::Draining, left(1, 0)), "the gateway has not looked yet");
        assert!(!is_done(MemberState::Active, left(0, 0)), "the ring has it still");
        let committed = MovesReport { committed: 1, ..left(0, 0) };
        assert!(!is_done(MemberState::Draining, committed), "the new owner has not answered");
    }
}
