//! Rings that send sessions from node to node: in each, some nodes own users and the others drain.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ringsteer::ring::{Epoch, MemberState, Ring};

use crate::{fleet::Fleet, status::has};

/// How long the sessions may take to be where they belong.
const LIMIT: Duration = Duration::from_secs(60);

/// A ring of the same members, of which those alone own users; the others drain.
///
/// # Errors
/// If none of them would own users.
pub fn owned_by(ring: &Ring, epoch: u64, active: &[usize]) -> Result<Ring> {
    let mut members = ring.members().to_vec();
    for (index, member) in members.iter_mut().enumerate() {
        member.state = if active.contains(&index) { MemberState::Active } else { MemberState::Draining };
    }
    Ok(Ring::new(Epoch(epoch), ring.algorithm(), members)?)
}

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
        self.current = owned_by(&self.current, self.current.epoch().0 + 1, active)?;
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
            let wanted = has(&self.current, owned.len() as u64);
            loop {
                let status = self.fleet.status(node).await;
                if status.as_ref().is_ok_and(&wanted) {
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
