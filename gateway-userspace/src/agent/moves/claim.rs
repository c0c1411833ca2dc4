//! Connections whose gateway has ended while it was giving them to another node.
//!
//! The other node's gateway knows for certain that it has ended: the kernel has said so. Its own agent asks the one that
//! holds them, and that one says for the gateway that is no more what only the latter could have said: that they have
//! moved. What has been released since, or is held for another move, it does not give.

use anyhow::{Result, ensure};

use super::{member, not_too_many};
use crate::{
    agent::shared::Agent,
    control::{Claim, FlowMove, MoveOutcome, MoveStep, Moves},
    peer::message::{Answer, Question},
    ring::{MemberNumber, NodeAddress},
};

impl Agent {
    /// Asks the agent of another node for connections that were on their way here.
    ///
    /// # Errors
    /// If it cannot be asked now.
    pub(in crate::agent) async fn claim(&self, Claim { from, flows }: Claim) -> Result<Vec<MoveOutcome>, String> {
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
        match network.ask(holder, Question::Claim { to, address, flows }).await? {
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
    ) -> Result<Vec<MoveOutcome>> {
        let known = member(&self.in_force(), to) == Some(address);
        ensure!(known, "this node's ring has no member {to} at {address}");
        self.moves(&Moves { step: MoveStep::Move { to }, flows })
    }
}
