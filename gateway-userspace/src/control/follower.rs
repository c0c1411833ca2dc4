//! Staying on the published ring: whatever happens to the agent, its last ring stays in force (promises 1 and 4).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Agent, ClientError, Listener, Speaker},
    message::{Answer, Introduction, MovesReport, Order, Publication, Question, Report, Request, Told},
};
use crate::{
    config::Service,
    ring::{Member, MemberNumber, NodeAddress, Ring},
    session::entry::SessionEntry,
};

/// How long to wait before the first attempt to reach the agent again; twice as long before each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// How often a gateway looks whether there is anything new to report.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a gateway reports, whether or not anything has changed.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Answers that may wait to be sent.
const ANSWERS_AHEAD: usize = 16;

/// What the agent has published, verified.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which member of the ring this node is, if it is one.
    pub node: Option<MemberNumber>,
    /// Where packets to this node go, if that is known.
    pub address: Option<NodeAddress>,
    /// The ring in force.
    pub ring: Ring,
    /// The ring before it, if there was one. A user may still be where that has them.
    pub previous: Option<Ring>,
    /// What is steered by it.
    pub services: Vec<Service>,
}

/// Follows what the local agent publishes, until dropped. Our own number and the ring come together, so nobody can
/// compare the one with another version of the other.
#[derive(Debug)]
pub struct Follower {
    published: watch::Receiver<Option<Arc<Published>>>,
    task: JoinHandle<()>,
}

/// A follower to be: has everything but a task.
#[derive(Debug)]
pub struct Prepared {
    socket: PathBuf,
    published: watch::Sender<Option<Arc<Published>>>,
}

/// The gateway, as far as its agent wants to know. None of the methods may block.
pub trait Reporter: Send + Sync + 'static {
    /// How many users there are, and how many sessions they have.
    fn users_and_sessions(&self) -> (u64, u64);

    /// Completes when the gateway has been told to stop; at once if that was before.
    fn leaving(&self) -> CancellationToken;

    /// How the moves of its sessions go, after `order` has been obeyed; none if nothing is moved now.
    fn moves(&self, order: Option<Order>) -> BoxFuture<'static, Option<MovesReport>>;

    /// The sessions of a user.
    fn sessions_of(&self, user: &str) -> Vec<SessionEntry>;
}

// === impl Published ===

impl Published {
    /// The member that owns `key`.
    pub fn owner(&self, key: &[u8]) -> &Member {
        self.ring.owner(key)
    }

    /// Whether this node owns `key`.
    pub fn is_ours(&self, key: &[u8]) -> bool {
        self.node == Some(self.owner(key).number)
    }
}

impl TryFrom<Publication> for Published {
    type Error = super::message::PublicationError;

    fn try_from(publication: Publication) -> Result<Self, Self::Error> {
        let (ring, previous) = (publication.verified_ring()?, publication.previous_ring()?);
        let Publication { node, address, services, .. } = publication;
        Ok(Self { node, address, ring, previous, services })
    }
}

// === impl Follower ===

impl Follower {
    /// Follows the agent that listens on `socket`, now or some day. Must be called within a tokio runtime.
    pub fn start(socket: impl Into<PathBuf>) -> Self {
        Self::prepare(socket).follow()
    }

    /// A follower that is not started yet.
    pub fn prepare(socket: impl Into<PathBuf>) -> Prepared {
        Prepared { socket: socket.into(), published: watch::Sender::new(None) }
    }

    /// What is in force, for keeping: `None` until an agent has been heard, and never again after that.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// The ring now in force, if an agent has been heard.
    pub fn ring(&self) -> Option<Ring> {
        self.published.borrow().as_ref().map(|published| published.ring.clone())
    }

    /// Which member this node is, if an agent has been heard and the ring has it.
    pub fn node(&self) -> Option<MemberNumber> {
        self.published.borrow().as_ref().and_then(|published| published.node)
    }

