//! Which gateways there are, and what is said to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ringsteer_handoff::{
    Event,
    name::{Gateway, Incarnation, NodeId},
};
use tokio::sync::mpsc;

use super::word::{Envelope, Offered, Said, Word};
use crate::{
    control::Published,
    peer::gateways::{Incarnation as Process, Links, Lives, To},
    ring::{NodeAddress, Ring},
};

/// Words that may wait to be sent to one gateway. What is too much is dropped, and said again.
const WORDS_AHEAD: usize = 4096;

/// The other gateways as the links know them, and their names in the core.
#[derive(Debug)]
pub(super) struct Fleet {
    links: Links,
    /// Nodes of the present ring and of the one before.
    nodes: BTreeMap<NodeAddress, NodeId>,
    known: HashMap<NodeId, Known>,
}

#[derive(Debug)]
struct Known {
    address: NodeAddress,
    process: Process,
    up: bool,
    ended: bool,
    words: mpsc::Sender<Said>,
}

// === impl Fleet ===

impl Fleet {
    pub(super) fn new(links: Links) -> Self {
        Self { links, nodes: BTreeMap::new(), known: HashMap::new() }
    }

    /// Takes in who is who.
    pub(super) fn follow(&mut self, published: &Published) {
        let rings = [published.previous.as_ref(), Some(&published.ring)];
        for member in rings.into_iter().flatten().flat_map(Ring::members) {
            self.nodes.insert(member.address, NodeId(member.number.get()));
        }
    }

    /// The gateway that a peer is.
    pub(super) fn gateway(&self, address: NodeAddress, process: Process) -> Option<Gateway> {
        self.nodes.get(&address).map(|&node| Gateway { node, incarnation: name(process) })
    }

    /// What has changed about lives and links, for the core.
    pub(super) fn look<D, P>(&mut self, lives: &Lives) -> Vec<Event<D, P>> {
        let mut events = Vec::new();
        for (&address, &node) in &self.nodes {
            let Some(life) = lives.of(address) else { continue };
            let up = life.links > 0;
            if let Some(known) = self.known.get(&node)
                && known.process != life.incarnation
            {
                if !known.ended {
                    events.push(Event::PeerEnded { peer: known.gateway(node) });
                }
                self.known.remove(&node);
            }
            let known = self.known.entry(node).or_insert_with(|| {
                let (words, spoken) = mpsc::channel(WORDS_AHEAD);
                tokio::spawn(speak(self.links.clone(), address, life.incarnation, spoken));
                Known { address, process: life.incarnation, up: false, ended: false, words }
            });
            if life.refused && !up && !known.ended {
                known.ended = true;
                known.up = false;
                events.push(Event::PeerEnded { peer: known.gateway(node) });
            } else if up && (!known.up || known.ended) {
                known.up = true;
                known.ended = false;
                events.push(Event::PeerUp { peer: known.gateway(node) });
            } else if !up && known.up {
                known.up = false;
                events.push(Event::PeerDown { node });
            }
        }
        events
    }

    /// Says something to a gateway, if it is still that one.
    pub(super) fn say(&self, to: Gateway, message: Said) {
        if let Some(known) = self.known.get(&to.node)
            && name(known.process) == to.incarnation
        {
            // Too much under way: whatever is not answered is said again.
            let _ = known.words.try_send(message);
        }
    }

    /// Whether that node's gateway has ended, and no other has been heard there yet. One without a link may be about to have
    /// one, as after a ring that has just brought it.
    pub(super) fn has_ended(&self, node: NodeId) -> bool {
        self.known.get(&node).is_some_and(|known| known.ended)
    }

    /// The address of a node, for people.
    pub(super) fn address(&self, node: NodeId) -> Option<NodeAddress> {
        self.known.get(&node).map(|known| known.address)
    }
}

// === impl Known ===

impl Known {
    fn gateway(&self, node: NodeId) -> Gateway {
        Gateway { node, incarnation: name(self.process) }
    }
}

/// What a process is called in the core.
pub(super) fn name(process: Process) -> Incarnation {
    Incarnation(process.number)
}

/// Sends what is said to one process, in order, until nobody says anything any more.
async fn speak(links: Links, node: NodeAddress, process: Process, mut words: mpsc::Receiver<Said>) {
    let to = To { node, incarnation: Some(process) };
    while let Some(message) = words.recv().await {
        let is_offer = matches!(message, Said::Offer(_));
        let Some(bytes) = message.encode() else {
            tracing::warn!("a session is too large to be moved to {node}");
            continue;
        };
        let envelope = Envelope { to: name(process), message: bytes };
        let told = match is_offer {
            true => links.tell(to, &Offered(envelope)).await,
            false => links.tell(to, &Word(envelope)).await,
        };
        if let Err(error) = told {
            tracing::debug!("{node} could not be told something about moves: {error}");
        }
    }
}

/// The members of a ring, as the core wants them.
pub(super) fn members(published: &Arc<Published>) -> Vec<NodeId> {
    published.ring.members().iter().map(|member| NodeId(member.number.get())).collect()
}
