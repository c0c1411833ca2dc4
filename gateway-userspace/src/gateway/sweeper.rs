//! One clock for all sessions: wakes those whose time has come.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::line::Line;
use crate::session::deadlines::Deadlines;

/// How exact deadlines are, in milliseconds.
const TICK_MS: u64 = 50;

/// The clock. Milliseconds are those since it was made.
#[derive(Debug)]
pub(super) struct Sweeper {
    started: Instant,
    deadlines: Mutex<Deadlines<Weak<Line>>>,
    /// Something is due earlier than all the rest.
    sooner: Notify,
}

// === impl Sweeper ===

impl Sweeper {
    /// A clock that begins at 0 now.
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), deadlines: Mutex::new(Deadlines::new(TICK_MS)), sooner: Notify::new() }
    }

    /// The time.
    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The session of `line` has to be looked at then, unless something happens before.
    pub(super) fn set_deadline(&self, line: &Arc<Line>, deadline_ms: u64) {
        if line.set_deadline(deadline_ms) && self.deadlines().insert(deadline_ms, Arc::downgrade(line)) {
            self.sooner.notify_one();
        }
    }

    /// Wakes sessions, for ever.
    pub(super) async fn run(&self) {
        loop {
            let next = self.deadlines().next_ms();
            let due = async {
                match next {
                    Some(ms) => sleep_until(self.started + Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.sweep(),
                () = self.sooner.notified() => {}
            }
        }
    }

    fn sweep(&self) {
        let now_ms = self.now_ms();
        loop {
            let Some(lines) = self.deadlines().due(now_ms) else { return };
            // Those of one tick; the lock is not held meanwhile.
            for line in lines {
                if let Some(again_ms) = line.upgrade().and_then(|line| line.sweep(now_ms)) {
                    self.deadlines().insert(again_ms, line);
                }
            }
        }
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines<Weak<Line>>> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
