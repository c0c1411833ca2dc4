//! One thread that takes messages, many with one call to the disk.
//!
//! Whatever has arrived while the last batch was being stored makes the next one. So one message alone waits for nobody,
//! and a thousand at once share the time that the disk takes. An answer is given when the batch is stored, never before;
//! then the messages are pushed, in the order of their numbers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ringsteer_openim::message::sdkws::MsgData;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::{
    book::{Accepted, Change, Limits, Pending, Push, Refusal, StorageError},
    counters::Counters,
    store::{Moment, Safe, Store},
};

/// Commands that wait at most. Whoever brings more is made to wait in front.
const MAX_WAITING: usize = 4096;

/// Commands in a batch.
const MAX_BATCH: usize = 1024;

/// Bytes after which a batch is closed.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// When what is stored gets to the disk itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged: a machine that dies loses nothing that was.
    Always,
    /// Now and then. A process that dies loses nothing; a machine that dies loses up to this much time.
    Interval(Duration),
}

/// Something to write down.
#[derive(Debug)]
pub enum Command {
    /// A message.
    Send {
        /// It.
        message: Box<MsgData>,
        /// Whether it comes from a service rather than from a client.
        by_service: bool,
    },
    /// The user has read up to there.
    MarkRead {
        /// Who.
        user: String,
        /// What.
        conversation: String,
        /// Up to where.
        seq: i64,
    },
    /// The user counts as having read up to there.
    SetRead {
        /// Who.
        user: String,
        /// What.
        conversation: String,
        /// Up to where.
        seq: i64,
    },
    /// The first message that users may see.
    SetFirst {
        /// Who.
        users: Vec<String>,
        /// In what.
        conversation: String,
        /// Which.
        seq: i64,
    },
    /// The last message that users may see.
    SetLast {
        /// Who.
        users: Vec<String>,
        /// In what.
        conversation: String,
        /// Which.
        seq: i64,
    },
    /// Who is in a group.
    Members {
        /// Which.
        group: String,
        /// What changes.
        change: Change,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A message was taken.
    Accepted(Accepted),
    /// Up to where the user has read now.
    Read(u64),
    /// Who is in the group now.
    Members(BTreeSet<String>),
    /// Nothing to say.
    Done,
}

/// Hands messages on that have been stored. Called in the order of the numbers of each conversation, and must not block.
pub type Deliver = Box<dyn FnMut(Push) + Send>;

/// Where commands are brought.
#[derive(Clone)]
pub struct Writer {
    commands: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    broken: watch::Receiver<Option<StorageError>>,
}

/// The thread. Ends when all [`Writer`]s are gone; what they brought is stored first.
pub struct Thread {
    handle: Mutex<Option<thread::JoinHandle<()>>>,
}

struct Waiting {
    command: Command,
    answer: oneshot::Sender<Result<Outcome, Refusal>>,
    // Given back when the command is done.
    _room: tokio::sync::OwnedSemaphorePermit,
}

struct Work {
    store: Store,
    limits: Limits,
    fsync: Fsync,
    counters: Arc<Counters>,
    deliver: Deliver,
    broken: watch::Sender<Option<StorageError>>,
    /// When something was stored that the disk may not have yet.
    dirty_since: Option<Instant>,
}

// === impl Writer ===

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub fn start(
        store: Store,
        limits: Limits,
        fsync: Fsync,
        counters: Arc<Counters>,
        deliver: Deliver,
    ) -> std::io::Result<(Self, Thread)> {
        let (commands, waiting) = mpsc::channel();
        let (broken, is_broken) = watch::channel(None);
        let mut work = Work { store, limits, fsync, counters, deliver, broken, dirty_since: None };
        let handle = thread::Builder::new().name("msg-writer".into()).spawn(move || work.run(&waiting))?;
        let room = Arc::new(Semaphore::new(MAX_WAITING));
        Ok((Self { commands, room, broken: is_broken }, Thread { handle: Mutex::new(Some(handle)) }))
    }

