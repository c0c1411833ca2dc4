//! A gateway or an agent is killed (SIGKILL) in the middle of the moves that follow a ring change, at each step of a move,
//! and started again. Sessions of gateways that live are alive, the others got a clean end; no push is called delivered
//! that was not; nothing is left behind. Keeps promise 3.
//!
//! | file | subject |
//! |---|---|
//! | `plan` | who is killed at which step, and what moves; from a seed |
//! | `crowd` | users who talk and are pushed to, what they keep account of, and what must be true of it |
//! | `trail` | what the logs say of each move: who may be disconnected, and what the killed process was about |
//! | `remains` | what must not be left: flows, holds, sockets, sessions in motion |
//!
//! `RINGSTEER_SEED=<seed>` replays a round, `RINGSTEER_CHAOS=<count>` runs so many from there, or from 0. Seeds go through
//! all victims at all steps: 45 in a row are each of these once.

mod crowd;
mod plan;
mod remains;
mod trail;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{config::Mode, ring::Ring};
use ringsteer_tests::{
    fleet::{Fleet, Options},
    lab::{Family, Lab, LogMark, Process},
    on_each_family_and_in_each_mode,
    rounds::owned_by,
    seed,
    status::{follows, has},
};

use self::{
    crowd::Crowd,
    plan::{NODES, Plan},
    trail::Trail,
};

on_each_family_and_in_each_mode!(whoever_is_killed_in_the_middle_of_moves_nobody_else_notices);

/// The rounds of an ordinary run: every victim, and most steps.
const SEEDS: [u64; 5] = [0, 11, 22, 33, 44];

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at something that nobody tells.
const LOOK: Duration = Duration::from_millis(20);

/// Flows of connections that are over are forgotten after so many seconds of silence. Users are never silent so long.
const FLOW_IDLE_S: &str = "20";

/// A debug log of what moves come to.
const LOG: &str = "info,ringsteer::handoff=debug,ringsteer::agent::moves=debug";

/// A fleet, for one round after the other.
struct Scene<'lab> {
    fleet: Fleet<'lab>,
    mode: Mode,
    ring: Ring,
}

impl Scene<'_> {
    /// Gives everybody another ring, in which these nodes own users.
    fn next_ring(&mut self, active: &[usize]) -> Result<()> {
        self.ring = owned_by(&self.ring, self.ring.epoch().0 + 1, active)?;
        self.fleet.give_ring_to_all(&self.ring)
    }

    /// Waits until agents and gateways of all nodes follow it.
    fn all_follow(&self) -> Result<()> {
        self.fleet.lab.router().block_on(async {
            for node in 0..NODES {
                self.fleet.wait_for_status(node, follows(&self.ring)).await?;
            }
            Ok(())
        })
    }

    /// Waits until every session is at its owner, and there are no others.
    fn all_arrive(&self, crowd: &Crowd) -> Result<()> {
        let since = Instant::now();
        for node in 0..NODES {
            let wanted = crowd.owned(&self.ring, node);
            loop {
                crowd.nobody_has_failed()?;
                let status = self.fleet.lab.router().block_on(self.fleet.status(node));
                if status.as_ref().is_ok_and(has(&self.ring, wanted)) {
                    break;
                }
                let gateways = || status.as_ref().map(|status| &status.gateways);
                ensure!(since.elapsed() < 2 * LIMIT, "node {node} should have {wanted}, and has {:?}", gateways());
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    fn round(&mut self, seed: u64) -> Result<()> {
        println!("seed {seed}: replay with {}={seed}", seed::VARIABLE);
        let plan = Plan::of(seed);
        self.next_ring(&plan.before)?;
        self.all_follow()?;
        let names = plan.names(&self.fleet.ring, &self.ring, seed)?;
        let crowd = Crowd::gather(&self.fleet, names)?;
        let outcome = self.disturb(&plan, &crowd);
        let dispersed = crowd.disperse(&self.fleet);
        let trail = outcome.with_context(|| format!("{plan:?}"))?;
        dispersed.with_context(|| format!("{plan:?}"))?;
        let account = crowd.judge(&trail).with_context(|| format!("{plan:?}"))?;
        println!("{plan:?}: {}; {account}", trail.told());
        Ok(())
    }

    /// The ring changes, somebody is killed, and everything comes to rest again.
    fn disturb(&mut self, plan: &Plan, crowd: &Crowd) -> Result<Trail> {
        let mut trail = Trail::begin(&self.fleet, plan, &self.ring, crowd)?;
        let (watched, text) = plan.seen_at(&self.fleet);
        let (watched, mark) = (watched.clone(), watched.log_mark());
        self.next_ring(&plan.after)?;
        wait_for_nth(&watched, mark, text, plan.nth)?;
        let victim = plan.victim(&self.fleet);
        victim.kill()?;
        trail.killed()?;
        if plan.late {
            remains::wait_for_the_rest(&self.fleet, plan)?;
        }
        victim.restart()?;
        let ready = if plan.victim.is_gateway() { "following ring" } else { "steering" };
        victim.wait_for_log_line(ready, LIMIT)?;
        self.all_arrive(crowd)?;
        crowd.talk_goes_on()?;
        remains::none(&self.fleet, self.mode, &self.ring, crowd)?;
        trail.end()?;
        Ok(trail)
    }
}

/// Waits until so many lines with `text` have been written since `mark`.
fn wait_for_nth(process: &Process, mark: LogMark, text: &str, nth: usize) -> Result<()> {
    let seen = std::cell::Cell::new(0);
    let is_it = |line: &str| {
        seen.set(seen.get() + usize::from(line.contains(text)));
        seen.get() >= nth
    };
    process.wait_for_log(mark, LIMIT, is_it).with_context(|| format!("waiting for {text:?}, {nth} times"))?;
    Ok(())
}

fn whoever_is_killed_in_the_middle_of_moves_nobody_else_notices(family: Family, mode: Mode) -> Result<()> {
    let count = std::env::var("RINGSTEER_CHAOS").ok().map(|count| count.parse::<u64>()).transpose()?;
    let replayed = std::env::var_os(seed::VARIABLE).map(|_| seed::from_environment());
    let seeds: Vec<u64> = match (replayed, count) {
        (None, None) => SEEDS.to_vec(),
        (first, count) => (0..count.unwrap_or(1)).map(|index| first.unwrap_or(0).wrapping_add(index)).collect(),
    };
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let options = Options {
        ring_file: true,
        environment: vec![("RINGSTEER_NODE_FLOW_IDLE_S", FLOW_IDLE_S.into())],
        log: Some(LOG),
        ..Options::in_mode(family, mode)
    };
    let fleet = Fleet::start(&lab, &options)?;
    let mut scene = Scene { ring: fleet.ring.clone(), mode, fleet };
    for &seed in &seeds {
        scene.round(seed).with_context(|| format!("{}={seed} replays this", seed::VARIABLE))?;
    }
    remains::nothing_on_the_way(&scene.fleet)?;
    remains::no_flows(&scene.fleet)
}
