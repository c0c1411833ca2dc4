//! The sessions of this gateway, by user.

use std::collections::{HashMap, hash_map::Entry};

use super::queue::{Full, Message};
use crate::websocket::close::{Close, CloseCode};

/// Names a session in this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// The way to one client, given in by whoever holds the connection. Neither method may block.
pub trait Outbox {
    /// Queues a message.
    ///
    /// # Errors
    /// If the queue is full.
    fn offer(&self, message: Message) -> Result<(), Full>;

    /// Has the connection closed once what is queued has been sent.
    fn close(&self, close: Close);
}

/// All sessions. A session is here from before its client learns that it is connected until the gateway stops sending
/// to it: whoever is not here is not delivered to.
#[derive(Debug)]
pub struct Table<O> {
    users: HashMap<Box<[u8]>, Vec<(SessionId, O)>>,
    sessions: usize,
    last_id: u64,
    slow_consumers: u64,
}

impl<O: Outbox> Table<O> {
    /// A table without sessions.
    pub fn new() -> Self {
        Self { users: HashMap::new(), sessions: 0, last_id: 0, slow_consumers: 0 }
    }

    /// Adds a session of `user`, beside those the user has.
    pub fn insert(&mut self, user: &[u8], outbox: O) -> SessionId {
        self.last_id += 1;
        let id = SessionId(self.last_id);
        self.users.entry(user.into()).or_default().push((id, outbox));
        self.sessions += 1;
        id
    }

    /// Removes a session; `None` if it is not here any more.
    pub fn remove(&mut self, user: &[u8], id: SessionId) -> Option<O> {
        let Entry::Occupied(mut entry) = self.users.entry(user.into()) else { return None };
        let sessions = entry.get_mut();
        let place = sessions.iter().position(|(other, _)| *other == id)?;
        let (_, outbox) = sessions.remove(place);
        if sessions.is_empty() {
            entry.remove();
        }
        self.sessions -= 1;
        Some(outbox)
    }

    /// Queues `message` for every session of `user` and returns for how many.
    ///
    /// A session whose queue is full has a client that does not keep up: it is removed, closed and counted.
    pub fn deliver(&mut self, user: &[u8], message: &Message) -> usize {
        let Some(sessions) = self.users.get_mut(user) else { return 0 };
        let before = sessions.len();
        sessions.retain(|(_, outbox)| {
            let kept_up = outbox.offer(message.clone()).is_ok();
            if !kept_up {
                outbox.close(Close::new(CloseCode::TRY_AGAIN, "messages were taken too slowly"));
            }
            kept_up
        });
        let delivered = sessions.len();
        if delivered == 0 {
            self.users.remove(user);
        }
        self.sessions -= before - delivered;
        self.slow_consumers += (before - delivered) as u64;
        delivered
    }

    /// The outboxes of a user's sessions, the oldest session first.
    pub fn of(&self, user: &[u8]) -> impl Iterator<Item = &O> {
        self.users.get(user).into_iter().flatten().map(|(_, outbox)| outbox)
    }

    /// Sessions of all users.
    pub fn sessions(&self) -> usize {
        self.sessions
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

impl<O: Outbox> Default for Table<O> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        collections::BTreeMap,
        rc::Rc,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        session::queue::{Limits, Queue},
        websocket::decoder::Kind,
    };

    /// A client that takes nothing until asked.
    #[derive(Clone, Debug)]
    struct Client(Rc<(RefCell<Queue>, Cell<Option<CloseCode>>)>);

    impl Client {
        fn new() -> Self {
            let queue = Queue::new(Limits { messages: 2, bytes: 1000 });
            Self(Rc::new((RefCell::new(queue), Cell::new(None))))
        }

        fn take(&self) -> Option<Message> {
            self.0.0.borrow_mut().pop()
        }

        fn closed(&self) -> Option<CloseCode> {
            self.0.1.get()
        }
    }

    impl Outbox for Client {
        fn offer(&self, message: Message) -> Result<(), Full> {
            self.0.0.borrow_mut().push(message)
        }

        fn close(&self, close: Close) {
            self.0.1.set(Some(close.code));
        }
    }

    fn message(text: &'static str) -> Message {
        Message { kind: Kind::Text, payload: text.into() }
    }

    #[test]
    fn every_session_of_the_user_is_reached_and_nobody_else() {
        let mut table = Table::new();
        let (phone, desktop, stranger) = (Client::new(), Client::new(), Client::new());
        table.insert(b"u1", phone.clone());
        let id = table.insert(b"u1", desktop.clone());
        table.insert(b"u10", stranger.clone());
        assert_eq!(table.deliver(b"u1", &message("hi")), 2);
        assert_eq!((phone.take(), desktop.take(), stranger.take()), (Some(message("hi")), Some(message("hi")), None));

        assert_eq!((table.of(b"u1").count(), table.of(b"u10").count(), table.of(b"nobody").count()), (2, 1, 0));
        assert!(table.remove(b"u1", id).is_some());
        assert!(table.remove(b"u1", id).is_none());
        assert_eq!(table.deliver(b"u1", &message("you")), 1);
        assert_eq!((phone.take(), desktop.take()), (Some(message("you")), None));
        assert_eq!(table.deliver(b"nobody", &message("hi")), 0);
    }

    #[test]
    fn a_client_that_does_not_keep_up_is_closed_and_the_others_stay() {
        let mut table = Table::new();
        let (slow, quick) = (Client::new(), Client::new());
        let slow_id = table.insert(b"u", slow.clone());
        table.insert(b"u", quick.clone());
        for delivered in [2, 2, 1, 1] {
            assert_eq!(table.deliver(b"u", &message("m")), delivered);
            assert_eq!(quick.take(), Some(message("m")));
        }
        assert_eq!((slow.closed(), quick.closed()), (Some(CloseCode::TRY_AGAIN), None));
        assert_eq!((table.slow_consumers(), table.sessions()), (1, 1));
        assert!(table.remove(b"u", slow_id).is_none());
    }

    proptest! {
        #[test]
        fn the_counts_are_those_of_a_plain_list(steps in prop::collection::vec((0..3u8, 0..4u8, any::<prop::sample::Index>()), 0..200)) {
            let mut table = Table::new();
            let mut model: BTreeMap<SessionId, (u8, Client)> = BTreeMap::new();
            for (action, user, pick) in steps {
                match action {
                    0 => {
                        let client = Client::new();
                        let id = table.insert(&[user], client.clone());
                        prop_assert!(model.insert(id, (user, client)).is_none(), "an id used twice");
                    }
                    1 if !model.is_empty() => {
                        let id = *model.keys().nth(pick.index(model.len())).unwrap();
                        let (user, _) = model.remove(&id).unwrap();
                        prop_assert!(table.remove(&[user], id).is_some());
                    }
                    _ => {
                        let delivered = table.deliver(&[user], &message("m"));
                        model.retain(|_, (_, client)| client.closed().is_none());
                        prop_assert_eq!(delivered, model.values().filter(|(other, _)| *other == user).count());
                    }
                }
                prop_assert_eq!(table.sessions(), model.len());
                let mut users: Vec<u8> = model.values().map(|(user, _)| *user).collect();
                users.sort_unstable();
                users.dedup();
                prop_assert_eq!(table.users(), users.len());
            }
        }
    }
}