    /// Has a command done, and waits until it is stored.
    ///
    /// # Errors
    /// If it is refused, or the storage fails.
    pub async fn carry_out(&self, command: Command) -> Result<Outcome, Refusal> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Refusal::Stopping)?;
        let (answer, answered) = oneshot::channel();
        self.commands.send(Waiting { command, answer, _room: room }).map_err(|_| self.gone())?;
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Waits until the storage fails. It does not mend by itself: the process has to end.
    pub async fn failure(&self) -> StorageError {
        let mut broken = self.broken.clone();
        match broken.wait_for(Option::is_some).await {
            Ok(error) => error.clone().expect("just waited for it"),
            // The thread has ended well, and nothing fails any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// Why the storage has failed, if it has.
    pub fn failed(&self) -> Option<StorageError> {
        self.broken.borrow().clone()
    }

    /// Commands that wait.
    pub fn waiting(&self) -> usize {
        MAX_WAITING - self.room.available_permits()
    }

    fn gone(&self) -> Refusal {
        self.failed().map_or(Refusal::Stopping, Refusal::Storage)
    }
}

// === impl Thread ===

impl Thread {
    /// Waits for the thread to end. Call it when all [`Writer`]s are gone, from where blocking is allowed.
    pub fn join(&self) {
        let handle = self.handle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(handle) = handle
            && handle.join().is_err()
        {
            tracing::error!("the thread that writes has panicked");
        }
    }
}

// === impl Work ===

impl Work {
    fn run(&mut self, waiting: &mpsc::Receiver<Waiting>) {
        while let Some(batch) = self.next_batch(waiting) {
            if let Err(error) = self.store_batch(batch) {
                tracing::error!("the storage has failed: {error}");
                self.broken.send_replace(Some(error));
                // What still waits is answered by the channel going away.
                return;
            }
        }
        if self.dirty_since.is_some() {
            self.sync();
        }
    }

    /// Whatever waits; nothing when nobody can bring anything any more, or the storage has failed.
    fn next_batch(&mut self, waiting: &mpsc::Receiver<Waiting>) -> Option<Vec<Waiting>> {
        let first = loop {
            let Some(left) = self.until_sync() else { break waiting.recv().ok()? };
            if left.is_zero() && !self.sync() {
                return None;
            }
            match waiting.recv_timeout(left) {
                Ok(first) => break first,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        };
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(MAX_BATCH - 1));
        Some(batch)
    }

    /// How long until the disk has to be told; nothing if it knows all.
    fn until_sync(&self) -> Option<Duration> {
        match self.fsync {
            Fsync::Always => None,
            Fsync::Interval(interval) => Some(interval.saturating_sub(self.dirty_since?.elapsed())),
        }
    }

    fn sync(&mut self) -> bool {
        self.dirty_since = None;
        match self.store.sync() {
            Ok(()) => {
                self.counters.syncs.one();
                true
            }
            Err(error) => {
                tracing::error!("the storage has failed: {error}");
                self.broken.send_replace(Some(error));
                false
            }
        }
    }

    /// Stores a batch, in parts if it is large.
    fn store_batch(&mut self, batch: Vec<Waiting>) -> Result<(), StorageError> {
        let mut rest = batch.into_iter().peekable();
        while rest.peek().is_some() {
            let mut pending = Pending::over(self.store.now());
            let mut answers = Vec::new();
            while pending.bytes() < MAX_BATCH_BYTES
                && let Some(Waiting { command, answer, _room: room }) = rest.next()
            {
                let outcome = self.carry_out(&mut pending, command);
                if let Err(Refusal::Storage(error)) = outcome {
                    let _ = answer.send(Err(Refusal::Storage(error.clone())));
                    return Err(error);
                }
                answers.push((answer, outcome, room));
            }
            if !pending.is_empty() {
                self.store(pending)?;
            }
            for (answer, outcome, _room) in answers {
                self.answer(answer, outcome);
            }
        }
        Ok(())
    }

    fn store(&mut self, pending: Pending<Moment>) -> Result<(), StorageError> {
        let safe = match self.fsync {
            Fsync::Always => Safe::FromPowerLoss,
            Fsync::Interval(_) => Safe::FromCrash,
        };
        self.store.store(pending.into_writes(), safe)?;
        self.counters.batches.one();
        match safe {
            Safe::FromPowerLoss => self.counters.syncs.one(),
            Safe::FromCrash => {
                self.dirty_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    fn carry_out(&self, pending: &mut Pending<Moment>, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Send { message, by_service } => {
                let accepted = pending.send(*message, by_service, new_name(), now_ms(), &self.limits)?;
                Ok(Outcome::Accepted(accepted))
            }
            Command::MarkRead { user, conversation, seq } => {
                pending.mark_read(&user, &conversation, seq).map(Outcome::Read)
            }
            Command::SetRead { user, conversation, seq } => {
                pending.set_read(&user, &conversation, seq).map(|()| Outcome::Done)
            }
            Command::SetFirst { users, conversation, seq } => {
                let set = users.iter().try_for_each(|user| pending.set_first(user, &conversation, seq));
                set.map(|()| Outcome::Done)
            }
            Command::SetLast { users, conversation, seq } => {
                let set = users.iter().try_for_each(|user| pending.set_last(user, &conversation, seq));
                set.map(|()| Outcome::Done)
            }
            Command::Members { group, change } => {
                pending.change_members(&group, change, &self.limits).map(Outcome::Members)
            }
        }
    }

    /// Answers, and pushes what is new.
    fn answer(&mut self, answer: oneshot::Sender<Result<Outcome, Refusal>>, mut outcome: Result<Outcome, Refusal>) {
        match &mut outcome {
            Ok(Outcome::Accepted(accepted)) => {
                match (&accepted.push, accepted.seq) {
                    (None, _) => self.counters.repeated.one(),
                    (Some(_), 0) => self.counters.passed_on.one(),
                    (Some(_), _) => self.counters.stored.one(),
                }
                if let Some(push) = accepted.push.take() {
                    (self.deliver)(*push);
                }
            }
            Ok(_) => {}
            Err(_) => self.counters.refused.one(),
        }
        // Whoever asked may be gone; the message is stored all the same.
        let _ = answer.send(outcome);
    }
}

/// A name for a message that no other has: 128 bits, half of them the time.
fn new_name() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    // The keys of a RandomState differ each time, and their first ones come from the system.
    let random = RandomState::new().hash_one(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:016x}{random:016x}", since.as_nanos() as u64)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(i64::MAX)
}
