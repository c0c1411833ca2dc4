//! What gateways say about moves, as it travels over their links.

use std::sync::Arc;

use ringsteer_handoff::{message::Message, name::Incarnation};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;

use super::misheard::Misheard;
use crate::peer::gateways::{Handlers, Lane, Notice, Peer, Subject};

/// A message of ours: a session at rest is bytes, and pushes do not come this way.
pub(super) type Said = Message<ByteBuf, ()>;

/// A message that was heard.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) from: Peer,
    /// To which life of this node's gateway.
    pub(super) to: Incarnation,
    pub(super) message: Said,
}

/// An offer: a session may be long.
#[derive(Serialize, Deserialize)]
pub(super) struct Offered(pub(super) Envelope);

/// Anything else.
#[derive(Serialize, Deserialize)]
pub(super) struct Word(pub(super) Envelope);

/// A message, and for whom it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) to: Incarnation,
    /// As [`Message::encode`] makes it.
    #[serde(with = "serde_bytes")]
    pub(super) message: Vec<u8>,
}

impl Notice for Offered {
    const SUBJECT: Subject = Subject(Subject::HANDOFF.0);
    const LANE: Lane = Lane::Bulk;
}

impl Notice for Word {
    const SUBJECT: Subject = Subject(Subject::HANDOFF.0 + 1);
}

/// Has both kinds heard.
pub(super) fn hear(handlers: &mut Handlers, ears: &mpsc::Sender<Heard>, misheard: &Arc<Misheard>) {
    let (sender, counts) = (ears.clone(), Arc::clone(misheard));
    handlers.hear(move |peer: &Peer, Offered(envelope)| pass_on(peer, &envelope, &sender, &counts));
    let (sender, counts) = (ears.clone(), Arc::clone(misheard));
    handlers.hear(move |peer: &Peer, Word(envelope)| pass_on(peer, &envelope, &sender, &counts));
}

fn pass_on(from: &Peer, envelope: &Envelope, ears: &mpsc::Sender<Heard>, misheard: &Misheard) {
    match Said::decode(&envelope.message) {
        Ok(message) => {
            let heard = Heard { from: from.clone(), to: envelope.to, message };
            if ears.try_send(heard).is_err() {
                misheard.crowded();
            }
        }
        Err(error) => {
            misheard.malformed();
            tracing::warn!("{} says something about moves that is not understood: {error}", from.node);
        }
    }
}
