//! Whether all sessions here are ours by the present ring. Once they are, other nodes need not ask us any more before they
//! call a user of theirs offline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::lock;
use crate::{control::Published, gateway::Shared, ring::RingName};

/// How long a ring must have been in force: a session may just be beginning that was let in by the one before.
const QUIET: Duration = Duration::from_secs(1);

/// How often to look, while it is not so.
const PAUSE: Duration = Duration::from_millis(500);

/// What was found last.
#[derive(Debug, Default)]
pub(super) struct Settled {
    ring: Option<RingName>,
    /// When we first saw the ring in force here.
    since: Option<Instant>,
    looked: Option<Instant>,
    yes: bool,
}

impl Shared {
    /// The ring by which all our sessions are ours, if it is so.
    pub(in crate::gateway) fn settled(&self, published: &Arc<Published>) -> Option<RingName> {
        let name = published.ring.name();
        let now = Instant::now();
        let mut settled = lock(&self.pushes.settled);
        if settled.ring != Some(name) {
            *settled = Settled { ring: Some(name), since: Some(now), looked: None, yes: false };
        }
        let quiet = settled.since.is_some_and(|since| now.duration_since(since) >= QUIET);
        let again = settled.looked.is_none_or(|looked| now.duration_since(looked) >= PAUSE);
        if !settled.yes && quiet && again {
            settled.looked = Some(now);
            settled.yes = !self.sessions().any_user(|user| !published.is_ours(user));
        }
        settled.yes.then_some(name)
    }
}
