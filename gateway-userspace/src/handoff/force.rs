//! While a ring spreads: users that it brings here are let in when the others know that it is followed here, and who
//! follows a later ring than this node may have any user's session.

use std::{collections::BTreeMap, time::Duration};

use ringsteer_handoff::name::{Epoch, Gateway, Incarnation, NodeId};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{control::Published, ring::NodeAddress};

/// How rings come into force, for who lets users in and for who looks for them.
#[derive(Clone, Debug)]
pub(super) struct Force {
    /// The ring that is followed, and since when.
    followed: watch::Receiver<(Epoch, Instant)>,
    in_force: watch::Receiver<Epoch>,
    ahead: watch::Receiver<Vec<NodeAddress>>,
}

/// The same, for the task.
#[derive(Debug)]
pub(super) struct Telling {
    followed: watch::Sender<(Epoch, Instant)>,
    in_force: watch::Sender<Epoch>,
    ahead: watch::Sender<Vec<NodeAddress>>,
}

/// Which ring the others have said that they follow.
#[derive(Debug, Default)]
pub(super) struct Epochs(BTreeMap<NodeId, (Incarnation, Epoch)>);

/// Both ends.
pub(super) fn channel() -> (Telling, Force) {
    let (follow, followed) = watch::channel((Epoch(0), Instant::now()));
    let (in_force, seen) = watch::channel(Epoch(0));
    let (ahead, others) = watch::channel(Vec::new());
    (Telling { followed: follow, in_force, ahead }, Force { followed, in_force: seen, ahead: others })
}

// === impl Force ===

impl Force {
    /// Whether all others know that a ring is followed here.
    pub(super) fn has(&self, published: &Published) -> bool {
        self.in_force.borrow().0 >= published.ring.epoch().0
    }

    /// Returns when they do, when the ring has been followed here for `limit`, or when nobody finds out any more.
    pub(super) async fn wait(&mut self, epoch: Epoch, limit: Duration) {
        let (followed, since) = *self.followed.borrow();
        // It may not have been taken in yet.
        let since = if followed >= epoch { since } else { Instant::now() };
        let _ = timeout_at(since + limit, self.in_force.wait_for(|&known| known >= epoch)).await;
    }

    /// Who follows a later ring than this node does.
    pub(super) fn ahead(&self) -> Vec<NodeAddress> {
        self.ahead.borrow().clone()
    }

    /// The same, as it changes.
    pub(super) fn followed_ahead(&self) -> watch::Receiver<Vec<NodeAddress>> {
        self.ahead.clone()
    }
}

// === impl Telling ===

impl Telling {
    /// This ring is followed here from now on.
    pub(super) fn follows(&self, epoch: Epoch) {
        let new = |followed: &mut (Epoch, Instant)| {
            let new = followed.0 != epoch;
            if new {
                *followed = (epoch, Instant::now());
            }
            new
        };
        self.followed.send_if_modified(new);
    }

    /// All others know that this ring is followed here.
    pub(super) fn in_force(&self, epoch: Epoch) {
        self.in_force.send_replace(epoch);
    }

    /// These follow a later one.
    pub(super) fn ahead(&self, nodes: Vec<NodeAddress>) {
        self.ahead.send_if_modified(|known| {
            let new = *known != nodes;
            *known = nodes;
            new
        });
    }
}

// === impl Epochs ===

impl Epochs {
    /// A gateway says which ring it follows.
    pub(super) fn heard(&mut self, from: Gateway, epoch: Epoch) {
        self.0.insert(from.node, (from.incarnation, epoch));
    }

    /// A gateway has ended, and its sessions with it.
    pub(super) fn ended(&mut self, peer: Gateway) {
        if self.0.get(&peer.node).is_some_and(|&(incarnation, _)| incarnation == peer.incarnation) {
            self.0.remove(&peer.node);
        }
    }

    /// Those who follow a later ring.
    pub(super) fn after(&self, epoch: Epoch) -> impl Iterator<Item = NodeId> {
        self.0.iter().filter(move |(_, (_, theirs))| *theirs > epoch).map(|(&node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Nobody waits for a ring that has been there for long, nor for one that all know.
    #[tokio::test]
    async fn a_ring_is_waited_for_until_it_is_known_or_has_been_there_for_long() {
        let hour = Duration::from_secs(3600);
        let (telling, mut force) = channel();
        telling.follows(Epoch(5));
        telling.follows(Epoch(5));
        let since = force.followed.borrow().1;
        force.wait(Epoch(5), Duration::ZERO).await;
        force.wait(Epoch(5), since.elapsed()).await;
        assert_eq!(force.wait(Epoch(5), hour).now_or_never(), None);
        telling.in_force(Epoch(5));
        assert_eq!(force.wait(Epoch(5), hour).now_or_never(), Some(()));
    }

    #[test]
    fn who_follows_a_later_ring_is_ahead_until_it_has_ended_or_we_follow() {
        let gateway = |node, life| Gateway { node: NodeId(node), incarnation: Incarnation(life) };
        let after = |epochs: &Epochs, epoch| epochs.after(Epoch(epoch)).collect::<Vec<_>>();
        let mut epochs = Epochs::default();
        epochs.heard(gateway(2, 1), Epoch(5));
        epochs.heard(gateway(3, 1), Epoch(4));
        assert_eq!(after(&epochs, 4), [NodeId(2)]);
        assert_eq!(after(&epochs, 3), [NodeId(2), NodeId(3)]);
        assert_eq!(after(&epochs, 5), []);
        // A new life, which has not heard of the ring yet, and then the news of the end of the one before.
        epochs.heard(gateway(2, 2), Epoch(4));
        epochs.ended(gateway(2, 1));
        assert_eq!(after(&epochs, 3), [NodeId(2), NodeId(3)]);
        epochs.ended(gateway(2, 2));
        assert_eq!(after(&epochs, 3), [NodeId(3)]);
    }
}
