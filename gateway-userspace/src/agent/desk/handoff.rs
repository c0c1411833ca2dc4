//! How sessions move from node to node: asks the gateways, this node's over the control socket and the others' over the
//! links, and passes on what operators want of them.

use anyhow::{Context as _, Result, anyhow};
use futures_util::future::join_all;

use crate::{
    agent::shared::Agent,
    control::{MovesReport, NodeMoves, Order},
    peer::message::{Answer, Question},
    ring::{Member, MemberNumber, MemberState, Ring},
};

impl Agent {
    /// How the moves go at a member, or at all of them, after `order` has been obeyed.
    ///
    /// # Errors
    /// If there is no such member, or no ring.
    pub(in crate::agent) async fn handoff(
        &self,
        node: Option<MemberNumber>,
        order: Option<Order>,
    ) -> Result<Vec<NodeMoves>> {
        let ring = self.in_force().ring.clone().context("there is no ring yet, and nothing moves")?;
        let asked = match node {
            Some(number) => vec![member(&ring, number)?.clone()],
            None => ring.members().to_vec(),
        };
        Ok(join_all(asked.iter().map(|member| self.moves_at(member, order))).await)
    }

    /// Has a member announce itself in another state, or this node if none is named.
    ///
    /// # Errors
    /// If there is no such member, it does not answer, or it refuses.
    pub(in crate::agent) async fn announce_at(
        &self,
        node: Option<MemberNumber>,
        state: MemberState,
    ) -> Result<MemberState> {
        let in_force = self.in_force();
        let Some(number) = node.filter(|&number| in_force.number != Some(number)) else { return self.announce(state) };
        let ring = in_force.ring.as_ref().context("there is no ring yet, and so no other node")?;
        let member = member(ring, number)?;
        match self.ask_other(member, Question::Announce { state }).await {
            Ok(Answer::Announced { state }) => Ok(state),
            Ok(_) => Err(anyhow!("{} answers something else", member.identity)),
            Err(error) => Err(anyhow!("{}: {error}", member.identity)),
        }
    }

    async fn moves_at(&self, member: &Member, order: Option<Order>) -> NodeMoves {
        let here = self.in_force().number == Some(member.number);
        let moves: Result<MovesReport, String> = if here {
            self.gateways.moves(order).await
        } else {
            self.ask_other(member, Question::Moves { order }).await.and_then(|answer| match answer {
                Answer::Moves(moves) => Ok(moves),
                _ => Err("it answers something else".into()),
            })
        };
        let (moves, error) = match moves {
            Ok(moves) => (Some(moves), None),
            Err(error) => (None, Some(error)),
        };
        NodeMoves { number: member.number, name: member.identity.to_string(), state: member.state, here, moves, error }
    }

    /// Asks the agent of another node; what it refuses is an error.
    async fn ask_other(&self, member: &Member, question: Question) -> Result<Answer, String> {
        let network = self.network.get().ok_or("the links are not up yet")?;
        match network.ask(member.address, question).await? {
            Answer::Error(error) => Err(error),
            answer => Ok(answer),
        }
    }
}

/// The member of that number.
fn member(ring: &Ring, number: MemberNumber) -> Result<&Member> {
    let found = ring.members().iter().find(|member| member.number == number);
    found.with_context(|| format!("the ring has no member {number}; `ringsteer nodes` lists those it has"))
}
