//! Single cases. What comes of many together is the simulation's.

use super::*;
use crate::{push::round::Went, ring::fixtures};

const USER: &[u8] = b"alice";

/// What is so at this node, and where else the user may be.
#[derive(Default)]
struct Around {
    here: Word,
    places: Vec<NodeAddress>,
}

impl Surroundings for Around {
    fn here(&self, _: &[u8]) -> Word {
        self.here.clone()
    }

    fn places(&self, _: &[u8]) -> Vec<NodeAddress> {
        self.places.clone()
    }

    fn is_here(&self, node: NodeAddress) -> bool {
        node == self::node(9)
    }
}

fn node(number: u16) -> NodeAddress {
    fixtures::member(number, "x:1").address
}

fn process() -> Incarnation {
    Incarnation { started_ms: 1, number: 7 }
}

fn word(stamp: u64, platforms: &[i32]) -> Word {
    Word { stamp, platforms: platforms.to_vec(), went: vec![] }
}

fn somewhere(nodes: &[u16]) -> Around {
    Around { places: nodes.iter().copied().map(node).collect(), ..Around::default() }
}

type Seen = Watching<u32, &'static str>;

/// Session 1 watches the user and has asked.
fn asking(around: &Around) -> (Seen, u64) {
    let mut watching = Seen::default();
    for node in &around.places {
        watching.linked(*node, process(), 0, around);
    }
    assert!(watching.watch(1, USER, Knows::Nothing, 0, around));
    let number = watching.ask(&1, [USER], "known");
    (watching, number)
}

/// Answers the next question to a node, which must be about the user.
fn answer(watching: &mut Seen, number: u16, word: Word, around: &Around) {
    let asking = watching.next(node(number), process(), 0).expect("a question");
    assert_eq!(asking.more, [Name::from(USER)]);
    watching.asked(node(number), asking.stream, Some(vec![Some(word)]), 0, around);
    watching.check();
}

/// What session 1 is told.
fn told(watching: &mut Seen) -> Vec<Platforms> {
    watching.take().news.into_iter().map(|news| news.platforms).collect()
}

#[test]
fn who_asks_is_answered_when_all_have_spoken_and_told_of_what_comes_after() {
    let around = somewhere(&[1, 2]);
    let (mut watching, number) = asking(&around);
    answer(&mut watching, 1, word(1, &[5]), &around);
    assert!(watching.take().ready.is_empty());
    answer(&mut watching, 2, word(1, &[]), &around);
    assert_eq!(watching.take().ready, ["known"]);
    assert_eq!(watching.answer(&1, [USER], number), [(USER, vec![5])]);
    // While the answer is on its way nothing overtakes it.
    watching.told(node(1), process(), 1, vec![(USER.into(), word(2, &[2, 5]))], 0, &around);
    assert!(told(&mut watching).is_empty());
    watching.answered(&1, [USER], 0, &around);
    assert_eq!(told(&mut watching), [vec![2, 5]]);
    assert_eq!(watching.unwatch(&1, USER), Some(vec![2, 5]));
    watching.check();
}

#[test]
fn less_is_believed_when_the_others_have_been_asked_since_and_more_at_once() {
    let mut around = somewhere(&[1, 2]);
    let (mut watching, number) = asking(&around);
    answer(&mut watching, 1, word(1, &[5]), &around);
    answer(&mut watching, 2, word(1, &[]), &around);
    watching.answer(&1, [USER], number);
    watching.answered(&1, [USER], 0, &around);
    // It has gone to a node of which nobody here knew.
    let went = |time, to| Went { connection: "c".into(), time, to: node(to) };
    let went = vec![went(1, 3), went(2, 9)];
    watching.linked(node(3), process(), 0, &around);
    watching.told(node(1), process(), 1, vec![(USER.into(), Word { went, ..word(2, &[]) })], 0, &around);
    answer(&mut watching, 2, word(2, &[]), &around);
    assert!(told(&mut watching).is_empty());
    answer(&mut watching, 3, word(1, &[5]), &around);
    assert!(told(&mut watching).is_empty(), "it is as it was");
    around.here = word(1, &[1]);
    watching.changed_here(USER, 0, &around);
    assert_eq!(told(&mut watching), [vec![1, 5]]);
}

#[test]
fn who_has_to_be_asked_and_ends_may_have_let_a_session_go_to_any_other() {
    let around = somewhere(&[1, 2]);
    let (mut watching, number) = asking(&around);
    answer(&mut watching, 1, word(1, &[5]), &around);
    answer(&mut watching, 2, word(1, &[]), &around);
    watching.answer(&1, [USER], number);
    watching.answered(&1, [USER], 0, &around);
    let went = vec![Went { connection: "c".into(), time: 1, to: node(2) }];
    watching.told(node(1), process(), 1, vec![(USER.into(), Word { went, ..word(2, &[]) })], 0, &around);
    watching.ended(node(2), 0, &around);
    assert!(told(&mut watching).is_empty());
    // It came back before that.
    answer(&mut watching, 1, word(3, &[5]), &around);
    assert!(told(&mut watching).is_empty());
    watching.told(node(1), process(), 1, vec![(USER.into(), word(4, &[]))], 0, &around);
    assert_eq!(told(&mut watching), [Platforms::new()]);
}

#[test]
fn nobody_is_where_nothing_is_heard_for_long_or_the_process_has_ended() {
    let around = somewhere(&[1]);
    let (mut watching, number) = asking(&around);
    answer(&mut watching, 1, word(1, &[5]), &around);
    watching.answer(&1, [USER], number);
    watching.answered(&1, [USER], 0, &around);
    watching.unlinked(node(1), 1000);
    watching.tick(1000 + GIVEN_UP_MS - 1, &around);
    assert!(told(&mut watching).is_empty());
    watching.tick(1000 + GIVEN_UP_MS, &around);
    assert_eq!(told(&mut watching), [Platforms::new()]);
    // It was only out of reach.
    watching.linked(node(1), process(), 20_000, &around);
    answer(&mut watching, 1, word(1, &[5]), &around);
    assert_eq!(told(&mut watching), [vec![5]]);
    watching.ended(node(1), 20_000, &around);
    assert_eq!(told(&mut watching), [Platforms::new()]);
}

#[test]
fn there_are_never_more_than_allowed() {
    let (mut watching, around) = (Watching::<u32, ()>::at_most(2), somewhere(&[]));
    let mut watch = |by, user: &[u8]| watching.watch(by, user, Knows::Nothing, 0, &around);
    assert!(watch(1, b"a") && watch(2, b"a") && watch(1, b"a"));
    assert!(!watch(3, b"a") && !watch(1, b"b") && !watch(4, &[0; MAX_NAME + 1]));
    watching.unwatch(&1, b"a");
    assert!(watching.watch(1, b"b", Knows::Told(None), 0, &around));
    watching.check();
    // Nobody else can have a user, so it is known at once.
    assert_eq!(watching.take().news.len(), 1);
}
