//! A session as others are told of it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One session of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// The client.
    pub client: SocketAddr,
    /// How long it has been there, in milliseconds.
    pub age_ms: u64,
    /// Messages that wait to be sent to it.
    pub queued: u64,
}
