//! The gateways' links: questions, answers and notices of any size.
//!
//! Whoever has something to ask describes it by a type ([`Question`] or [`Notice`]) and whoever answers registers for
//! it ([`Handlers`]). Messages are `postcard`. They go in pieces of at most 32 KiB, in one of two [lanes](Lane), so that
//! a large one holds up no small one.
//!
//! What is kept, and what is not:
//!
//! * What one side sends over one lane of one link is handled in the order in which it was sent: handlers are called one
//!   after the other, their answers come when they come. Between the lanes, and between two links, there is no order.
//!   A link that broke and was made again is two links.
//! * A question is asked once. If its link ends before the answer, it may or may not have been handled
//!   ([`AskError::may_have_arrived`]); asking again is for whoever knows that it does no harm.
//! * Whoever asks waits while too much is under way on the link (back-pressure), at most for as long as it has patience.
//! * A process is known by its [`Incarnation`]. It dials only once it has its port, which no two processes of a node
//!   have at one time, and keeps the port to its end. So another incarnation's hello proves that the one before has
//!   ended ([`Lives`]).
//!
//! | file | subject |
//! |---|---|
//! | `subject` | what can be asked and told |
//! | `handlers` | who answers |
//! | `envelope` | messages as bytes; pure |
//! | `lanes` | messages in pieces; pure |
//! | `lives` | which process of each node has been heard; pure |
//! | `link` | one link's part |

mod envelope;
mod handlers;
mod lanes;
mod link;
mod lives;
mod subject;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use self::{
    envelope::Outcome,
    link::{Line, LinkPart, Outgoing},
};
pub use self::{
    handlers::{Handlers, Peer},
    lanes::{Lane, MAX_BULK, MAX_PROMPT},
    lives::{Life, Lives},
    subject::{Notice, Question, Subject},
};
pub use super::message::Incarnation;
use super::{
    counters::{Counts, Way},
    key::LinkKeys,
    message::Hello,
    network::{Dialled, OpenLinks, Shared, Speech, Tasks, Why, clock_ms},
    view::View,
};
use crate::{random::Spread, ring::NodeAddress};

/// What the links are made of and connected to.
pub struct Wiring {
    /// TCP port of all nodes' gateways.
    pub port: u16,
    /// Who is who; may change at any time. See [`View::of_gateway`].
    pub view: watch::Receiver<Arc<View>>,
    /// The keys that are valid; may change at any time.
    pub keys: watch::Receiver<Arc<LinkKeys>>,
    /// Who answers.
    pub handlers: Handlers,
}

/// The links of this node's gateway, to ask and to tell the others. They end when the last of its clones is dropped.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared<Gateways>>,
    _tasks: Arc<Tasks>,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct To {
    /// The node.
    pub node: NodeAddress,
    /// The process, if it must be that one and no later one.
    pub incarnation: Option<Incarnation>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No link is up. It was not asked; later may do.
    #[error("there is no link to it")]
    NoLink,
    /// The process that was meant is not there any more. It was not asked, and never will be.
    #[error("the process that was meant has been replaced")]
    OtherIncarnation,
    /// The question is longer than its lane allows. Ours to mend.
    #[error("the message is too long for its lane")]
    TooLong,
    /// The other side does more already than it can. It was not handled; later may do.
    #[error("it is too busy")]
    Busy,
    /// The other side does not know such questions, or cannot read this one. Its version is another.
    #[error("it does not understand")]
    NotUnderstood,
    /// The link ended before the answer. It may have been handled.
    #[error("the link ended before the answer")]
    LinkEnded,
    /// There was no answer in time. It may have been handled, or may still be.
    #[error("it did not answer in time")]
    TimedOut,
    /// The other side failed at it.
    #[error("it failed")]
    Failed,
}

/// What gateways have to say to each other.
struct Gateways {
    incarnation: Incarnation,
    handlers: Handlers,
    open: OpenLinks<Arc<Line>>,
    lives: watch::Sender<Lives>,
}

// === impl Links ===

impl Links {
    /// Dials the other members and takes their links, from now on. Must be called within a tokio runtime.
    pub fn start(wiring: Wiring) -> Self {
        let Wiring { port, view, keys, handlers } = wiring;
        let gateways = Gateways {
            incarnation: Incarnation { started_ms: clock_ms(), number: Spread::seed() },
            handlers,
            open: OpenLinks::default(),
            lives: watch::Sender::new(Lives::default()),
        };
        let shared = Arc::new(Shared::new(port, view, keys, gateways));
        let tasks = Arc::new(shared.start());
        Self { shared, _tasks: tasks }
    }

