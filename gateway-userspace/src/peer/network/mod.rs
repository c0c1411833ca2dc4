//! The sockets around the links.
//!
//! | file | subject |
//! |---|---|
//! | `dial` | keeping a link up to every other member |
//! | `accept` | taking links from them, and from nobody else |
//! | `talk` | one link on its socket, from the first byte to the last |
//! | `open` | the links that are up, and asking over them |

mod accept;
mod dial;
mod open;
mod talk;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use self::open::OpenLinks;
use super::{
    agreement::LinkStatus,
    counters::{Counters, Counts},
    key::LinkKeys,
    message::{Answer, Hello, PROTOCOL, Question, State},
    view::View,
};
use crate::ring::{NodeAddress, RingName};

/// What the links are made of and connected to.
pub struct Wiring {
    /// TCP port of all nodes.
    pub port: u16,
    /// Who is who; may change at any time.
    pub view: watch::Receiver<Arc<View>>,
    /// The keys that are valid; may change at any time.
    pub keys: watch::Receiver<Arc<LinkKeys>>,
    /// The rings that our agent and our gateway have; a change is told to everybody at once.
    pub rings: watch::Receiver<(Option<RingName>, Option<RingName>)>,
    /// Where to put what was heard.
    pub heard: mpsc::Sender<Heard>,
    /// Answers the others' questions.
    pub desk: Arc<dyn Desk>,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A link is open, and this is what the other end said first.
    Greeting(NodeAddress, Hello),
    /// How a node is, and our own clock (CLOCK_TAI in milliseconds) when it said so.
    State(NodeAddress, State, i64),
    /// How the link is that we make to a node.
    Link(NodeAddress, LinkStatus),
}

/// Answers questions that come over links.
pub trait Desk: Send + Sync + 'static {
    /// Answers `question`.
    fn answer(&self, question: Question) -> BoxFuture<'static, Answer>;
}

/// The links of this node. They end when it is dropped.
pub struct Network {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

/// What all links share.
struct Shared {
    port: u16,
    view: watch::Receiver<Arc<View>>,
    keys: watch::Receiver<Arc<LinkKeys>>,
    rings: watch::Receiver<(Option<RingName>, Option<RingName>)>,
    heard: mpsc::Sender<Heard>,
    desk: Arc<dyn Desk>,
    counters: Counters,
    open: OpenLinks,
    started: Instant,
}

/// Dials the other members and takes their links, from now on. Must be called within a tokio runtime.
pub fn start(wiring: Wiring) -> Network {
    let Wiring { port, view, keys, rings, heard, desk } = wiring;
    let shared = Arc::new(Shared {
        port,
        view,
        keys,
        rings,
        heard,
        desk,
        counters: Counters::default(),
        open: OpenLinks::default(),
        started: Instant::now(),
    });
    let tasks = [tokio::spawn(dial::keep(Arc::clone(&shared))), tokio::spawn(accept::keep(Arc::clone(&shared)))];
    Network { shared, tasks }
}

// === impl Network ===

impl Network {
    /// Asks the node at `address`.
    ///
    /// # Errors
    /// If there is no link to it, or it does not answer.
    pub async fn ask(&self, address: NodeAddress, question: Question) -> Result<Answer, String> {
        self.shared.open.ask(address, question).await
    }

    /// What happened on the links so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

// === impl Shared ===

impl Shared {
    /// What we say first.
    fn hello(&self) -> Hello {
        let member = self.view.borrow().member.clone();
        let (identity, number) = member.map(|(identity, number)| (identity.to_string(), number)).unzip();
        Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").into(), identity, number, clock_ms: clock_ms() }
    }

    /// How we are.
    fn state(&self, (agent, gateway): (Option<RingName>, Option<RingName>)) -> State {
        let Hello { identity, number, clock_ms, .. } = self.hello();
        let uptime_ms = self.started.elapsed().as_millis() as u64;
        State { identity, number, agent, gateway, uptime_ms, clock_ms }
    }

    /// Passes on what was heard.
    async fn tell(&self, heard: Heard) {
        // Nobody listens any more when the agent stops.
        let _ = self.heard.send(heard).await;
    }
}

/// CLOCK_TAI in milliseconds: what the cookies are timed by.
fn clock_ms() -> i64 {
    clock_gettime(ClockId::CLOCK_TAI).map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
}
