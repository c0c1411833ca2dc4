//! Order, patience, limits.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use super::{Members, PushError, Pusher};
use crate::{
    book::{Audience, Push},
    counters::Counters,
};

/// Conversations are spread over so many lanes.
const LANES: usize = 32;

/// Messages that wait in one lane.
const MAX_WAITING: usize = 2048;

/// Users in one call.
const MAX_USERS: usize = 1000;

/// How long to try, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From when a message is at the head of its lane.
    pub deadline: Duration,
    /// Before the second try; doubles with every further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

/// The lanes. Messages that still wait when this is dropped are not pushed.
pub struct Lanes {
    lanes: Vec<mpsc::Sender<Push>>,
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
}

struct Lane {
    pusher: Arc<dyn Pusher>,
    members: Members,
    patience: Patience,
    counters: Arc<Counters>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(1),
        }
    }
}

// === impl Lanes ===

impl Lanes {
    /// Starts them. Must be called within a tokio runtime.
    pub fn start(pusher: Arc<dyn Pusher>, members: Members, patience: Patience, counters: Arc<Counters>) -> Self {
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, waiting) = mpsc::channel(MAX_WAITING);
                let lane = Lane {
                    pusher: Arc::clone(&pusher),
                    members: Arc::clone(&members),
                    patience,
                    counters: Arc::clone(&counters),
                };
                tasks.spawn(lane.run(waiting));
                sender
            })
            .collect();
        Self { lanes, tasks, counters }
    }

    /// What puts a message into its lane, without waiting.
    pub fn deliver(&self) -> impl FnMut(Push) + Send + use<> {
        let (lanes, counters) = (self.lanes.clone(), Arc::clone(&self.counters));
        move |push| {
            let lane = BuildHasherDefault::<DefaultHasher>::default().hash_one(&push.conversation) as usize % LANES;
            if lanes[lane].try_send(push).is_err() {
                counters.push_dropped.one();
            }
        }
    }

    /// Waits until everything that waits is pushed, or its time is over, or `limit` is. Whatever [`Lanes::deliver`] gave
    /// out has to be gone.
    pub async fn finish(mut self, limit: Duration) {
        drop(self.lanes);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(limit, all).await;
    }
}

// === impl Lane ===

impl Lane {
    async fn run(self, mut waiting: mpsc::Receiver<Push>) {
        while let Some(push) = waiting.recv().await {
            match self.hand_on(&push).await {
                Ok(()) => self.counters.pushed.one(),
                Err(error) => {
                    self.counters.push_failed.one();
                    let seq = push.message.seq;
                    tracing::warn!(conversation = push.conversation, seq, "not pushed: {error}");
                }
            }
        }
    }

    /// Hands a message on to its whole audience. One part that fails does not keep the others from getting it.
    async fn hand_on(&self, push: &Push) -> Result<(), PushError> {
        let deadline = Instant::now() + self.patience.deadline;
        let users = self.users(&push.audience).await?;
        let mut outcome = Ok(());
        for users in users.chunks(MAX_USERS) {
            outcome = outcome.and(self.patiently(push, users, deadline).await);
        }
        outcome
    }

    async fn users(&self, audience: &Audience) -> Result<Vec<String>, PushError> {
        match audience {
            Audience::Users(users) => Ok(users.clone()),
            Audience::Group { group, except } => {
                let (members, group) = (Arc::clone(&self.members), group.clone());
                let read = tokio::task::spawn_blocking(move || members(&group)).await;
                let failed = |reason| PushError { reason, may_pass: false };
                let mut users =
                    read.map_err(|_| failed("the service is stopping".into()))?.map_err(|e| failed(e.to_string()))?;
                users.retain(|user| Some(user) != except.as_ref());
                Ok(users)
            }
        }
    }

    async fn patiently(&self, push: &Push, users: &[String], deadline: Instant) -> Result<(), PushError> {
        let mut pause = self.patience.first_pause;
        loop {
            let error = match timeout_at(deadline, self.pusher.push(push, users)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => PushError { reason: "no answer in time".into(), may_pass: false },
            };
            if !error.may_pass || Instant::now() + pause >= deadline {
                return Err(error);
            }
            self.counters.push_retries.one();
            sleep(pause).await;
            pause = (pause * 2).min(self.patience.longest_pause);
        }
    }
}