    /// What is in force, as soon as an agent has been heard.
    pub async fn first(&self) -> Arc<Published> {
        let mut published = self.published.clone();
        let first =
            published.wait_for(Option::is_some).await.expect("the follower's task lives as long as the follower");
        first.clone().expect("waited for")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Prepared ===

impl Prepared {
    /// What will be in force.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.subscribe()
    }

    /// Follows and says nothing. Must be called within a tokio runtime.
    pub fn follow(self) -> Follower {
        self.start(None)
    }

    /// Follows as the gateway of the node, which reports to the agent and answers its questions. Must be called within
    /// a tokio runtime.
    pub fn attach(self, gateway: Arc<dyn Reporter>) -> Follower {
        self.start(Some(gateway))
    }

    fn start(self, gateway: Option<Arc<dyn Reporter>>) -> Follower {
        let published = self.published();
        Follower { published, task: tokio::spawn(keep_following(self.socket, self.published, gateway)) }
    }
}

async fn keep_following(
    socket: PathBuf,
    published: watch::Sender<Option<Arc<Published>>>,
    gateway: Option<Arc<dyn Reporter>>,
) {
    let mut backoff = FIRST_BACKOFF;
    // Said once, not at every attempt.
    let mut complaint = String::new();
    loop {
        let heard = || {
            // This agent is well, whatever happened before.
            backoff = FIRST_BACKOFF;
            complaint.clear();
        };
        let error = match &gateway {
            None => follow(&socket, &published, heard).await,
            Some(gateway) => attach(&socket, &published, Arc::clone(gateway), heard).await,
        };
        let error = error.to_string();
        if error != complaint {
            tracing::warn!("{error}; the last ring stays in force");
            complaint = error;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Follows the agent until that fails, and says why.
async fn follow(
    socket: &Path,
    published: &watch::Sender<Option<Arc<Published>>>,
    mut heard: impl FnMut(),
) -> ClientError {
    let mut agent = match Agent::ask(socket, &Request::Follow {}).await {
        Ok(agent) => agent,
        Err(error) => return error,
    };
    loop {
        match agent.answer().await {
            Ok(Answer::Publication(publication)) => match Published::try_from(publication) {
                Ok(next) => accept(published, next),
                Err(error) => return error.into(),
            },
            Ok(_) => return ClientError::Unexpected,
            Err(error) => return error,
        }
        heard();
    }
}

/// The same as the gateway of the node.
async fn attach(
    socket: &Path,
    published: &watch::Sender<Option<Arc<Published>>>,
    gateway: Arc<dyn Reporter>,
    heard: impl FnMut(),
) -> ClientError {
    let introduction = Introduction { version: env!("CARGO_PKG_VERSION").into(), pid: std::process::id() };
    let Agent { listener, speaker } = match Agent::ask(socket, &Request::Attach(introduction)).await {
        Ok(agent) => agent,
        Err(error) => return error,
    };
    let (answers, to_say) = mpsc::channel(ANSWERS_AHEAD);
    tokio::select! {
        error = listen(listener, published, &*gateway, answers, heard) => error,
        error = speak(speaker, published.subscribe(), &*gateway, to_say) => error,
    }
}

/// Takes in what the agent publishes and asks, until that fails.
async fn listen(
    mut agent: Listener,
    published: &watch::Sender<Option<Arc<Published>>>,
    gateway: &dyn Reporter,
    answers: mpsc::Sender<Told>,
    mut heard: impl FnMut(),
) -> ClientError {
    loop {
        match agent.answer().await {
            Ok(Answer::Publication(publication)) => match Published::try_from(publication) {
                Ok(next) => accept(published, next),
                Err(error) => return error.into(),
            },
            Ok(Answer::Question(Question::Sessions { id, user })) => {
                let told = Told::Sessions { id, sessions: gateway.sessions_of(&user) };
                if answers.send(told).await.is_err() {
                    return ClientError::HungUp;
                }
            }
            Ok(Answer::Question(Question::Moves { id, order })) => {
                // Rings are heard meanwhile.
                let (moves, answers) = (gateway.moves(order), answers.clone());
                tokio::spawn(async move {
                    // Nobody waits any more if the agent has hung up.
                    let _ = answers.send(Told::Moves { id, moves: moves.await }).await;
                });
            }
            Ok(_) => return ClientError::Unexpected,
            Err(error) => return error,
        }
        heard();
    }
}

/// Reports to the agent and answers its questions, until that fails.
async fn speak(
    mut agent: Speaker,
    mut published: watch::Receiver<Option<Arc<Published>>>,
    gateway: &dyn Reporter,
    mut to_say: mpsc::Receiver<Told>,
) -> ClientError {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reports = Reports::default();
    let leaving = gateway.leaving();
    let mut leaves = leaving.is_cancelled();
    loop {
        let answer = tokio::select! {
            Some(answer) = to_say.recv() => Some(answer),
            changed = published.changed() => match changed {
                Ok(()) => None,
                Err(_) => return ClientError::HungUp,
            },
            () = leaving.cancelled(), if !leaves => {
                leaves = true;
                None
            }
            _ = looks.tick() => None,
        };
        if let Some(told) = answer.or_else(|| reports.due(report(&mut published, gateway), Instant::now()))
            && let Err(error) = agent.tell(&told).await
        {
            return error;
        }
    }
}

/// How the gateway is now.
fn report(published: &mut watch::Receiver<Option<Arc<Published>>>, gateway: &dyn Reporter) -> Report {
    let ring = published.borrow_and_update().as_ref().map(|published| published.ring.name());
    let (users, sessions) = gateway.users_and_sessions();
    Report { ring, users, sessions, leaving: gateway.leaving().is_cancelled() }
}

/// What has been reported.
#[derive(Debug, Default)]
struct Reports {
    last: Option<(Report, Instant)>,
}

// === impl Reports ===

impl Reports {
    /// What is to be told: the report, if it says anything new or the last one is [`REPORT_INTERVAL`] old.
    fn due(&mut self, report: Report, now: Instant) -> Option<Told> {
        let known = |(last, at): &(Report, Instant)| *last == report && now.duration_since(*at) < REPORT_INTERVAL;
        if self.last.as_ref().is_some_and(known) {
            return None;
        }
        self.last = Some((report.clone(), now));
        Some(Told::Report(report))
    }
}

/// Puts `next` in force. The agent has put it into the kernel, so we take it even if its epoch looks wrong: with two
/// rings on one node nobody would be right.
fn accept(published: &watch::Sender<Option<Arc<Published>>>, next: Published) {
    published.send_if_modified(|present| {
        if let Some(present) = present {
            let (old, new) = (&present.ring, &next.ring);
            let same_ring = old.name() == new.name();
            let same_place = present.node == next.node && present.address == next.address;
            if same_ring && same_place && present.services == next.services {
                return false;
            }
            if new.epoch() < old.epoch() || (new.epoch() == old.epoch() && !same_ring) {
                tracing::warn!(
                    "the agent replaces ring {} of epoch {} by ring {} of epoch {}; a new ring needs a higher epoch",
                    old.digest().short(),
                    old.epoch(),
                    new.digest().short(),
                    new.epoch(),
                );
            }
        }
        tracing::info!("following ring {} of epoch {}", next.ring.digest().short(), next.ring.epoch());
        *present = Some(Arc::new(next));
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Epoch, fixtures};

    fn publish(epoch: u64, node: u16) -> Published {
        let members = vec![fixtures::member(1, "gw-0:88"), fixtures::member(2, "gw-1:88")];
        Published {
            node: MemberNumber::new(node).ok(),
            address: None,
            ring: Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap(),
            previous: None,
            services: vec![],
        }
    }

    #[test]
    fn what_is_new_is_reported_and_what_is_old_now_and_then() {
        let report = |sessions| Report { ring: None, users: 1, sessions, leaving: false };
        let (mut reports, begun) = (Reports::default(), Instant::now());
        for (after, sessions, due) in [
            (Duration::ZERO, 1, true),
            (LOOK_INTERVAL, 1, false),
            (LOOK_INTERVAL * 2, 2, true),
            (REPORT_INTERVAL, 2, false),
            (LOOK_INTERVAL * 2 + REPORT_INTERVAL, 2, true),
            (LOOK_INTERVAL * 3 + REPORT_INTERVAL, 1, true),
        ] {
            let told = reports.due(report(sessions), begun + after);
            assert_eq!(told.is_some(), due, "after {after:?}");
            assert!(told.is_none_or(|told| matches!(told, Told::Report(told) if told == report(sessions))));
        }
    }

    #[test]
    fn only_what_is_new_wakes_anybody() {
        let (sender, mut receiver) = watch::channel(None);
        for (next, new) in [
            (publish(1, 1), true),
            // An agent restarted with what it had.
            (publish(1, 1), false),
            (publish(2, 1), true),
            (publish(2, 2), true),
            (publish(2, 2), false),
        ] {
            accept(&sender, next.clone());
            assert_eq!(receiver.has_changed().unwrap(), new);
            let present = receiver.borrow_and_update().clone().unwrap();
            assert_eq!((present.node, present.ring.epoch()), (next.node, next.ring.epoch()));
        }
    }
}
