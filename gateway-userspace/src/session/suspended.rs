//! A session at rest: everything but the socket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{application::Application, message::Parcel, table::Card};
use crate::{
    presence::Platforms,
    websocket::decoder::{
        Decoder,
        snapshot::{BadSnapshot, Snapshot},
    },
};

/// A session that was taken apart, to go on here or on another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Whose it is.
    pub user: Vec<u8>,
    /// What others are told of it.
    pub card: Card,
    /// For how long it has existed.
    pub age_ms: u64,
    /// Messages that wait for the client, the oldest first.
    pub queue: Vec<Parcel>,
    /// Its inside.
    pub core: Core,
    /// What its client has been told of the users whom it watches, in their order; none of whom it was told nothing.
    pub told: Vec<Option<Platforms>>,
}

/// The inside of a session: what [`super::core::Session`] takes up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// What messages mean to it.
    pub application: Application,
    /// How far the client's frame and message have arrived.
    pub decoder: Snapshot,
    /// What was read from the client and not looked at yet.
    pub unread: Bytes,
    /// What was not written yet; it begins where the socket's send queue ends.
    pub outgoing: Bytes,
    /// For how long the client has said nothing.
    pub silent_ms: u64,
    /// How long ago the client was pinged, if it is.
    pub pinged_ms: u64,
}

/// Why a session from another node cannot go on here.
#[derive(Debug, thiserror::Error)]
pub enum BadSession {
    /// The bytes are no session, or that of a version of this program that we do not understand.
    #[error("no session that this version of ringsteer understands: {0}")]
    Encoding(#[from] postcard::Error),
    /// Its websocket cannot go on.
    #[error("{0}")]
    Websocket(#[from] BadSnapshot),
}

// === impl Suspended ===

impl Suspended {
    /// The bytes that travel.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a vector takes all bytes, and the types have nothing that postcard refuses")
    }

    /// The session in `bytes`, if it can go on where the largest message has `max_message` bytes. Nothing of what it says
    /// is proven, but that whoever encrypted it knows the fleet's secret.
    ///
    /// # Errors
    /// If the bytes are no session, or one that cannot go on here.
    pub fn from_bytes(bytes: &[u8], max_message: usize) -> Result<Self, BadSession> {
        let suspended: Self = postcard::from_bytes(bytes)?;
        Decoder::restore(suspended.core.decoder.clone(), max_message)?;
        Ok(suspended)
    }
}
