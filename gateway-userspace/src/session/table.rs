//! The sessions of this gateway, by user.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use ringsteer_openim::token::{TokenDigest, UnixSeconds};
use serde::{Deserialize, Serialize};

use super::{
    message::Message,
    queue::{self, Full},
};
use crate::websocket::close::{Close, CloseCode};

/// Names a session in this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What others are told of a session, and what decides which sessions of a user exclude each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The kind of device, by OpenIM's numbers; 0 where nobody said.
    pub platform: i32,
    /// The connection's name, the same on every node it will be on.
    pub connection: Box<str>,
    /// What the client logged in with, if with anything.
    pub token: Option<TokenDigest>,
    /// When that is worth nothing any more.
    pub token_expires: UnixSeconds,
    /// Whether the application said that it is in the background.
    pub background: bool,
}

/// How a session ends from our side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// With a close frame, after everything that is queued.
    Close(Close),
    /// Because the user may have only one of several sessions, or somebody in charge wants it; in the words that the
    /// application has for it.
    Kick,
    /// Without a word: the same client is back on another connection.
    Replace,
}

/// The way to one client, given in by whoever holds the connection. No method may block.
pub trait Outbox {
    /// Queues a message.
    ///
    /// # Errors
    /// If the queue is full.
    fn offer(&self, message: Message) -> Result<(), Full>;

    /// Has the session ended.
    fn end(&self, farewell: Farewell);
}

/// What became of a message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It will be sent, as far as that is up to us.
    Taken,
    /// The session ends instead: its client takes messages too slowly.
    TooSlow,
    /// The session ended, or left this node in a way that left the message behind.
    Gone,
    /// The session is in motion and too much has been kept back for it: worth trying again.
    Busy,
}

/// A message and one session of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The session.
    pub session: SessionId,
    /// Its connection's name.
    pub connection: Box<str>,
    /// Its platform.
    pub platform: i32,
    /// Whether its application is in the background.
    pub background: bool,
    /// What became of the message; none if that is not decided yet, because the session is in motion.
    pub fate: Option<Fate>,
}

/// A message that met a session in motion, and where to say what became of it.
#[derive(Debug)]
pub struct Kept<R> {
    /// The message.
    pub message: Message,
    /// Where to say it.
    pub reply: R,
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one user.
    pub per_user: usize,
    /// Of all users.
    pub per_node: usize,
    /// What is kept back for one session in motion.
    pub kept: queue::Limits,
}

/// Why a session cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Crowded {
    /// The user has as many sessions as one may have.
    #[error("the user has {0} sessions already, and may have no more")]
    User(usize),
    /// The node has as many as it takes.
    #[error("this node has {0} sessions already, and takes no more")]
    Node(usize),
}

/// All sessions. A session is here from before its client learns that it is connected until the gateway stops sending
/// to it: whoever is not here is not delivered to.
///
/// A session can be *in motion*: taken apart to be put together again here or elsewhere. What is delivered to it meanwhile
/// is kept, in order and unanswered, until one of [`Table::stay`] and [`Table::leave`] decides. `R` is where an answer
/// that has to wait will be given.
#[derive(Debug)]
pub struct Table<O, R> {
    limits: Limits,
    users: HashMap<Box<[u8]>, Vec<Session<O, R>>>,
    sessions: usize,
    in_motion: usize,
    last_id: u64,
    slow_consumers: u64,
    news: Option<News>,
}

/// What has happened in the table, for who does not want to look through all of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Users of whom sessions have begun, or are expected from another node.
    pub begun: Vec<Box<[u8]>>,
    /// Sessions that have ended, or left.
    pub ended: Vec<SessionId>,
}

#[derive(Debug)]
struct Session<O, R> {
    id: SessionId,
    card: Card,
    state: State<O, R>,
}

#[derive(Debug)]
enum State<O, R> {
    Live(O),
    /// Boxed: few are, and the others should not pay for it.
    InMotion(Box<InMotion<R>>),
}

#[derive(Debug)]
struct InMotion<R> {
    kept: VecDeque<Kept<R>>,
    bytes: usize,
    farewell: Option<Farewell>,
}

/// What a session that leaves takes along.
#[derive(Debug)]
pub struct Luggage<R> {
    /// What was delivered while it was in motion.
    pub kept: Vec<Kept<R>>,
    /// How it should end, if somebody wanted that meanwhile.
    pub farewell: Option<Farewell>,
}

impl<O: Outbox, R> Table<O, R> {
    /// A table without sessions.
    pub fn new(limits: Limits) -> Self {
        Self { limits, users: HashMap::new(), sessions: 0, in_motion: 0, last_id: 0, slow_consumers: 0, news: None }
    }

    /// What has happened since this was last asked. Nothing is kept before it is asked for the first time; whoever has
    /// asked goes on asking, for it is kept until then.
    pub fn take_news(&mut self) -> News {
        self.news.replace(News::default()).unwrap_or_default()
    }

