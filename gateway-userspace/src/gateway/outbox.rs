//! The way from whoever has something for a session to the task that holds its connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::{
    session::{
        queue::{Full, Limits, Message, Queue},
        table,
    },
    websocket::close::Close,
};

/// A session's queue. Any task puts in, the session's task takes out.
#[derive(Debug)]
pub(super) struct Outbox {
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
    /// An empty one.
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: Mutex::new(State { queue: Queue::new(limits), close: None }), changed: Notify::new() }
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
