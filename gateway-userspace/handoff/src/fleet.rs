//! What is known of the other gateways: who lives, who follows which ring, who has settled; and what they know of us.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    limits::Limits,
    message::State,
    name::{Epoch, Gateway, Incarnation, NodeId},
};

/// The gateways of the fleet, as this one knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fleet {
    me: Gateway,
    epoch: Epoch,
    /// When we learned of that ring.
    since: Duration,
    in_force: bool,
    peers: BTreeMap<NodeId, Peer>,
}

/// Another node's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    /// Whether the ring has it.
    member: bool,
    life: Life,
    /// The latest life we know of.
    incarnation: Option<Incarnation>,
    /// How that one is; none if we do not know how it is now.
    state: Option<State>,
    /// The highest number of a state heard from that life.
    number: u64,
    /// Our ring as it has heard of it.
    echoed: Epoch,
    /// What we have said to it over this link.
    said: Option<State>,
    /// The highest number that we have given to that life.
    spoken: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    /// There is a link.
    Up,
    /// There is none, since then.
    Down(Duration),
    /// Nobody is there, for certain.
    Ended,
}

/// Whether a gateway must be asked before a user is called offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has told us that it has no session but of its own users.
    Settled(Gateway),
    /// It may have any.
    Unsettled(Gateway),
    /// It may have any, and cannot be asked now.
    OutOfReach,
    /// It has none.
    Nobody,
}

// === impl Fleet ===

impl Fleet {
    pub(crate) fn new(me: Gateway, now: Duration) -> Self {
        Self { me, epoch: Epoch(0), since: now, in_force: false, peers: BTreeMap::new() }
    }

    pub(crate) fn me(&self) -> Gateway {
        self.me
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn in_force(&self) -> bool {
        self.in_force
    }

    /// A ring has taken the place of another.
    pub(crate) fn ring(&mut self, epoch: Epoch, members: &[NodeId], now: Duration) {
        self.epoch = epoch;
        self.since = now;
        self.in_force = false;
        for peer in self.peers.values_mut() {
            peer.member = false;
        }
        for &node in members.iter().filter(|&&node| node != self.me.node) {
            self.peers.entry(node).or_insert_with(|| Peer::unknown(now)).member = true;
        }
    }

    pub(crate) fn up(&mut self, gateway: Gateway, now: Duration) {
        let peer = self.peers.entry(gateway.node).or_insert_with(|| Peer::unknown(now));
        if peer.incarnation != Some(gateway.incarnation) {
            *peer = Peer { member: peer.member, incarnation: Some(gateway.incarnation), ..Peer::unknown(now) };
        }
        peer.life = Life::Up;
        peer.said = None;
    }

    pub(crate) fn down(&mut self, node: NodeId, now: Duration) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        // How it is we do not know any more: it may change its ring without our hearing of it.
        peer.state = None;
        if peer.life == Life::Up {
            peer.life = Life::Down(now);
        }
    }

    pub(crate) fn ended(&mut self, gateway: Gateway) {
        if let Some(peer) = self.peers.get_mut(&gateway.node)
            && peer.incarnation.is_none_or(|incarnation| incarnation == gateway.incarnation)
        {
            *peer = Peer { member: peer.member, life: Life::Ended, ..Peer::unknown(Duration::ZERO) };
        }
    }

    /// A gateway says how it is. False if that is old, or there is no such gateway any more.
    pub(crate) fn state(&mut self, from: Gateway, state: &State) -> bool {
        let Some(peer) = self.peers.get_mut(&from.node) else { return false };
        if peer.incarnation != Some(from.incarnation) || peer.life != Life::Up || state.number < peer.number {
            return false;
        }
        peer.number = state.number;
        peer.echoed = peer.echoed.max(state.heard);
        peer.state = Some(state.clone());
        true
    }

    /// Whether the ring has just come into force.
    pub(crate) fn comes_into_force(&mut self, now: Duration, limits: &Limits) -> bool {
        if self.in_force || self.epoch == Epoch(0) {
            return false;
        }
        let (epoch, since) = (self.epoch, self.since);
        self.in_force = self.peers.values().all(|peer| match peer.life {
            Life::Up => peer.echoed >= epoch,
            Life::Down(down) => peer.echoed >= epoch || now >= since.max(down) + limits.force_limit || !peer.matters(),
            Life::Ended => true,
        });
        self.in_force
    }

    /// That gateway, if it is there.
    pub(crate) fn reachable(&self, node: NodeId) -> Option<Gateway> {
        let peer = self.peers.get(&node)?;
        let incarnation = peer.incarnation?;
        (peer.life == Life::Up).then_some(Gateway { node, incarnation })
    }

    /// Whether that gateway lives, as far as we know.
    pub(crate) fn knows(&self, gateway: Gateway) -> bool {
        self.peers.get(&gateway.node).is_some_and(|peer| peer.incarnation == Some(gateway.incarnation))
    }

    /// That gateway, if it takes offers by our ring.
    pub(crate) fn taking(&self, node: NodeId) -> Option<Gateway> {
        let state = self.peers.get(&node)?.state.as_ref()?;
        (state.epoch == self.epoch && state.in_force).then(|| self.reachable(node)).flatten()
    }

    /// Everybody else, and whether they must be asked.
    pub(crate) fn standings(&self, now: Duration, limits: &Limits) -> impl Iterator<Item = (NodeId, Standing)> {
        self.peers.keys().map(move |&node| (node, self.standing(node, now, limits)))
    }

    /// Whether that node must be asked.
    pub(crate) fn standing(&self, node: NodeId, now: Duration, limits: &Limits) -> Standing {
        let Some(peer) = self.peers.get(&node) else { return Standing::Nobody };
        match (peer.life, peer.incarnation) {
            (Life::Up, Some(incarnation)) => {
                let gateway = Gateway { node, incarnation };
                match &peer.state {
                    Some(state) if state.settled && state.epoch == self.epoch => Standing::Settled(gateway),
                    _ => Standing::Unsettled(gateway),
                }
            }
            (Life::Ended, _) => Standing::Nobody,
            (Life::Down(since), _) if now >= since + limits.unreachable_limit || !peer.matters() => Standing::Nobody,
            _ => Standing::OutOfReach,
        }
    }

    /// What is to be said to whom: where something has changed, or to all. `settled` is how we are.
    pub(crate) fn announce(&mut self, settled: bool, all: bool) -> Vec<(Gateway, State)> {
        let (epoch, in_force) = (self.epoch, self.in_force);
        let mut due = Vec::new();
        for (&node, peer) in &mut self.peers {
            let (Life::Up, Some(incarnation)) = (peer.life, peer.incarnation) else { continue };
            let heard = peer.state.as_ref().map_or(Epoch(0), |state| state.epoch);
            let mut state = State { epoch, in_force, settled, heard, number: peer.spoken };
            match &peer.said {
                Some(said) if *said == state => {
                    if !all {
                        continue;
                    }
                }
                _ => state.number += 1,
            }
            peer.spoken = state.number;
            peer.said = Some(state.clone());
            due.push((Gateway { node, incarnation }, state));
        }
        due
    }
}

// === impl Peer ===

impl Peer {
    fn unknown(now: Duration) -> Self {
        Self {
            member: false,
            life: Life::Down(now),
            incarnation: None,
            state: None,
            number: 0,
            echoed: Epoch(0),
            said: None,
            spoken: 0,
        }
    }

    /// Whether it may have sessions, as far as we know.
    fn matters(&self) -> bool {
        self.member || self.incarnation.is_some()
    }
}
