//! Sessions taken apart and put together again: what the handoff needs of a gateway.
//!
//! ```text
//! Sessions::take ──► Moving { stream, suspended, place } ── place.resume(stream, suspended) ──► it goes on here
//!                                                        └─ place.leave() ──► it is somebody else's now
//! Sessions::expect ──► place ── place.resume(stream, suspended) ──► it goes on here
//!                            └─ place.leave() ──► it did not come
//! ```
//!
//! A [`Place`] is the session's entry in the table while it is in motion. What is delivered to the user meanwhile is kept
//! there, in order, and not answered before the place is given up one way or the other. A place that is dropped counts as
//! a session that ended.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, sync::oneshot};

use super::{
    Shared,
    line::Line,
    running::{Registration, Running, requeue},
};
use crate::{
    push::round::Went,
    ring::NodeAddress,
    session::{
        core::Session,
        message::Message,
        suspended::Suspended,
        table::{self, Card, Delivery, Farewell, Fate, SessionId},
    },
};

/// The sessions of a running gateway.
#[derive(Clone, Debug)]
pub struct Sessions(pub(super) Arc<Shared>);

/// A session taken apart.
#[derive(Debug)]
pub struct Moving {
    /// Its connection. Nothing is read from it or written to it any more.
    pub stream: TcpStream,
    /// All the rest.
    pub suspended: Suspended,
    /// Its place in the table.
    pub place: Place,
}

/// The place of a session in motion.
#[derive(Debug)]
pub struct Place {
    /// None once it is given up.
    registration: Option<Registration>,
    card: Card,
}

/// Where to say what became of a message that was kept.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Fate>);

/// Messages that were kept, and how the session should end, if somebody wanted that.
pub type Luggage = table::Luggage<Reply>;

/// A message that was kept for a session in motion.
pub type Kept = table::Kept<Reply>;

/// A message on its way to the sessions of a user. It is queued or kept already; dropping this takes nothing back.
#[derive(Debug)]
#[must_use = "somebody wants to know what became of the message"]
pub struct Delivering {
    deliveries: Vec<Delivery>,
    /// Those that are not decided yet, by session.
    waiting: Vec<(SessionId, oneshot::Receiver<Fate>)>,
}

/// A session that somebody waits for. If they stop, it goes on, even if it was on its way to them.
struct Wanted(oneshot::Receiver<Moving>);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Moving { stream, suspended, place }) = self.0.try_recv() {
            place.resume(stream, suspended);
        }
    }
}

// === impl Sessions ===

impl Sessions {
    /// Queues `message` for every session of `user`.
    pub fn deliver(&self, user: &[u8], message: &Message) -> Delivering {
        self.0.deliver(user, message)
    }

    /// Users for whom `wanted` is true, with their sessions.
    pub fn users_where(&self, wanted: impl FnMut(&[u8]) -> bool) -> Vec<(Box<[u8]>, Vec<SessionId>)> {
        self.0.sessions().users_where(wanted)
    }

    /// What has happened since this was last asked ([`table::Table::take_news`]); one only may ask.
    pub fn take_news(&self) -> table::News {
        self.0.sessions().take_news()
    }

    /// Whether a session is here, in motion or not.
    pub fn has(&self, user: &[u8], id: SessionId) -> bool {
        self.0.sessions().of(user).any(|(other, ..)| other == id)
    }

    /// A user's sessions with their cards, the oldest first.
    pub fn of(&self, user: &[u8]) -> Vec<(SessionId, Card)> {
        self.0.sessions().of(user).map(|(id, card, _)| (id, card.clone())).collect()
    }

    /// Ends a session, now or as soon as it is not in motion any more; false if it is not here.
    pub fn end(&self, user: &[u8], id: SessionId, farewell: Farewell) -> bool {
        self.0.sessions().end(user, id, farewell)
    }

    /// Takes a session apart, as soon as nothing that was asked on its behalf is unanswered; it is served and delivered to
    /// until then. `None` if it is not here, ends first, or is in motion already. Whoever stops waiting takes nothing.
    pub async fn take(&self, user: &[u8], id: SessionId) -> Option<Moving> {
        let line = {
            let sessions = self.0.sessions();
            let (.., line) = sessions.of(user).find(|(other, ..)| *other == id)?;
            Arc::clone(line?)
        };
        let mut wanted = Wanted(line.want());
        drop(line);
        (&mut wanted.0).await.ok()
    }

    /// Makes a place for a session that will come from another node.
    pub fn expect(&self, user: &[u8], card: Card) -> Place {
        let id = self.0.sessions().expect(user, card.clone());
        Place::new(Registration::new(&self.0, user, id), card)
    }
}

// === impl Place ===

impl Place {
    fn new(registration: Registration, card: Card) -> Self {
        Self { registration: Some(registration), card }
    }

