use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use proptest::prelude::*;

use super::*;
use crate::{session::queue::Queue, websocket::decoder::Kind};

const LIMITS: Limits = Limits { per_user: 3, per_node: 5, kept: queue::Limits { messages: 2, bytes: 1000 } };

/// A client that takes nothing until asked.
#[derive(Clone, Debug)]
struct Client(Rc<(RefCell<Queue>, RefCell<Option<Farewell>>)>);

impl Client {
    fn new() -> Self {
        let queue = Queue::new(queue::Limits { messages: 2, bytes: 1000 });
        Self(Rc::new((RefCell::new(queue), RefCell::new(None))))
    }

    fn take(&self) -> Option<Message> {
        self.0.0.borrow_mut().pop()
    }

    fn ended(&self) -> Option<Farewell> {
        self.0.1.borrow().clone()
    }
}

impl Outbox for Client {
    fn offer(&self, message: Message) -> Result<(), Full> {
        self.0.0.borrow_mut().push(message)
    }

    fn end(&self, farewell: Farewell) {
        *self.0.1.borrow_mut() = Some(farewell);
    }
}

fn message(text: &'static str) -> Message {
    Message::new(Kind::Text, text.into())
}

fn new_table() -> Table<Client, &'static str> {
    Table::new(LIMITS)
}

fn insert(table: &mut Table<Client, &'static str>, user: &[u8], client: &Client) -> SessionId {
    table.insert(user, Card::default(), client.clone()).unwrap()
}

/// What became of a message, session by session.
fn fates(table: &mut Table<Client, &'static str>, user: &[u8], text: &'static str) -> Vec<Option<Fate>> {
    table.deliver(user, &message(text), |_| text).into_iter().map(|delivery| delivery.fate).collect()
}

const TAKEN: Option<Fate> = Some(Fate::Taken);

#[test]
fn every_session_of_the_user_is_reached_and_nobody_else() {
    let mut table = new_table();
    let (phone, desktop, stranger) = (Client::new(), Client::new(), Client::new());
    let card = Card { platform: 2, background: true, ..Card::default() };
    table.insert(b"u1", card, phone.clone()).unwrap();
    let id = insert(&mut table, b"u1", &desktop);
    insert(&mut table, b"u10", &stranger);
    let deliveries = table.deliver(b"u1", &message("hi"), |_| unreachable!("nothing is in motion"));
    let told: Vec<_> = deliveries.iter().map(|one| (one.platform, one.background, one.fate)).collect();
    assert_eq!(told, [(2, true, TAKEN), (0, false, TAKEN)]);
    assert_eq!((phone.take(), desktop.take(), stranger.take()), (Some(message("hi")), Some(message("hi")), None));

    assert_eq!((table.of(b"u1").count(), table.of(b"u10").count(), table.of(b"nobody").count()), (2, 1, 0));
    assert!(table.remove(b"u1", id).is_some());
    assert!(table.remove(b"u1", id).is_none());
    assert_eq!(fates(&mut table, b"u1", "you"), [TAKEN]);
    assert_eq!((phone.take(), desktop.take()), (Some(message("you")), None));
    assert_eq!(fates(&mut table, b"nobody", "hi"), []);
}

#[test]
fn a_client_that_does_not_keep_up_is_closed_and_the_others_stay() {
    let mut table = new_table();
    let (slow, quick) = (Client::new(), Client::new());
    let slow_id = insert(&mut table, b"u", &slow);
    insert(&mut table, b"u", &quick);
    for expected in [&[TAKEN, TAKEN][..], &[TAKEN, TAKEN], &[Some(Fate::TooSlow), TAKEN], &[TAKEN]] {
        assert_eq!(fates(&mut table, b"u", "m"), expected);
        assert_eq!(quick.take(), Some(message("m")));
    }
    assert_eq!((slow.ended(), quick.ended()), (Some(too_slow()), None));
    assert_eq!((table.slow_consumers(), table.sessions()), (1, 1));
    assert!(table.remove(b"u", slow_id).is_none());
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut table = new_table();
    for _ in 0..3 {
        insert(&mut table, b"u1", &Client::new());
    }
    let add = |table: &mut Table<Client, &'static str>, user| table.insert(user, Card::default(), Client::new());
    assert_eq!(add(&mut table, b"u1"), Err(Crowded::User(3)));
    let last = add(&mut table, b"u2").unwrap();
    add(&mut table, b"u3").unwrap();
    assert_eq!(add(&mut table, b"u4"), Err(Crowded::Node(5)));
    table.remove(b"u2", last);
    add(&mut table, b"u4").unwrap();
}

