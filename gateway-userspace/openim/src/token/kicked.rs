//! Tokens that another login has ended.
//!
//! A kicked client is told so (frame 2002) and gives up. Should the frame not reach it, it would come back, and kick the
//! login that kicked it. So its token is remembered for as long as it would be good otherwise, and gets 1506.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
};

use super::{TokenDigest, UnixSeconds};

/// Most tokens remembered; beyond it those that expire first are forgotten.
pub const MAX_KICKED: usize = 1 << 20;

/// The tokens remembered.
#[derive(Debug)]
pub struct Kicked {
    until: HashMap<TokenDigest, UnixSeconds>,
    /// The same, the next to expire first.
    order: BTreeSet<KickedToken>,
    limit: usize,
}

/// A token that was kicked: when it would expire, and which. In the order in which they are forgotten.
pub type KickedToken = (UnixSeconds, TokenDigest);

impl Kicked {
    /// No token, and room for `limit` of them.
    pub fn new(limit: usize) -> Self {
        Self { until: HashMap::new(), order: BTreeSet::new(), limit }
    }

    /// Remembers a token until it expires. Whether it is remembered from now on, and was not before.
    pub fn insert(&mut self, token: TokenDigest, expires: UnixSeconds) -> bool {
        let before = self.until.insert(token, expires);
        if let Some(before) = before {
            self.order.remove(&(before, token));
        }
        self.order.insert((expires, token));
        while self.until.len() > self.limit {
            self.forget_first();
        }
        before.is_none() && self.contains(&token)
    }

    /// The first `most` of those that are forgotten after the one given; of all if none is.
    pub fn after(&self, after: Option<KickedToken>, most: usize) -> Vec<KickedToken> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).take(most).copied().collect()
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
