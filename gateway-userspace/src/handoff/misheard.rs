//! What others said about moves that did not even get to the core.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counted since the gateway's start.
#[derive(Debug, Default)]
pub struct Misheard {
    /// Bytes that are no message.
    malformed: AtomicU64,
    /// From a node that no ring has.
    strangers: AtomicU64,
    /// More at once than there is room for. Whoever is not answered says it again.
    crowded: AtomicU64,
}

// === impl Misheard ===

impl Misheard {
    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn crowded(&self) {
        self.crowded.fetch_add(1, Ordering::Relaxed);
    }

    /// How many, by reason.
    pub fn by_reason(&self) -> [(&'static str, u64); 3] {
        let Self { malformed, strangers, crowded } = self;
        let all = [("malformed", malformed), ("stranger", strangers), ("crowded", crowded)];
        all.map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}
