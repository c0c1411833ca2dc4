//! Rings that send sessions from node to node: in each, some nodes own users and the others drain.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ringsteer::{
    control::{GatewayReport, Status},
    ring::{Epoch, MemberState, Ring},
};

use crate::fleet::Fleet;

/// How long the sessions may take to be where they belong.
const LIMIT: Duration = Duration::from_secs(60);

/// The rings of a fleet, one after the other. The fleet has to be one with all nodes in its ring, and all started.
pub struct Rounds<'a, 'lab> {
    fleet: &'a Fleet<'lab>,
    current: Ring,
}

impl<'a, 'lab> Rounds<'a, 'lab> {
    /// Begins with the ring that the fleet has.
    pub fn of(fleet: &'a Fleet<'lab>) -> Self {
        Self { fleet, current: fleet.ring.clone() }
    }

    /// The ring of now.
    pub fn current(&self) -> &Ring {
        &self.current
    }

    /// Gives all nodes the next ring, in which these nodes own users.
    ///
    /// # Errors
    /// If it cannot be given, or none of them would.
    pub fn next(&mut self, active: &[usize]) -> Result<()> {
        let mut members = self.current.members().to_vec();
        for (index, member) in members.iter_mut().enumerate() {
            member.state = if active.contains(&index) { MemberState::Active } else { MemberState::Draining };
        }
        self.current = Ring::new(Epoch(self.current.epoch().0 + 1), self.current.algorithm(), members)?;
        self.fleet.give_ring_to_all(&self.current)
    }

    /// Waits until each of these users has their session, of which there is one each, at their owner by the ring of now.
    ///
    /// # Errors
    /// If one of them is elsewhere for too long, or nowhere.
    pub async fn settle(&self, users: &[String]) -> Result<()> {
        let since = Instant::now();
        for (node, member) in self.current.members().iter().enumerate() {
            let owned: BTreeSet<_> =
                users.iter().filter(|user| self.current.owner(user.as_bytes()).number == member.number).collect();
            let has = |gateway: &GatewayReport| {
                gateway.report.ring == Some(self.current.name()) && gateway.report.sessions == owned.len() as u64
            };
            let wanted = |status: &Status| !status.gateways.is_empty() && status.gateways.iter().all(has);
            loop {
                let status = self.fleet.status(node).await;
                if status.as_ref().is_ok_and(wanted) {
                    break;
                }
                if since.elapsed() > LIMIT {
                    let gateways = status.map(|status| status.gateways);
                    bail!("ring {}: node {node} should have {owned:?}, and has {gateways:?}", self.current.epoch());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// Sends these users' sessions to the owners of the next ring, and waits until they are there. Blocks.
    ///
    /// # Errors
    /// As [`next`](Self::next) and [`settle`](Self::settle).
    pub fn send_to(&mut self, active: &[usize], users: &[String]) -> Result<()> {
        self.next(active)?;
        let epoch = self.current.epoch();
        self.fleet.lab.router().block_on(self.settle(users)).with_context(|| format!("to {active:?} by ring {epoch}"))
    }
}