#[test]
fn what_meets_a_session_in_motion_is_kept_until_it_is_decided() {
    let mut table = new_table();
    let (moving, resting) = (Client::new(), Client::new());
    let id = insert(&mut table, b"u", &moving);
    insert(&mut table, b"u", &resting);
    assert_eq!(fates(&mut table, b"u", "before"), [TAKEN, TAKEN]);
    resting.take();
    assert!(table.begin_move(b"u", id).is_some());
    assert!(table.begin_move(b"u", id).is_none(), "it is in motion already");
    assert!(table.remove(b"u", id).is_none(), "who moves it decides");
    assert_eq!(fates(&mut table, b"u", "first"), [None, TAKEN]);
    resting.take();
    assert_eq!(fates(&mut table, b"u", "second"), [None, TAKEN]);
    resting.take();
    assert_eq!(fates(&mut table, b"u", "third"), [Some(Fate::Busy), TAKEN], "its kept messages have a limit");
    assert_eq!((table.in_motion(), table.sessions()), (1, 2));

    assert_eq!((moving.take(), moving.take()), (Some(message("before")), None));
    let back = Client::new();
    let mut answers = vec![];
    assert!(table.stay(b"u", id, back.clone(), |reply, fate| answers.push((reply, fate))));
    assert_eq!(answers, [("first", Fate::Taken), ("second", Fate::Taken)]);
    assert_eq!((back.take(), back.take(), back.take()), (Some(message("first")), Some(message("second")), None));
    assert!(!table.stay(b"u", id, Client::new(), |_, _| ()), "it rests already");
    assert_eq!((table.in_motion(), table.sessions()), (0, 2));
    assert_eq!(fates(&mut table, b"u", "after"), [TAKEN, TAKEN]);
    assert_eq!(back.take(), Some(message("after")));
}

#[test]
fn a_session_that_leaves_takes_along_what_was_kept() {
    let mut table = new_table();
    let id = table.expect(b"u", Card::default());
    assert_eq!(fates(&mut table, b"u", "first"), [None]);
    assert!(table.end(b"u", id, Farewell::Kick));
    let luggage = table.leave(b"u", id).unwrap();
    let kept: Vec<_> = luggage.kept.into_iter().map(|kept| (kept.message, kept.reply)).collect();
    assert_eq!((kept, luggage.farewell), (vec![(message("first"), "first")], Some(Farewell::Kick)));
    assert!(table.leave(b"u", id).is_none());
    assert_eq!((table.in_motion(), table.sessions(), table.users()), (0, 0, 0));

    let id = insert(&mut table, b"u", &Client::new());
    assert!(table.leave(b"u", id).is_none(), "it is not in motion");
}

#[test]
fn who_is_kicked_in_motion_is_kicked_when_it_rests() {
    let mut table = new_table();
    let id = table.expect(b"u", Card::default());
    fates(&mut table, b"u", "first");
    table.end(b"u", id, Farewell::Kick);
    let client = Client::new();
    assert!(table.stay(b"u", id, client.clone(), |_, fate| assert_eq!(fate, Fate::Taken)));
    assert_eq!((client.take(), client.ended()), (Some(message("first")), Some(Farewell::Kick)));
    assert_eq!((table.in_motion(), table.sessions(), table.users()), (0, 0, 0));
}

