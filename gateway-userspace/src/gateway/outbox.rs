//! The way from whoever has something for a session to the task that holds its connection.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::{
    session::{
        entry::SessionEntry,
        queue::{Full, Limits, Message, Queue},
        table,
    },
    websocket::close::Close,
};

/// A session's queue. Any task puts in, the session's task takes out.
#[derive(Debug)]
pub(super) struct Outbox {
    client: SocketAddr,
    since: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    close: Option<Close>,
}

/// The next thing to do for a session.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Message(Message),
    /// All messages have been taken; close.
    Close(Close),
}

impl Outbox {
    /// An empty one, for the session that `client` begins now.
    pub(super) fn new(client: SocketAddr, limits: Limits) -> Self {
        let state = State { queue: Queue::new(limits), close: None };
        Self { client, since: Instant::now(), state: Mutex::new(state), changed: Notify::new() }
    }

    /// The session as others are told of it.
    pub(super) fn entry(&self) -> SessionEntry {
        let (age_ms, queued) = (self.since.elapsed().as_millis() as u64, self.state().queue.len() as u64);
        SessionEntry { client: self.client, age_ms, queued }
    }

    /// What is to be done now, if anything.
    pub(super) fn next(&self) -> Option<Next> {
        let mut state = self.state();
        match state.queue.pop() {
            Some(message) => Some(Next::Message(message)),
            None => state.close.take().map(Next::Close),
        }
    }

    /// Returns when [`Outbox::next`] may have something, at once if that came about since the last call. For one task.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl table::Outbox for std::sync::Arc<Outbox> {
    fn offer(&self, message: Message) -> Result<(), Full> {
        self.state().queue.push(message)?;
        self.changed.notify_one();
        Ok(())
    }

    fn close(&self, close: Close) {
        self.state().close.get_or_insert(close);
        self.changed.notify_one();
    }
}