    /// Adds a session of `user`, beside those the user has.
    ///
    /// # Errors
    /// If there are too many.
    pub fn insert(&mut self, user: &[u8], card: Card, outbox: O) -> Result<SessionId, Crowded> {
        let Limits { per_user, per_node, .. } = self.limits;
        if self.sessions >= per_node {
            return Err(Crowded::Node(per_node));
        }
        if self.users.get(user).is_some_and(|sessions| sessions.len() >= per_user) {
            return Err(Crowded::User(per_user));
        }
        Ok(self.add(user, card, State::Live(outbox)))
    }

    /// Adds a session that comes from another node and is in motion still. There is a place for it: it had one there.
    pub fn expect(&mut self, user: &[u8], card: Card) -> SessionId {
        self.in_motion += 1;
        self.add(user, card, State::InMotion(Box::new(InMotion::new())))
    }

    fn add(&mut self, user: &[u8], card: Card, state: State<O, R>) -> SessionId {
        self.last_id += 1;
        let id = SessionId(self.last_id);
        // Most users have one session, and `push` alone would make room for four.
        let sessions = self.users.entry(user.into()).or_insert_with(|| Vec::with_capacity(1));
        sessions.push(Session { id, card, state });
        self.sessions += 1;
        if let Some(news) = &mut self.news {
            news.begun.push(user.into());
        }
        id
    }

    /// Removes a session that is not in motion; `None` if it is not here any more.
    pub fn remove(&mut self, user: &[u8], id: SessionId) -> Option<O> {
        match self.take_out(user, id, |state| matches!(state, State::Live(_)))? {
            State::Live(outbox) => Some(outbox),
            State::InMotion(_) => None,
        }
    }

    fn take_out(
        &mut self,
        user: &[u8],
        id: SessionId,
        wanted: impl FnOnce(&State<O, R>) -> bool,
    ) -> Option<State<O, R>> {
        let Entry::Occupied(mut entry) = self.users.entry(user.into()) else { return None };
        let sessions = entry.get_mut();
        let place = sessions.iter().position(|session| session.id == id)?;
        if !wanted(&sessions[place].state) {
            return None;
        }
        let session = sessions.remove(place);
        if sessions.is_empty() {
            entry.remove();
        }
        self.sessions -= 1;
        if let Some(news) = &mut self.news {
            news.ended.push(id);
        }
        Some(session.state)
    }

    /// Puts a session in motion and gives its outbox back, which nothing will reach from now on. `None` if it is not
    /// here any more, or in motion already.
    pub fn begin_move(&mut self, user: &[u8], id: SessionId) -> Option<O> {
        let session = self.session(user, id)?;
        if matches!(session.state, State::InMotion(_)) {
            return None;
        }
        let State::Live(outbox) = std::mem::replace(&mut session.state, State::InMotion(Box::new(InMotion::new())))
        else {
            unreachable!("looked at above")
        };
        self.in_motion += 1;
        Some(outbox)
    }

    /// A session in motion comes to rest here, reached by `outbox`: what was kept is delivered, and answered to whom
    /// [`Outbox`] and `answer` say. False if it is not here any more; nothing was done then.
    pub fn stay(&mut self, user: &[u8], id: SessionId, outbox: O, mut answer: impl FnMut(R, Fate)) -> bool {
        let Some(session) = self.session(user, id) else { return false };
        if matches!(session.state, State::Live(_)) {
            return false;
        }
        let State::InMotion(in_motion) = std::mem::replace(&mut session.state, State::Live(outbox)) else {
            unreachable!("looked at above")
        };
        let State::Live(outbox) = &session.state else { unreachable!("written above") };
        let InMotion { kept, farewell, .. } = *in_motion;
        let mut kept = kept.into_iter();
        let mut slow = false;
        for Kept { message, reply } in kept.by_ref() {
            slow = outbox.offer(message).is_err();
            answer(reply, if slow { Fate::TooSlow } else { Fate::Taken });
            if slow {
                break;
            }
        }
        kept.for_each(|kept| answer(kept.reply, Fate::TooSlow));
        let ends = slow || farewell.is_some();
        if let Some(farewell) = if slow { Some(too_slow()) } else { farewell } {
            outbox.end(farewell);
        }
        self.in_motion -= 1;
        self.slow_consumers += u64::from(slow);
        if ends {
            self.take_out(user, id, |_| true);
        }
        true
    }

    /// A session in motion is here no more. `None` if it was not here.
    pub fn leave(&mut self, user: &[u8], id: SessionId) -> Option<Luggage<R>> {
        match self.take_out(user, id, |state| matches!(state, State::InMotion(_)))? {
            State::InMotion(in_motion) => {
                self.in_motion -= 1;
                Some(Luggage { kept: in_motion.kept.into(), farewell: in_motion.farewell })
            }
            State::Live(_) => None,
        }
    }

    /// Queues `message` for every session of `user` and says what became of it, session by session. For a session in
    /// motion it is kept, and `reply` makes where the answer goes later.
    ///
    /// A session whose queue is full has a client that does not keep up: it is removed, closed and counted.
    pub fn deliver(&mut self, user: &[u8], message: &Message, reply: impl FnMut(SessionId) -> R) -> Vec<Delivery> {
        self.deliver_to(user, message, |_| true, reply)
    }