#[test]
fn who_cannot_take_what_was_kept_is_too_slow() {
    let mut table = new_table();
    let full = Client::new();
    full.offer(message("x")).unwrap();
    let id = table.expect(b"u", Card::default());
    fates(&mut table, b"u", "first");
    fates(&mut table, b"u", "second");
    let mut answers = vec![];
    table.stay(b"u", id, full.clone(), |reply, fate| answers.push((reply, fate)));
    assert_eq!(answers, [("first", Fate::Taken), ("second", Fate::TooSlow)]);
    assert_eq!((full.ended(), table.sessions(), table.slow_consumers()), (Some(too_slow()), 0, 1));
}

proptest! {
    #[test]
    fn the_counts_are_those_of_a_plain_list(
        steps in prop::collection::vec((0..6u8, 0..4u8, any::<prop::sample::Index>()), 0..200),
    ) {
        let limits = Limits { per_user: 1000, per_node: 1000, ..LIMITS };
        let mut table: Table<Client, ()> = Table::new(limits);
        // Whose each session is, and whether it is in motion; in the order in which they came.
        let mut model: BTreeMap<SessionId, (u8, Client, Cell<bool>)> = BTreeMap::new();
        // The sessions by the news alone.
        let mut told_of: BTreeSet<SessionId> = BTreeSet::new();
        prop_assert_eq!(table.take_news(), News::default());
        for (action, user, pick) in steps {
            let picked = (!model.is_empty()).then(|| *model.keys().nth(pick.index(model.len())).unwrap());
            match (action, picked) {
                (0, _) => {
                    let client = Client::new();
                    let id = table.insert(&[user], Card::default(), client.clone()).unwrap();
                    prop_assert!(model.insert(id, (user, client, Cell::new(false))).is_none(), "an id used twice");
                }
                (1, Some(id)) => {
                    let (user, _, in_motion) = &model[&id];
                    prop_assert_eq!(table.remove(&[*user], id).is_some(), !in_motion.get());
                    if !in_motion.get() {
                        model.remove(&id);
                    }
                }
                (2, Some(id)) => {
                    let (user, _, in_motion) = &model[&id];
                    prop_assert_eq!(table.begin_move(&[*user], id).is_some(), !in_motion.replace(true));
                }
                (3, Some(id)) => {
                    let (user, client, in_motion) = &model[&id];
                    prop_assert_eq!(table.stay(&[*user], id, client.clone(), |(), _| ()), in_motion.replace(false));
                }
                (4, Some(id)) => {
                    let (user, _, in_motion) = &model[&id];
                    prop_assert_eq!(table.leave(&[*user], id).is_some(), in_motion.get());
                    if in_motion.get() {
                        model.remove(&id);
                    }
                }
                _ => {
                    let told: Vec<_> = table.deliver(&[user], &message("m"), |_| ());
                    let expected = model.iter().filter(|(_, (other, ..))| *other == user).map(|(id, _)| *id);
                    prop_assert_eq!(told.iter().map(|one| one.session).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
                }
            }
            model.retain(|_, (_, client, _)| client.ended().is_none());
            prop_assert_eq!(table.sessions(), model.len());
            prop_assert_eq!(table.in_motion(), model.values().filter(|(.., in_motion)| in_motion.get()).count());
            let mut users: Vec<u8> = model.values().map(|(user, ..)| *user).collect();
            users.sort_unstable();
            users.dedup();
            prop_assert_eq!(table.users(), users.len());
            if pick.index(3) == 0 {
                let News { begun, ended } = table.take_news();
                told_of.extend(begun.iter().flat_map(|user| table.of(user).map(|(id, ..)| id)));
                ended.iter().for_each(|id| _ = told_of.remove(id));
                prop_assert!(told_of.iter().eq(model.keys()), "{:?}", told_of);
            }
        }
    }
}
