//! Tokens that another login has ended.
//!
//! A kicked client is told so (frame 2002) and gives up. Should the frame not reach it, it would come back, and kick the
//! login that kicked it. So its token is remembered for as long as it would be good otherwise, and gets 1506.

use std::collections::{BTreeSet, HashMap};

use super::{TokenDigest, UnixSeconds};

/// Most tokens remembered; beyond it those that expire first are forgotten.
pub const MAX_KICKED: usize = 1 << 20;

/// The tokens remembered.
#[derive(Debug)]
pub struct Kicked {
    until: HashMap<TokenDigest, UnixSeconds>,
    /// The same, the next to expire first.
    order: BTreeSet<(UnixSeconds, TokenDigest)>,
    limit: usize,
}

impl Kicked {
    /// No token, and room for `limit` of them.
    pub fn new(limit: usize) -> Self {
        Self { until: HashMap::new(), order: BTreeSet::new(), limit }
    }

    /// Remembers a token until it expires.
    pub fn insert(&mut self, token: TokenDigest, expires: UnixSeconds) {
        if let Some(before) = self.until.insert(token, expires) {
            self.order.remove(&(before, token));
        }
        self.order.insert((expires, token));
        while self.until.len() > self.limit {
            self.forget_first();
        }
    }

    /// Forgets those that have expired.
    pub fn forget_expired(&mut self, now: UnixSeconds) {
        while self.order.first().is_some_and(|&(expires, _)| expires <= now) {
            self.forget_first();
        }
    }

    /// Whether a token has been kicked.
    pub fn contains(&self, token: &TokenDigest) -> bool {
        self.until.contains_key(token)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    fn forget_first(&mut self) {
        if let Some((_, token)) = self.order.pop_first() {
            self.until.remove(&token);
        }
    }
}

impl Default for Kicked {
    fn default() -> Self {
        Self::new(MAX_KICKED)
    }
}
