//! The way from whoever has something for a session to the task that holds its connection.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use ringsteer_openim::dispatch::{Failure, Ticket};
use tokio::sync::{Notify, oneshot};

use super::moving::Moving;
use crate::session::{
    entry::SessionEntry,
    message::Message,
    queue::{Full, Limits, Queue},
    table::{Farewell, Outbox},
};

/// A session's line. Any task puts in, the session's task takes out.
#[derive(Debug)]
pub(super) struct Line {
    client: SocketAddr,
    since_ms: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    farewell: Option<Farewell>,
    answers: Vec<Answer>,
    /// Who wants the session taken apart.
    taker: Option<oneshot::Sender<Moving>>,
    /// When the session has to be looked at.
    deadline_ms: u64,
    /// When the sweeper will look at it; [`u64::MAX`] for never.
    armed_ms: u64,
}

/// What was asked, and the answer.
pub(super) type Answer = (Ticket, Result<Bytes, Failure>);

/// What has come in, other than messages.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// The session is to end.
    pub(super) farewell: Option<Farewell>,
    /// What was asked has been answered.
    pub(super) answers: Vec<Answer>,
    /// Somebody wants it taken apart.
    pub(super) is_wanted: bool,
}

// === impl Line ===

impl Line {
    /// The line of the session that `client` has since `since_ms`.
    pub(super) fn new(client: SocketAddr, since_ms: u64, limits: Limits) -> Self {
        let state = State {
            queue: Queue::new(limits),
            farewell: None,
            answers: Vec::new(),
            taker: None,
            deadline_ms: u64::MAX,
            armed_ms: u64::MAX,
        };
        Self { client, since_ms, state: Mutex::new(state), changed: Notify::new() }
    }

    /// The client.
    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    /// When the session began; it may have been on another node.
    pub(super) fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// The session as the agent is told of it.
    pub(super) fn entry(&self, now_ms: u64) -> SessionEntry {
        let queued = self.state().queue.len() as u64;
        SessionEntry { client: self.client, age_ms: now_ms.saturating_sub(self.since_ms), queued }
    }

    /// The oldest message that waits.
    pub(super) fn next(&self) -> Option<Message> {
        self.state().queue.pop()
    }

    /// What is to be done now. A farewell is given once.
    pub(super) fn orders(&self) -> Orders {
        let mut state = self.state();
        // Who does not wait any more wants nothing.
        if state.taker.as_ref().is_some_and(oneshot::Sender::is_closed) {
            state.taker = None;
        }
        // The farewell comes after what was queued before it.
        let farewell = if state.queue.is_empty() { state.farewell.take() } else { None };
        let answers = std::mem::take(&mut state.answers);
        Orders { farewell, answers, is_wanted: state.taker.is_some() }
    }

    /// Whether the session is to end, after what is queued.
    pub(super) fn is_ending(&self) -> bool {
        self.state().farewell.is_some()
    }

    /// Whether nothing waits: no message, no answer and no end.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.state();
        state.queue.is_empty() && state.farewell.is_none() && state.answers.is_empty()
    }

    /// Asks for the session. The answer comes when it is at rest; none if it ends before that.
    pub(super) fn want(&self) -> oneshot::Receiver<Moving> {
        let (sender, receiver) = oneshot::channel();
        self.state().taker = Some(sender);
        self.changed.notify_one();
        receiver
    }

    /// Brings the answer to what the session asked.
    pub(super) fn answer(&self, answer: Answer) {
        self.state().answers.push(answer);
        self.changed.notify_one();
    }

    /// Who wants the session.
    pub(super) fn taker(&self) -> Option<oneshot::Sender<Moving>> {
        self.state().taker.take()
    }

    /// Has the session's task look around.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Returns when something came in, at once if that happened since the last call. For one task.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes when the session has to be looked at. True if the sweeper has to be told.
    pub(super) fn set_deadline(&self, deadline_ms: u64) -> bool {
        let mut state = self.state();
        state.deadline_ms = deadline_ms;
        let earlier = deadline_ms < state.armed_ms;
        if earlier {
            state.armed_ms = deadline_ms;
        }
        earlier
    }

    /// The sweeper looks at the session: wakes it if it has to be looked at, and says when to come back if not.
    pub(super) fn sweep(&self, now_ms: u64) -> Option<u64> {
        let mut state = self.state();
        if state.deadline_ms == u64::MAX || state.deadline_ms <= now_ms {
            state.armed_ms = u64::MAX;
            drop(state);
            self.wake();
            return None;
        }
        state.armed_ms = state.deadline_ms;
        Some(state.deadline_ms)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox for Arc<Line> {
    fn offer(&self, message: Message) -> Result<(), Full> {
        self.state().queue.push(message)?;
        self.changed.notify_one();
        Ok(())
    }

    fn end(&self, farewell: Farewell) {
        self.state().farewell.get_or_insert(farewell);
        self.changed.notify_one();
    }
}
