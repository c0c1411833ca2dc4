//! Connections whose gateway has ended while it was giving them to another node.
//!
//! The other node's gateway knows for certain that it has ended: the kernel has said so. Its own agent asks the one that
//! holds them, and that one says for the gateway that is no more what only the latter could have said: that they have
//! moved. What has been released since, or is held for another move, it does not give. When the other node has claimed all
//! that it has, whatever else was held for it is nobody's: those holds end at once, and the clients are told.

use anyhow::{Result, ensure};
use ringsteer_ebpf::layout::moves::Move;
use tracing::debug;

use super::{member, not_too_many};
use crate::{
    agent::shared::{Agent, lock},
    control::{Claim, FlowMove, MoveOutcome, MoveStep, Moves, Promise},
    peer::message::{Answer, Question},
    ring::{MemberNumber, NodeAddress},
};

impl Agent {
    /// Asks the agent of another node for connections that were on their way here.
    ///
    /// # Errors
    /// If it cannot be asked now.
    pub(in crate::agent) async fn claim(
        &self,
        Claim { from, flows, last_of }: Claim,
    ) -> Result<Vec<MoveOutcome>, String> {
        not_too_many(&flows).map_err(|refusal| refusal.to_string())?;
        let in_force = self.in_force();
        // It may have left the ring in the meantime.
        let before = in_force.previous.as_ref().and_then(|ring| ring.member(from));
        let holder = member(&in_force, from).or(before.map(|member| member.address));
        let (Some(holder), Some(to)) = (holder, in_force.number) else {
            return Ok(vec![MoveOutcome::NoMember; flows.len()]);
        };
        let address = member(&in_force, to).ok_or("this node is no member")?;
        let network = self.network.get().ok_or("the links are not up yet")?;
        let count = flows.len();
        match network.ask(holder, Question::Claim { to, address, flows, last_of }).await? {
            Answer::Claimed(outcomes) if outcomes.len() == count => Ok(outcomes),
            Answer::Error(error) => Err(error),
            _ => Err("it answers something else".into()),
        }
    }

    /// Another node claims connections that this node's gateway was giving to it when it ended. Blocks.
    ///
    /// # Errors
    /// If this node does not know that member, or there are too many connections in it.
    pub(in crate::agent) fn judge_claim(
        &self,
        to: MemberNumber,
        address: NodeAddress,
        flows: Vec<FlowMove>,
        last_of: Option<u64>,
    ) -> Result<Vec<MoveOutcome>> {
        let known = member(&self.in_force(), to) == Some(address);
        ensure!(known, "this node's ring has no member {to} at {address}");
        let outcomes = self.moves(&Moves { step: MoveStep::Move { to }, flows, promise: None })?;
        if let Some(by) = last_of {
            self.abandon(Promise { to, by })?;
        }
        Ok(outcomes)
    }

    /// Ends the holds of a gateway that has ended for a node that wants nothing more of it.
    fn abandon(&self, promise: Promise) -> Result<()> {
        let maps = &mut *lock(&self.moving.maps);
        let mut abandoned = 0;
        for (key, count) in lock(&self.moving.promised).take(promise) {
            let is_held = |entry: &Move| entry.node == 0 && entry.count == u32::from(count);
            if maps.get(&key)?.as_ref().is_some_and(is_held) {
                maps.remove(&key)?;
                abandoned += 1;
            }
        }
        if abandoned > 0 {
            self.counters.holds_abandoned.add(abandoned);
            debug!(
                "{abandoned} connections were held for member {}, which does not have them; the holds end",
                promise.to
            );
            self.release(maps);
        }
        Ok(())
    }
}
