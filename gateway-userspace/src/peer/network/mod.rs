//! The sockets around the links, whoever talks over them.
//!
//! | file | subject |
//! |---|---|
//! | `speech` | what there is to say: the part of agents, or of gateways |
//! | `dial` | keeping a link up to every other member |
//! | `accept` | taking links from them, and from nobody else |
//! | `talk` | one link on its socket, from the first byte to the last |
//! | `why` | why a link ended |
//! | `open` | the links that are up |

mod accept;
mod dial;
mod open;
mod speech;
mod talk;
mod why;

use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, task::JoinHandle};

pub(super) use self::{
    open::{OpenLinks, OpenPlace},
    speech::{Dialled, Part, Speech},
    why::Why,
};
use super::{
    counters::Counters,
    key::LinkKeys,
    message::{Hello, PROTOCOL},
    view::View,
};

/// What all links of one kind share.
pub(super) struct Shared<S> {
    /// TCP port of all nodes.
    pub(super) port: u16,
    /// Who is who; may change at any time.
    pub(super) view: watch::Receiver<Arc<View>>,
    /// The keys that are valid; may change at any time.
    pub(super) keys: watch::Receiver<Arc<LinkKeys>>,
    /// What happened so far.
    pub(super) counters: Counters,
    /// What there is to say.
    pub(super) speech: S,
    /// Whether we have our port, and so no other process of this node has it.
    listening: watch::Sender<bool>,
}

/// The tasks of all links. The links end when it is dropped.
pub(super) struct Tasks([JoinHandle<()>; 2]);

// === impl Shared ===

impl<S: Speech> Shared<S> {
    pub(super) fn new(
        port: u16,
        view: watch::Receiver<Arc<View>>,
        keys: watch::Receiver<Arc<LinkKeys>>,
        speech: S,
    ) -> Self {
        Self { port, view, keys, counters: Counters::default(), speech, listening: watch::Sender::new(false) }
    }

    /// Dials the other members and takes their links, from now on. Must be called within a tokio runtime.
    pub(super) fn start(self: &Arc<Self>) -> Tasks {
        Tasks([tokio::spawn(dial::keep(Arc::clone(self))), tokio::spawn(accept::keep(Arc::clone(self)))])
    }

    /// What we say first.
    pub(super) fn hello(&self) -> Hello {
        let member = self.view.borrow().member.clone();
        let (identity, number) = member.map(|(identity, number)| (identity.to_string(), number)).unzip();
        Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            identity,
            number,
            clock_ms: clock_ms(),
            incarnation: self.speech.incarnation(),
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// CLOCK_TAI in milliseconds: what the cookies are timed by.
pub(super) fn clock_ms() -> i64 {
    clock_gettime(ClockId::CLOCK_TAI).map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
}
