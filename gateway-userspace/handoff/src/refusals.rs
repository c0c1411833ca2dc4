//! What others said that was refused: it changed nothing but these numbers.

use std::hash::{Hash, Hasher};

/// Messages that changed nothing, by reason. A few are normal: gateways end and begin again, rings reach the nodes one
/// after another, and what is not answered in time is said again. Many are somebody's fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Refusals {
    /// Of a move in which the sender has no part, or has another one.
    pub foreign: u64,
    /// Of a life or a move that is over.
    pub stale: u64,
    /// Offers by a ring that is not the one in force here.
    pub ring: u64,
    /// Offers of users that our ring gives to somebody else.
    pub not_mine: u64,
    /// Offers of which no socket or no session could be made.
    pub broken: u64,
}

/// Counted beside the state and no part of it: two states that differ in nothing else are the same.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<T>(pub(crate) T);

// === impl Beside ===

impl<T> PartialEq for Beside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Beside<T> {}

impl<T> Hash for Beside<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
