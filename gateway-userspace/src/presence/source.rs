//! A node that is asked about users who are watched here: what it has to be asked next.

use std::collections::BTreeSet;

use super::{AT_ONCE, Name};
use crate::peer::gateways::Incarnation;

/// How often a node is asked for nothing, so that both know that the stream goes on.
pub(super) const KEEP_MS: u64 = 10_000;

/// A node that is asked.
#[derive(Debug)]
pub(super) struct Source {
    /// The process that is there, as far as we know.
    pub(super) process: Option<Incarnation>,
    /// Whether there is a link to it.
    is_linked: bool,
    /// The stream of our questions.
    stream: u64,
    /// Whether the first question of the stream has been asked.
    has_begun: bool,
    /// Users to ask for.
    pub(super) more: BTreeSet<Name>,
    /// Users of whom it need not tell us any more.
    fewer: BTreeSet<Name>,
    /// Users of the question that is under way.
    under_way: Option<Vec<Name>>,
    /// Users of whom it would not tell us: it tells enough. They are asked for again, later.
    refused: Vec<Name>,
    asked_ms: u64,
    /// Since when it has not answered.
    pub(super) silent_since_ms: Option<u64>,
    /// It has been silent for so long that nobody is believed to be there.
    pub(super) is_given_up: bool,
    /// Users who may have sessions there.
    pub(super) users: usize,
}

/// What is asked next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The stream to which it belongs.
    pub stream: u64,
    /// Whether it is the stream's first question: what was asked before is forgotten.
    pub begins: bool,
    /// Of whom to tell us, now and whenever that changes.
    pub more: Vec<Name>,
    /// Of whom no longer.
    pub fewer: Vec<Name>,
}

// === impl Source ===

impl Source {
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            process: None,
            is_linked: false,
            stream: 0,
            has_begun: false,
            more: BTreeSet::new(),
            fewer: BTreeSet::new(),
            under_way: None,
            refused: Vec::new(),
            asked_ms: now_ms,
            silent_since_ms: Some(now_ms),
            is_given_up: false,
            users: 0,
        }
    }

    /// There is a link, or none any more.
    pub(super) fn linked(&mut self, is_linked: bool, now_ms: u64) {
        match is_linked {
            // It is given up again if it stays silent.
            true if !self.is_linked => self.is_given_up = false,
            true => {}
            false => _ = self.silent_since_ms.get_or_insert(now_ms),
        }
        self.is_linked = is_linked;
    }

    /// Begins a new stream; all these users have to be asked for.
    pub(super) fn begin_again(&mut self, all: BTreeSet<Name>) {
        self.has_begun = false;
        self.more = all;
        self.fewer.clear();
        self.under_way = None;
        self.refused.clear();
    }

    /// A user may have sessions there, from now on.
    pub(super) fn ask_for(&mut self, user: Name) {
        self.fewer.remove(&user);
        self.more.insert(user);
    }

    /// A user does not matter there any more.
    pub(super) fn ask_no_more(&mut self, user: &Name) {
        self.more.remove(user);
        self.refused.retain(|refused| refused != user);
        if self.has_begun {
            self.fewer.insert(Name::clone(user));
        }
    }

    /// The next question, if there is one; `streams` gives each stream its number.
    pub(super) fn next(&mut self, streams: &mut u64, now_ms: u64) -> Option<Asking> {
        let keeps = self.has_begun && self.users > 0 && now_ms.saturating_sub(self.asked_ms) >= KEEP_MS;
        if keeps {
            let refused = std::mem::take(&mut self.refused);
            self.more.extend(refused);
        }
        let wanted = keeps || !self.more.is_empty() || (self.has_begun && !self.fewer.is_empty());
        if !self.is_linked || self.under_way.is_some() || !wanted {
            return None;
        }
        let begins = !self.has_begun;
        if begins {
            *streams += 1;
            self.stream = *streams;
            self.has_begun = true;
        }
        let more = take(&mut self.more);
        self.under_way = Some(more.clone());
        self.asked_ms = now_ms;
        Some(Asking { stream: self.stream, begins, more, fewer: take(&mut self.fewer) })
    }

    /// Whether that is the stream which has begun.
    pub(super) fn has_stream(&self, stream: u64) -> bool {
        self.has_begun && self.stream == stream
    }

    /// The question of a stream has been answered: its users.
    pub(super) fn answered(&mut self, stream: u64) -> Option<Vec<Name>> {
        if !self.has_stream(stream) {
            return None;
        }
        self.silent_since_ms = None;
        self.is_given_up = false;
        self.under_way.take()
    }

    /// It would not tell us of that user.
    pub(super) fn refused(&mut self, user: Name) {
        self.refused.push(user);
    }
}

/// Takes some.
fn take(names: &mut BTreeSet<Name>) -> Vec<Name> {
    let mut taken = Vec::new();
    while taken.len() < AT_ONCE
        && let Some(name) = names.pop_first()
    {
        taken.push(name);
    }
    taken
}