    /// The same for those of the sessions that are `wanted`, by their cards.
    pub fn deliver_to(
        &mut self,
        user: &[u8],
        message: &Message,
        wanted: impl Fn(&Card) -> bool,
        mut reply: impl FnMut(SessionId) -> R,
    ) -> Vec<Delivery> {
        let Some(sessions) = self.users.get_mut(user) else { return vec![] };
        let before = sessions.len();
        let kept_limits = self.limits.kept;
        let mut deliveries = Vec::with_capacity(before);
        sessions.retain_mut(|session| {
            if !wanted(&session.card) {
                return true;
            }
            let fate = match &mut session.state {
                State::Live(outbox) => match outbox.offer(message.clone()) {
                    Ok(()) => Some(Fate::Taken),
                    Err(Full) => {
                        outbox.end(too_slow());
                        if let Some(news) = &mut self.news {
                            news.ended.push(session.id);
                        }
                        Some(Fate::TooSlow)
                    }
                },
                State::InMotion(in_motion) if in_motion.fits(message, kept_limits) => {
                    in_motion.bytes += message.payload().len();
                    let (message, reply) = (message.clone(), reply(session.id));
                    in_motion.kept.push_back(Kept { message, reply });
                    None
                }
                State::InMotion(_) => Some(Fate::Busy),
            };
            let Card { platform, background, ref connection, .. } = session.card;
            let connection = connection.clone();
            deliveries.push(Delivery { session: session.id, connection, platform, background, fate });
            fate != Some(Fate::TooSlow)
        });
        let after = sessions.len();
        if after == 0 {
            self.users.remove(user);
        }
        self.sessions -= before - after;
        self.slow_consumers += (before - after) as u64;
        deliveries
    }

    /// Queues a message for one session, if it is here and not in motion. As in [`Table::deliver`] it ends if its queue is
    /// full.
    pub fn offer_to(&mut self, user: &[u8], id: SessionId, message: &Message) {
        let Some(Session { state: State::Live(outbox), .. }) = self.session(user, id) else { return };
        if outbox.offer(message.clone()).is_err() {
            outbox.end(too_slow());
            self.take_out(user, id, |_| true);
            self.slow_consumers += 1;
        }
    }

    /// Ends a session, now or as soon as it is not in motion any more. It is delivered nothing from now on. False if
    /// it is not here.
    pub fn end(&mut self, user: &[u8], id: SessionId, farewell: Farewell) -> bool {
        let Some(session) = self.session(user, id) else { return false };
        match &mut session.state {
            State::Live(outbox) => {
                outbox.end(farewell);
                self.take_out(user, id, |_| true);
            }
            State::InMotion(in_motion) => {
                in_motion.farewell.get_or_insert(farewell);
            }
        }
        true
    }

    /// Notes whether a session's application is in the background.
    pub fn set_background(&mut self, user: &[u8], id: SessionId, background: bool) {
        if let Some(session) = self.session(user, id) {
            session.card.background = background;
        }
    }

    /// A user's sessions, the oldest first; their outboxes where they are not in motion.
    pub fn of(&self, user: &[u8]) -> impl Iterator<Item = (SessionId, &Card, Option<&O>)> {
        self.users.get(user).into_iter().flatten().map(|session| {
            let outbox = match &session.state {
                State::Live(outbox) => Some(outbox),
                State::InMotion(_) => None,
            };
            (session.id, &session.card, outbox)
        })
    }

    /// The users for whom `wanted` is true, with their sessions.
    pub fn users_where(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> Vec<(Box<[u8]>, Vec<SessionId>)> {
        let users = self.users.iter().filter(|(user, _)| wanted(user));
        users.map(|(user, sessions)| (user.clone(), sessions.iter().map(|session| session.id).collect())).collect()
    }

    /// Whether `wanted` is true for a user with a session.
    pub fn any_user(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> bool {
        self.users.keys().any(|user| wanted(user))
    }

    fn session(&mut self, user: &[u8], id: SessionId) -> Option<&mut Session<O, R>> {
        self.users.get_mut(user)?.iter_mut().find(|session| session.id == id)
    }

    /// Sessions of all users.
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Those of them that are in motion.
    pub fn in_motion(&self) -> usize {
        self.in_motion
    }

    /// Users with at least one session.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Sessions closed because their clients did not keep up, ever.
    pub fn slow_consumers(&self) -> u64 {
        self.slow_consumers
    }
}

impl<R> InMotion<R> {
    fn new() -> Self {
        Self { kept: VecDeque::new(), bytes: 0, farewell: None }
    }

    fn fits(&self, message: &Message, limits: queue::Limits) -> bool {
        let bytes = self.bytes.saturating_add(message.payload().len());
        self.kept.len() < limits.messages && bytes <= limits.bytes
    }
}

fn too_slow() -> Farewell {
    Farewell::Close(Close::new(CloseCode::TRY_AGAIN, "messages were taken too slowly"))
}

#[cfg(test)]
mod tests;