    /// The place of a session of this gateway, which is in motion from now on. `None` if it is not in the table.
    pub(super) fn begin_move(registration: Registration) -> Option<Self> {
        let card = {
            let mut sessions = registration.shared.sessions();
            sessions.begin_move(&registration.user, registration.id)?;
            let (_, card, _) = sessions.of(&registration.user).find(|(id, ..)| *id == registration.id)?;
            card.clone()
        };
        Some(Self::new(registration, card))
    }

    /// The user.
    pub fn user(&self) -> &[u8] {
        self.registration.as_ref().map_or(&[], |registration| &registration.user)
    }

    /// The session's name in the table; none once the place is given up.
    pub fn id(&self) -> Option<SessionId> {
        self.registration.as_ref().map(|registration| registration.id)
    }

    /// What others are told of the session.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The session goes on here. What was kept is delivered, after what was queued when it was taken apart. A session that
    /// cannot go on (see [`Suspended::from_bytes`]) ends.
    pub fn resume(self, stream: TcpStream, suspended: Suspended) {
        // A connection whose client is gone already ends at its first read.
        let client = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        if let Some(running) = self.go_on(stream, client, suspended) {
            running.spawn();
        }
    }

    /// The same, without a task.
    pub(super) fn go_on(mut self, stream: TcpStream, client: SocketAddr, suspended: Suspended) -> Option<Running> {
        let mut registration = self.registration.take()?;
        let shared = Arc::clone(&registration.shared);
        let (limits, now_ms) = (&shared.limits, shared.sweeper.now_ms());
        let waits = limits.session(&suspended.core.application);
        let session = match Session::resume(suspended.core, limits.max_message, waits, now_ms) {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!("{client}: its session ends, for it cannot go on: {error}");
                drop(leave(&registration));
                return None;
            }
        };
        let told = suspended.told;
        let since_ms = now_ms.saturating_sub(suspended.age_ms);
        let line = Arc::new(Line::new(client, since_ms, shared.limits.queue));
        requeue(&line, suspended.queue);
        {
            let mut sessions = shared.sessions();
            let (user, id) = (&registration.user, registration.id);
            let answer = |reply: Reply, fate| reply.answer(fate);
            sessions.stay(user, id, Arc::clone(&line), answer);
            if shared.stopping.is_cancelled() {
                sessions.end(user, id, super::leaving::goodbye());
            }
        }
        registration.watch_again(session.application().watched(), told);
        shared.presence_changed(&registration.user);
        Some(Running::new(stream, line, session, registration))
    }

    /// The session is at that node from now on, after so many moves. As [`Place::leave`].
    pub fn leave_for(self, to: NodeAddress, time: u32) -> Luggage {
        if let Some(Registration { shared, user, .. }) = &self.registration {
            shared.goes(user, Went { connection: self.card.connection.clone(), time, to });
        }
        self.leave()
    }

    /// The session is not here, or not any more. Whoever calls this answers for what was kept.
    pub fn leave(mut self) -> Luggage {
        let Some(registration) = self.registration.take() else { return NOTHING };
        leave(&registration).unwrap_or(NOTHING)
    }
}

const NOTHING: Luggage = table::Luggage { kept: Vec::new(), farewell: None };

fn leave(registration: &Registration) -> Option<Luggage> {
    registration.shared.sessions().leave(&registration.user, registration.id)
}

impl Drop for Place {
    fn drop(&mut self) {
        // The replies go unanswered, which says that the session ended.
        drop(self.registration.take().and_then(|registration| leave(&registration)));
    }
}

// === impl Reply ===

impl Reply {
    /// Says what became of the message.
    pub fn answer(self, fate: Fate) {
        // Nobody may want to know any more.
        let _ = self.0.send(fate);
    }
}

// === impl Delivering ===

impl Delivering {
    /// What became of the message, if that is decided already; it can be asked once then.
    pub fn at_once(&mut self) -> Option<Vec<Delivery>> {
        self.waiting.is_empty().then(|| std::mem::take(&mut self.deliveries))
    }

    /// What became of the message, session by session, once that is decided: at once, unless a session is in motion.
    pub async fn decided(self) -> Vec<Delivery> {
        let Self { mut deliveries, waiting } = self;
        for (session, receiver) in waiting {
            let fate = receiver.await.unwrap_or(Fate::Gone);
            if let Some(delivery) = deliveries.iter_mut().find(|delivery| delivery.session == session) {
                delivery.fate = Some(fate);
            }
        }
        deliveries
    }
}

impl Shared {
    /// See [`Sessions::deliver`].
    pub(super) fn deliver(&self, user: &[u8], message: &Message) -> Delivering {
        self.deliver_to(user, message, |_| true)
    }

    /// The same for those of the sessions that are `wanted`.
    pub(super) fn deliver_to(&self, user: &[u8], message: &Message, wanted: impl Fn(&Card) -> bool) -> Delivering {
        let mut waiting = Vec::new();
        let deliveries = self.sessions().deliver_to(user, message, wanted, |session| {
            let (sender, receiver) = oneshot::channel();
            waiting.push((session, receiver));
            Reply(sender)
        });
        Delivering { deliveries, waiting }
    }
}
