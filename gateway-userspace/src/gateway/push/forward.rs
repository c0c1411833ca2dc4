//! Asking other gateways to push, and being asked.

use std::{sync::Weak, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Push, lock};
use crate::{
    gateway::Shared,
    peer::gateways::{AskError, Handlers, Peer, Question, Subject},
    push::{
        Outcome,
        round::{Wanted, Went},
    },
    ring::{NodeAddress, RingName},
    session::message::{Message, Parcel},
};

/// Users of one batch, in bytes of their names; with the largest message it fits into its lane.
pub(super) const MAX_NAMES: usize = 512 << 10;

/// A push to users whose sessions the asked node may have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) id: String,
    pub(super) users: Vec<Wanted>,
    pub(super) message: Parcel,
    pub(super) via: Vec<NodeAddress>,
    pub(super) hops: u8,
    pub(super) patience_ms: u32,
}

/// What became of it, in the order of the users.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) outcomes: Vec<Outcome>,
    /// By user: sessions that went elsewhere, for whoever asks to follow; none for users who are not in it.
    pub(super) went: Vec<Vec<Went>>,
    /// The ring by which all sessions of the answering node are its own, if they are.
    pub(super) settled: Option<RingName>,
}

impl Question for Batch {
    const SUBJECT: Subject = Subject::PUSH;
    type Answer = Answer;
}

/// Has the pushes of other gateways carried out.
pub(super) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    let shared = Weak::clone(shared);
    handlers.answer(move |peer: &Peer, batch: Batch| {
        let users = batch.users.len();
        let begun = shared.upgrade().map(|shared| {
            tracing::debug!("{} asks to push to {users} users", peer.node);
            shared.counters.push_received(users);
            let push = Push {
                id: Some(batch.id),
                users: batch.users,
                message: Message::from(batch.message),
                // Whoever asks has been asked, whether it says so or not.
                via: if batch.via.contains(&peer.node) { batch.via } else { [&batch.via[..], &[peer.node]].concat() },
                hops: batch.hops,
                patience: Duration::from_millis(batch.patience_ms.into()),
            };
            (shared.push(push), shared)
        });
        async move {
            match begun {
                Some((pushing, shared)) => {
                    let (outcomes, went) = pushing.outcomes_and_went().await;
                    let settled = shared.published().and_then(|published| shared.settled(&published));
                    Answer { outcomes, went, settled }
                }
                // The gateway is no more.
                None => Answer { outcomes: vec![Outcome::Unknown; users], went: vec![], settled: None },
            }
        }
    });
}

impl Shared {
    /// Asks a node. None if it gave no answer, and asking again may help.
    pub(super) async fn ask_to_push(
        &self,
        node: NodeAddress,
        batch: &Batch,
        patience: Duration,
    ) -> Option<Vec<(Outcome, Vec<Went>)>> {
        let users = batch.users.len();
        match self.links().ask(node, batch, patience).await {
            Ok(Answer { outcomes, went, settled }) if outcomes.len() == users => {
                lock(&self.pushes.unreachable).remove(&node);
                if let Some(ring) = settled {
                    self.has_settled(node, ring);
                }
                Some(outcomes.into_iter().zip(went.into_iter().chain(std::iter::repeat(vec![]))).collect())
            }
            Ok(_) => {
                tracing::warn!("{node} answers for other users than it was asked for");
                None
            }
            Err(error) => {
                tracing::debug!("{node} cannot be asked to push: {error}");
                (error == AskError::NoLink && self.has_gone(node)).then(|| vec![(Outcome::Offline, vec![]); users])
            }
        }
    }

    /// Whether a node that cannot be reached is known to have no sessions: it is no member any more, and it has been out
    /// of reach for a while. Its clients have been told by then, or their connections are dead.
    pub(super) fn has_gone(&self, node: NodeAddress) -> bool {
        let published = self.published();
        let is_member = self.pushes.rings(published.as_ref(), |rings| rings.is_member(node));
        let mut unreachable = lock(&self.pushes.unreachable);
        let since = unreachable.entry(node).or_insert_with(std::time::Instant::now);
        !is_member && since.elapsed() >= super::GONE_AFTER
    }
}
