//! What happened on the links, and why some came to nothing.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
};

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Counters {
    opened: AtomicU64,
    messages: AtomicU64,
    unknown_messages: AtomicU64,
    failures: Mutex<BTreeMap<(Way, &'static str), u64>>,
}

/// Who made a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// We did.
    Out,
    /// Somebody else did.
    In,
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Links that came up.
    pub opened: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Of these, of a kind that this version does not know.
    pub unknown_messages: u64,
    /// Links that ended or never came up, by who made them and why.
    pub failures: BTreeMap<(Way, &'static str), u64>,
}

// === impl Way ===

impl Way {
    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

// === impl Counters ===

impl Counters {
    /// A link came up.
    pub fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A message arrived.
    pub fn message(&self, known: bool) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.unknown_messages.fetch_add(u64::from(!known), Ordering::Relaxed);
    }

    /// A link came to nothing, or ended. There are few reasons, all of them named in the code.
    pub fn failed(&self, way: Way, reason: &'static str) {
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner).entry((way, reason)).or_default() += 1;
    }

    /// The counts now.
    pub fn counts(&self) -> Counts {
        Counts {
            opened: self.opened.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            unknown_messages: self.unknown_messages.load(Ordering::Relaxed),
            failures: self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
