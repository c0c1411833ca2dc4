//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the service began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages stored.
    pub stored: Count,
    /// Messages handed on but not kept, as their sender wished.
    pub passed_on: Count,
    /// Messages that were there already.
    pub repeated: Count,
    /// Messages refused.
    pub refused: Count,
    /// Batches stored.
    pub batches: Count,
    /// Times that the disk was told to keep what it was given.
    pub syncs: Count,
    /// Messages that the push service took.
    pub pushed: Count,
    /// Times that handing a message on was tried once more.
    pub push_retries: Count,
    /// Messages that it did not take in time, or refused.
    pub push_failed: Count,
    /// Messages that were not even offered: too many were waiting.
    pub push_dropped: Count,
}

/// A count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.some(1);
    }

    /// Some more.
    pub fn some(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