    /// Asks, and waits for the answer for as long as `patience` lasts.
    ///
    /// # Errors
    /// If there is no answer; the error says whether the question may have been handled all the same.
    pub async fn ask<Q: Question>(
        &self,
        to: impl Into<To>,
        question: &Q,
        patience: Duration,
    ) -> Result<Q::Answer, AskError> {
        let body: Bytes = postcard::to_stdvec(question).map_err(|_| AskError::TooLong)?.into();
        if body.len() > Q::LANE.max_body() {
            return Err(AskError::TooLong);
        }
        let line = self.line(to.into())?;
        let asked = async {
            let _place = line.questions.acquire().await.map_err(|_| AskError::NoLink)?;
            let (answer, answered) = oneshot::channel();
            let outgoing = Outgoing { subject: Q::SUBJECT, body, answer: Some(answer) };
            line.lane(Q::LANE).send(outgoing).await.map_err(|_| AskError::NoLink)?;
            answered.await.map_err(|_| AskError::LinkEnded)
        };
        let (outcome, body) = timeout(patience, asked).await.map_err(|_| AskError::TimedOut)??;
        match outcome {
            Outcome::Done => postcard::from_bytes(&body).map_err(|_| AskError::NotUnderstood),
            Outcome::NotUnderstood => Err(AskError::NotUnderstood),
            Outcome::Busy => Err(AskError::Busy),
            Outcome::Failed => Err(AskError::Failed),
        }
    }

    /// Tells something to which there is no answer. Returns when it is on its way, after everything that was told before
    /// over the same lane.
    ///
    /// # Errors
    /// If it could not be sent.
    pub async fn tell<N: Notice>(&self, to: impl Into<To>, notice: &N) -> Result<(), AskError> {
        let body: Bytes = postcard::to_stdvec(notice).map_err(|_| AskError::TooLong)?.into();
        if body.len() > N::LANE.max_body() {
            return Err(AskError::TooLong);
        }
        let line = self.line(to.into())?;
        let outgoing = Outgoing { subject: N::SUBJECT, body, answer: None };
        line.lane(N::LANE).send(outgoing).await.map_err(|_| AskError::NoLink)
    }

    /// Which processes have been heard, and which have ended. Follows what happens.
    pub fn lives(&self) -> watch::Receiver<Lives> {
        self.shared.speech.lives.subscribe()
    }

    /// This process, as the others know it.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.speech.incarnation
    }

    /// What happened on the links so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }

    /// The nodes to which a link is up.
    pub fn linked(&self) -> usize {
        self.shared.speech.lives.borrow().linked()
    }

    /// The line to a node's present process, our own link first.
    fn line(&self, to: To) -> Result<Arc<Line>, AskError> {
        let gateways = &self.shared.speech;
        let present = {
            let lives = gateways.lives.borrow();
            if to.incarnation.is_some_and(|incarnation| lives.has_ended(to.node, incarnation)) {
                return Err(AskError::OtherIncarnation);
            }
            lives.of(to.node).map(|life| life.incarnation).ok_or(AskError::NoLink)?
        };
        let wanted = to.incarnation.unwrap_or(present);
        let lines = gateways.open.to(to.node);
        lines.into_iter().find(|line| line.incarnation == wanted).ok_or(AskError::NoLink)
    }
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("incarnation", &self.incarnation()).finish_non_exhaustive()
    }
}

// === impl To ===

impl From<NodeAddress> for To {
    fn from(node: NodeAddress) -> Self {
        Self { node, incarnation: None }
    }
}

// === impl AskError ===

impl AskError {
    /// Whether the question may have been handled although there is no answer.
    pub fn may_have_arrived(self) -> bool {
        matches!(self, Self::LinkEnded | Self::TimedOut | Self::Failed)
    }
}

// === impl Gateways ===

impl Speech for Gateways {
    const OTHERS: &'static str = "other gateways";
    const PORT_KEY: &'static str = "gateway_port";
    const LISTEN_FIRST: bool = true;
    type Part = LinkPart;

    fn incarnation(&self) -> Option<Incarnation> {
        Some(self.incarnation)
    }

    async fn open(shared: &Arc<Shared<Self>>, peer: NodeAddress, way: Way, hello: Hello) -> Result<LinkPart, Why> {
        let incarnation = hello.incarnation.ok_or(Why::Order)?;
        let peer = Peer { node: peer, incarnation, identity: hello.identity, number: hello.number };
        LinkPart::open(shared, peer, way)
    }

    async fn dialled(&self, to: NodeAddress, how: Dialled) {
        if how.refused {
            self.lives.send_if_modified(|lives| lives.refused(to));
        }
    }
}
