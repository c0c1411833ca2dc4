//! How much and how long of everything.

use std::time::Duration;

use crate::{
    config::Config,
    session::{core, queue, table},
};

/// What one client or pusher may take of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the first byte on a new connection, and again from a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// Without a frame from the client a session ends after this long; without a request, a pusher's connection.
    pub idle_timeout: Duration,
    /// For the goodbye of one connection: from our last word to the peer's.
    pub close_timeout: Duration,
    /// For the goodbye of all connections when the gateway stops.
    pub stop_timeout: Duration,
    /// Largest message taken from a client, in bytes.
    pub max_message: usize,
    /// Largest body of a push, in bytes.
    pub max_push: usize,
    /// What may wait to be sent to one session.
    pub queue: queue::Limits,
    /// Sessions of one user.
    pub sessions_per_user: usize,
    /// Sessions of all users.
    pub sessions_per_node: usize,
}

impl Limits {
    /// The limits of a gateway so configured.
    pub fn of(config: &Config) -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            stop_timeout: Duration::from_secs(10),
            max_message: config.gateway.max_message_bytes,
            max_push: 256 << 10,
            queue: queue::Limits { messages: 256, bytes: 1 << 20 },
            sessions_per_user: 64,
            sessions_per_node: 1 << 20,
        }
    }

    /// Those of one session.
    pub(super) fn session(&self) -> core::Limits {
        let ms = |duration: Duration| duration.as_millis() as u64;
        core::Limits { idle_ms: ms(self.idle_timeout), close_ms: ms(self.close_timeout) }
    }

    /// Those of the session table.
    pub(super) fn table(&self) -> table::Limits {
        table::Limits { per_user: self.sessions_per_user, per_node: self.sessions_per_node, kept: self.queue }
    }
}
