//! The ring in etcd: nodes announce themselves, and keep the ring object by compare-and-swap.
//!
//! Below the prefix (`/ringsteer/`) there are
//! * `members/<identity>`: `{"address":"198.51.100.11","state":"active"}`, for each node that is there; it goes when
//!   the node's lease does;
//! * `ring`: the ring object, written by whichever node is first to see that it should change.
//!
//! A [`Session`] is one connection to one of etcd's members, with a lease of its own, all keys read,
//! and a watch on what changes after that. Whatever goes wrong ends the session, and the next one, with the next of
//! etcd's members, begins by reading everything: so an outage, a restart, a compaction under the watch and a lost lease
//! all end the same way, and nothing is missed. A node that stops takes nothing back; one that comes back before its
//! lease and the grace period end has not been away.
//!
//! | file | subject |
//! |---|---|
//! | `view` | what stands in etcd, pure |
//! | `session` | one connection, from its beginning to what ends it |
//! | `connect` | addresses, passwords, certificates |

mod connect;
mod session;
#[cfg(test)]
mod tests;
mod view;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::debug;

use self::session::{End, Session};
use super::{
    Announcement, Event, Order, Source,
    pace::{Backoff, Jitter},
    reconcile::Reconciler,
};
use crate::{
    config::Etcd,
    ring::{MemberState, Ring},
};

/// Waits between sessions, the first and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Follows etcd, and announces this node there.
#[derive(Debug)]
pub struct EtcdSource {
    config: Etcd,
    this: Announcement,
    known: Option<Ring>,
}

/// What outlives a session.
struct Running {
    config: Etcd,
    this: Announcement,
    state: watch::Receiver<MemberState>,
    told: mpsc::Sender<Event>,
    order: Order,
    reconciler: Reconciler,
    jitter: Jitter,
    /// Where the reconciler's clock begins.
    started: Instant,
    /// Sessions that ended before they could be used, one after the other.
    failures: usize,
}

// === impl EtcdSource ===

impl EtcdSource {
    /// Follows the etcd that `config` describes, as the node `this`.
    pub fn new(config: Etcd, this: Announcement) -> Self {
        Self { config, this, known: None }
    }

    async fn run(self, state: watch::Receiver<MemberState>, told: mpsc::Sender<Event>) {
        let mut reconciler = Reconciler::new(self.config.new_ring);
        let mut order = Order::default();
        if let Some(ring) = self.known {
            order.remember(&ring);
            reconciler.remember(ring);
        }
        let mut running = Running {
            config: self.config,
            this: self.this,
            state,
            told: told.clone(),
            order,
            reconciler,
            jitter: Jitter::random(),
            started: Instant::now(),
            failures: 0,
        };
        tokio::select! {
            () = running.sessions() => {}
            () = told.closed() => {}
        }
    }
}

impl Source for EtcdSource {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn remember(&mut self, ring: Ring) {
        self.known = Some(ring);
    }

    fn follow(
        self: Box<Self>,
        state: watch::Receiver<MemberState>,
        told: mpsc::Sender<Event>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(self.run(state, told))
    }
}

// === impl Running ===

impl Running {
    /// One session after the other, until nobody listens any more.
    async fn sessions(&mut self) {
        let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1, self.jitter.clone());
        let endpoints = self.config.endpoints.clone();
        for endpoint in endpoints.iter().cycle() {
            let end = match Session::open(self, endpoint).await {
                Ok(session) => {
                    self.failures = 0;
                    backoff.reset();
                    session.run(self).await
                }
                Err(end) => end,
            };
            match end {
                End::Unlistened => return,
                End::Anew(why) => debug!(endpoint, "a new session with etcd: {why}"),
                End::Failed(error) => {
                    self.failures += 1;
                    debug!(endpoint, "a session with etcd ended: {error}");
                    // One of etcd's members may well be away while the others go on.
                    if self.failures >= endpoints.len() {
                        let all = endpoints.join(", ");
                        let what = format!("etcd ({all}) cannot be reached: {error}; the last ring stays in force");
                        if let Some(event) = self.order.unreachable(what)
                            && self.told.send(event).await.is_err()
                        {
                            return;
                        }
                    }
                }
            }
            sleep(backoff.wait()).await;
        }
    }
}
