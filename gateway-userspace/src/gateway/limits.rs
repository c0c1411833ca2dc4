//! How much and how long of everything.

use std::time::Duration;

use super::leaving::GOODBYES;
use crate::{
    config::Config,
    session::{application::Application, core, queue, table},
};

/// What one client or pusher may take of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the first byte on a new connection, and again from a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// From a ring's coming: for users that it brings here to be let in, if not all other gateways know of it sooner. A push
    /// that comes to one of those would not be looked for here.
    pub brought_timeout: Duration,
    /// Without a frame from the client a session ends after this long; without a request, a pusher's connection.
    pub idle_timeout: Duration,
    /// The same for OpenIM's clients, which are told to say something every 27 s or more often.
    pub openim_idle_timeout: Duration,
    /// How often OpenIM's clients in browsers are pinged.
    pub ping_interval: Duration,
    /// For the goodbye of one connection: from our last word to the peer's.
    pub close_timeout: Duration,
    /// For giving all sessions to other nodes when the gateway is told to stop.
    pub leave_timeout: Duration,
    /// After that, for the last connections to end.
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
    /// Sessions that may begin in a second; 0 for any number.
    pub logins_per_s: u32,
    /// Whether messages are compressed for clients that can read that.
    pub compression: bool,
}

impl Limits {
    /// The limits of a gateway so configured.
    pub fn of(config: &Config) -> Self {
        let stop_timeout = Duration::from_secs(10);
        Self {
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            brought_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            openim_idle_timeout: Duration::from_secs(30),
            ping_interval: Duration::from_secs(27),
            close_timeout: Duration::from_secs(5),
            leave_timeout: Duration::from_secs(config.gateway.grace_s.into()).saturating_sub(stop_timeout + GOODBYES),
            stop_timeout,
            max_message: config.gateway.max_message_bytes,
            max_push: 256 << 10,
            queue: queue::Limits { messages: config.gateway.queue_messages, bytes: config.gateway.queue_bytes },
            sessions_per_user: config.gateway.sessions_per_user,
            sessions_per_node: config.gateway.sessions,
            logins_per_s: config.gateway.logins_per_s,
            compression: config.gateway.compression,
        }
    }

    /// Those of one session.
    pub(super) fn session(&self, application: &Application) -> core::Limits {
        let ms = |duration: Duration| duration.as_millis() as u64;
        let idle = match application {
            Application::Plain(_) => self.idle_timeout,
            Application::OpenIm(_) => self.openim_idle_timeout,
        };
        core::Limits { idle_ms: ms(idle), close_ms: ms(self.close_timeout), ping_ms: ms(self.ping_interval) }
    }

    /// Those of the session table.
    pub(super) fn table(&self) -> table::Limits {
        table::Limits { per_user: self.sessions_per_user, per_node: self.sessions_per_node, kept: self.queue }
    }
}
