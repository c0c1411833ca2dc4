//! Sessions that go from node to node, as the ring says: the shell around `ringsteer_handoff` (see `docs/handoff.md`).
//!
//! One task per gateway holds the state machine. It hears of rings, of the other gateways' lives and words, and of what
//! became of what it wanted done; it never waits for any of that.
//!
//! | file | subject |
//! |---|---|
//! | `runner` | the task: events in, actions begun |
//! | `piece` | a session in one of its states: socket and data, by the core's name for it |
//! | `remains` | what stays here for a moment of a connection that has moved on |
//! | `steps` | what an action takes: taking out, putting in, going on |
//! | `silence` | how long sessions are silent while they move |
//! | `diary` | what of that stands in the log |
//! | `agent` | the requests to the agent, in order and in batches |
//! | `claims` | the requests to other nodes' agents, where the old owner has ended |
//! | `fleet` | which gateways there are, and what is said to them |
//! | `force` | who may be let in, and who may have sessions, while a ring spreads |
//! | `word` | the form in which that travels |
//! | `misheard` | what of it cannot be taken in |
//!
//! Promise 3: a ring change disconnects nobody.
#![forbid(unsafe_code)]

mod agent;
mod claims;
mod diary;
mod fleet;
mod force;
mod misheard;
mod piece;
mod remains;
mod runner;
mod silence;
mod steps;
mod word;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use self::misheard::Misheard;
use ringsteer_handoff::name::Epoch;
pub use ringsteer_handoff::{Limits, Progress, Refusals};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use self::{force::Force, word::Heard};
pub use self::{remains::LIFE as REMAINS_LIFE, silence::Silence};
use crate::{
    control::{Order, Published},
    gateway::moving::Sessions,
    peer::gateways::{Handlers, Links},
    ring::NodeAddress,
};

/// Words of others that may wait to be heard. What is too much is dropped, and said again.
const HEARD_AHEAD: usize = 4096;

/// What others say about moves, from the links' handlers to the task.
#[derive(Debug)]
pub struct Ears {
    heard: mpsc::Receiver<Heard>,
    misheard: Arc<Misheard>,
}

/// What the task needs.
#[derive(Debug)]
pub struct Wiring {
    /// The gateway's sessions.
    pub sessions: Sessions,
    /// The links to the others.
    pub links: Links,
    /// What they say.
    pub ears: Ears,
    /// The ring.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The agent's socket.
    pub agent: PathBuf,
    /// Largest message of a client: what a session that comes must fit into.
    pub max_message: usize,
    /// How many, how fast and how long.
    pub limits: Limits,
}

/// The task. It ends when this is dropped; sessions in motion end with it.
#[derive(Debug)]
pub struct Moves {
    handle: Handle,
    task: JoinHandle<()>,
}

/// For who looks on, and gives orders.
#[derive(Clone, Debug)]
pub struct Handle {
    progress: watch::Receiver<Progress>,
    silence: Silence,
    force: Force,
    orders: mpsc::Sender<Ordered>,
}

/// An order, and whom to tell when it is obeyed.
type Ordered = (Order, oneshot::Sender<()>);

/// Has the words of others heard, and counts those that cannot be.
pub fn ears(handlers: &mut Handlers, misheard: &Arc<Misheard>) -> Ears {
    let (sender, heard) = mpsc::channel(HEARD_AHEAD);
    word::hear(handlers, &sender, misheard);
    Ears { heard, misheard: Arc::clone(misheard) }
}

/// Starts the task. Must be called within a tokio runtime.
pub fn start(wiring: Wiring) -> Moves {
    let (progress, seen) = watch::channel(Progress::default());
    let (orders, ordered) = mpsc::channel(16);
    let (telling, force) = force::channel();
    let silence = Silence::new();
    let task = tokio::spawn(runner::run(wiring, progress, silence.clone(), telling, ordered));
    Moves { handle: Handle { progress: seen, silence, force, orders }, task }
}

// === impl Moves ===

impl Moves {
    /// For who looks on, and gives orders.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// How far the moves have come.
    pub fn progress(&self) -> Progress {
        self.handle.progress()
    }

    /// Returns when nothing is in motion here, and no more than those that cannot move are to be moved from here, of which
    /// `foreign` counts what there is; or after `limit`.
    pub async fn finish(&self, limit: Duration, foreign: impl Fn() -> usize) {
        let mut progress = self.handle.progress.clone();
        let finished = async {
            loop {
                let now = *progress.borrow_and_update();
                let moving = now.waiting + now.moving + now.committed + now.copies;
                if moving == 0 && foreign() <= now.stranded {
                    return;
                }
                // Sessions may end by themselves before the task has noticed them.
                if let Ok(Err(_)) = timeout(runner::LOOK, progress.changed()).await {
                    return;
                }
            }
        };
        // What has not moved in time stays.
        let _ = timeout(limit, finished).await;
    }

    /// Moves nothing any more; returns when whatever was not decided is back where it was, or after `limit`.
    pub async fn stop(&self, limit: Duration) {
        let mut progress = self.handle.progress.clone();
        let stopped = async {
            self.handle.order(Order::Stop).await;
            // The task has ended: then nothing moves.
            let _ = progress.wait_for(|now| now.moving == 0).await;
        };
        let _ = timeout(limit, stopped).await;
    }
}

// === impl Handle ===

impl Handle {
    /// How far the moves have come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// How long sessions that went from here have been silent.
    pub fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Whether all others know that the published ring is followed here, so that they look here for the users it brings.
    pub fn is_in_force(&self, published: &Published) -> bool {
        self.force.has(published)
    }

    /// Returns when they do, or when the ring has been followed here for `limit`: who is out of reach cannot be waited for.
    pub async fn comes_into_force(&self, published: &Published, limit: Duration) {
        self.force.clone().wait(Epoch(published.ring.epoch().0), limit).await;
    }

    /// The nodes that follow a later ring than this one, as far as they have said: they may have any user's session.
    pub fn ahead(&self) -> Vec<NodeAddress> {
        self.force.ahead()
    }

    /// The same, as it changes.
    pub fn followed_ahead(&self) -> watch::Receiver<Vec<NodeAddress>> {
        self.force.followed_ahead()
    }

    /// Gives an order, and returns when it is obeyed; false if nothing is moved any more.
    pub async fn order(&self, order: Order) -> bool {
        let (obeyed, done) = oneshot::channel();
        self.orders.send((order, obeyed)).await.is_ok() && done.await.is_ok()
    }
}

impl Drop for Moves {
    fn drop(&mut self) {
        self.task.abort();
    }
}
