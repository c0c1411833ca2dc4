//! What the logs say of each move: who may be disconnected, and what the killed process was about.

use std::{collections::BTreeMap, fmt::Write as _, fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use ringsteer::ring::Ring;
use ringsteer_tests::{fleet::Fleet, lab::Process};

use super::{
    LIMIT,
    crowd::Crowd,
    plan::{NODES, Plan},
};

/// What the old owner writes down of a session, step by step.
const STAGES: [&str; 5] = ["stands still", "is held for", "is offered to", "is given to", "is sent on"];

/// The logs of the gateways from the beginning of a round, and what they were about.
pub struct Trail {
    /// The gateway that was killed, if it was one.
    killed: Option<usize>,
    /// What that life of it is called by the others.
    called: String,
    old: usize,
    /// Where each connection was when the ring changed.
    homes: BTreeMap<SocketAddr, usize>,
    logs: Vec<(PathBuf, usize)>,
    /// The log of the old owner's agent.
    agent_log: (PathBuf, usize),
    a_hold_was_forgotten: bool,
    /// What the old owner had written down when it, or somebody else, was killed.
    at_death: String,
    texts: Vec<String>,
}

/// What a log has had added since.
fn since((path, from): &(PathBuf, usize)) -> Result<String> {
    let bytes = fs::read(path)?;
    Ok(String::from_utf8_lossy(bytes.get(*from..).unwrap_or_default()).into_owned())
}

// === impl Trail ===

impl Trail {
    pub fn begin(fleet: &Fleet<'_>, plan: &Plan, ring: &Ring, crowd: &Crowd) -> Result<Self> {
        let killed = plan.victim.is_gateway().then(|| {
            let victim = plan.victim(fleet).pid();
            (0..NODES).find(|&node| fleet.gateways[node].pid() == victim).expect("it is one of them")
        });
        let called = match killed {
            Some(node) => {
                let line = fleet.gateways[node].wait_for_log_line("in moves this gateway is", LIMIT)?;
                line.rsplit(' ').next().context("a line has words")?.to_owned()
            }
            None => String::new(),
        };
        let end_of_log = |process: &Process| {
            let path = process.log_path().to_owned();
            let length = fs::metadata(&path)?.len() as usize;
            anyhow::Ok((path, length))
        };
        let logs = fleet.gateways.iter().map(end_of_log);
        let homes = (0..NODES).flat_map(|node| crowd.clients_of(ring, node).into_iter().map(move |one| (one, node)));
        Ok(Self {
            killed,
            called,
            old: plan.old,
            homes: homes.collect(),
            logs: logs.collect::<Result<_>>()?,
            agent_log: end_of_log(&fleet.agents[plan.old])?,
            a_hold_was_forgotten: false,
            at_death: String::new(),
            texts: Vec::new(),
        })
    }

    /// Somebody has been killed just now.
    pub fn killed(&mut self) -> Result<()> {
        self.at_death = since(&self.logs[self.old])?;
        Ok(())
    }

    /// All is over.
    pub fn end(&mut self) -> Result<()> {
        self.texts = self.logs.iter().map(since).collect::<Result<_>>()?;
        self.a_hold_was_forgotten = since(&self.agent_log)?.contains("the hold ends");
        Ok(())
    }

    /// Whether that connection may have ended: its session was at the gateway that was killed, which had not given it to
    /// another, or it had been given to that one. (A hold that was over before it was claimed is lost, too; on a machine
    /// that takes ten seconds for that.)
    pub fn may_end(&self, client: SocketAddr) -> bool {
        let Some(killed) = self.killed else { return false };
        let given_to_it = format!("{client}: is given to {} ", self.called);
        if self.texts.iter().any(|text| text.contains(&given_to_it)) {
            return true;
        }
        let is_said = |what: &str| self.texts[killed].contains(&format!("{client}: {what}"));
        let given = is_said("is given to") && !self.a_hold_was_forgotten;
        self.homes.get(&client) == Some(&killed) && !given && !is_said("what comes for it is sent on")
    }

    /// What the old owner's sessions had come to, for people.
    pub fn told(&self) -> String {
        let mut stages: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        for line in self.at_death.lines() {
            for (stage, text) in STAGES.iter().enumerate() {
                let client = line
                    .find(text)
                    .and_then(|_| line.split(": ").find_map(|part| part.rsplit(' ').next()?.parse().ok()));
                if let Some(client) = client {
                    let known = stages.entry(client).or_default();
                    *known = (*known).max(stage);
                }
            }
        }
        let mut told = "when it was killed".to_owned();
        for (stage, text) in STAGES.iter().enumerate() {
            let count = stages.values().filter(|&&known| known == stage).count();
            write!(told, ", {count} {}", text.trim_end_matches(" to").trim_end_matches(" for"))
                .expect("a string takes it");
        }
        told
    }
}
