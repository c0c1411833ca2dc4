//! Two ends and what lies between them: cuts, garbage, replays, wrong secrets.

use proptest::prelude::*;

use super::{
    super::{
        key::Between,
        message::{
            Message,
            tests::{hello, message, state},
        },
    },
    *,
};
use crate::config::{Secret, Secrets};

fn secret(digit: char) -> Secret {
    Secret::from_hex(digit.to_string().repeat(32).as_bytes(), String::new).unwrap()
}

fn keys(current: char, previous: Option<char>) -> LinkKeys {
    LinkKeys::of(&Secrets { current: secret(current), previous: previous.map(secret) }, Between::Agents)
}

/// Both ends of a link, dialled with `dialler`.
fn ends(dialler: &LinkKey, answerer: LinkKeys) -> (Link, Link) {
    (Link::dial(dialler, hello("dialler:1")).unwrap(), Link::answer(answerer, hello("answerer:1")))
}

/// Carries everything that waits at one end to the other, in pieces of at most these lengths.
fn carry(from: &mut Link, to: &mut Link, cuts: &[usize], events: &mut Vec<Event>) -> Result<(), LinkError> {
    let mut cuts = cuts.iter().cycle();
    while !from.output().is_empty() {
        let length = cuts.next().copied().unwrap_or(usize::MAX).clamp(1, from.output().len());
        let bytes = from.output().split_to(length);
        to.receive(&bytes, events)?;
    }
    Ok(())
}

/// Carries both ways until nobody has anything to say. What each end heard: the dialler's first.
fn talk(dialler: &mut Link, answerer: &mut Link, cuts: &[usize]) -> Result<[Vec<Event>; 2], LinkError> {
    let mut heard = [vec![], vec![]];
    while !(dialler.output().is_empty() && answerer.output().is_empty()) {
        carry(dialler, answerer, cuts, &mut heard[1])?;
        carry(answerer, dialler, cuts, &mut heard[0])?;
    }
    Ok(heard)
}

/// Two ends that have said hello.
fn open() -> (Link, Link) {
    let keys = keys('a', None);
    let (mut dialler, mut answerer) = ends(&keys.current, keys.clone());
    talk(&mut dialler, &mut answerer, &[]).unwrap();
    assert!(dialler.is_open() && answerer.is_open());
    (dialler, answerer)
}

proptest! {
    // A handshake takes milliseconds in a debug build.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn messages_arrive_whole_and_in_order_however_they_are_cut(
        cuts in prop::collection::vec(1..200usize, 1..20),
        one in prop::collection::vec(message(), 0..6),
        other in prop::collection::vec(message(), 0..6),
    ) {
        let keys = keys('a', None);
        let (mut dialler, mut answerer) = ends(&keys.current, keys.clone());
        let heard = talk(&mut dialler, &mut answerer, &cuts).unwrap();
        prop_assert_eq!(&heard[0], &[Event::Open(hello("answerer:1"))]);
        prop_assert_eq!(&heard[1], &[Event::Open(hello("dialler:1"))]);
        for (message, link) in one.iter().map(|m| (m, true)).chain(other.iter().map(|m| (m, false))) {
            if link { dialler.send(&message.encode()).unwrap() } else { answerer.send(&message.encode()).unwrap() };
        }
        let heard = talk(&mut dialler, &mut answerer, &cuts).unwrap();
        let messages = |list: Vec<Message>| list.iter().map(|message| Event::Message(message.encode())).collect::<Vec<_>>();
        prop_assert_eq!(&heard[0], &messages(other));
        prop_assert_eq!(&heard[1], &messages(one));
    }

    #[test]
    fn garbage_opens_nothing_and_ends_the_link(
        bytes in prop::collection::vec(any::<u8>(), 2..400),
        cut in 1..100usize,
    ) {
        let mut link = Link::answer(keys('a', Some('b')), hello("answerer:1"));
        let mut events = Vec::new();
        let outcome = bytes.chunks(cut).try_for_each(|piece| link.receive(piece, &mut events));
        prop_assert!(events.is_empty() && link.output().is_empty() && !link.is_open());
        // Only the beginning of a handshake leaves room for hope.
        let hopeful = bytes[..2] == [0, HANDSHAKE as u8] && bytes.len() < 2 + HANDSHAKE;
        prop_assert_eq!(outcome.is_ok(), hopeful);
    }

    #[test]
    fn a_bit_changed_anywhere_ends_the_link(at in any::<prop::sample::Index>(), bit in 0..8u32, when in 0..3u8) {
        let keys = keys('a', None);
        let (mut dialler, mut answerer) = ends(&keys.current, keys.clone());
        let mut events = Vec::new();
        if when > 0 {
            carry(&mut dialler, &mut answerer, &[], &mut events).unwrap();
            carry(&mut answerer, &mut dialler, &[], &mut events).unwrap();
        }
        if when > 1 {
            carry(&mut dialler, &mut answerer, &[], &mut events).unwrap();
            dialler.send(&Message::State(state(7)).encode()).unwrap();
        }
        events.clear();
        let mut bytes = dialler.output().split();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let outcome = answerer.receive(&bytes, &mut events);
        // A longer length makes it wait for what never comes; anything else it sees at once.
        let waits = at < 2 && outcome.is_ok();
        prop_assert!(events.is_empty() && (outcome.is_err() || waits), "{outcome:?}");
    }

    #[test]
    fn what_was_recorded_cannot_be_played_again(first in message(), second in message(), swap: bool) {
        let (mut dialler, mut answerer) = open();
        dialler.send(&first.encode()).unwrap();
        let one = dialler.output().split();
        dialler.send(&second.encode()).unwrap();
        let two = dialler.output().split();
        let mut events = Vec::new();
        let outcome = if swap {
            answerer.receive(&two, &mut events)
        } else {
            answerer.receive(&one, &mut events).unwrap();
            events.clear();
            answerer.receive(&one, &mut events)
        };
        prop_assert!(matches!(outcome, Err(LinkError::Frame)) && events.is_empty());
        // And it stays over.
        prop_assert!(answerer.receive(&two, &mut events).is_err() && events.is_empty());
    }
}

/// Somebody who recorded a whole link can make the other end answer, but not believe.
#[test]
fn a_recorded_link_opens_no_other() {
    let keys = keys('a', None);
    let (mut dialler, mut answerer) = ends(&keys.current, keys.clone());
    let mut recorded = vec![dialler.output().clone()];
    let mut events = Vec::new();
    carry(&mut dialler, &mut answerer, &[], &mut events).unwrap();
    carry(&mut answerer, &mut dialler, &[], &mut events).unwrap();
    recorded.push(dialler.output().clone());

    let mut again = Link::answer(keys, hello("answerer:1"));
    events.clear();
    again.receive(&recorded[0], &mut events).unwrap();
    assert!(matches!(again.receive(&recorded[1], &mut events), Err(LinkError::Frame)));
    assert!(events.is_empty() && !again.is_open());
}

#[test]
fn only_the_fleets_secrets_open_a_link() {
    for (dialler, (current, previous), good) in [
        ('a', ('a', None), true),
        ('a', ('b', Some('a')), true),
        ('b', ('b', Some('a')), true),
        ('a', ('b', None), false),
        ('c', ('b', Some('a')), false),
    ] {
        let key = keys(dialler, None).current;
        let (mut one, mut other) = ends(&key, keys(current, previous));
        match talk(&mut one, &mut other, &[]) {
            Ok(_) => {
                assert!(good && one.is_open() && other.is_open());
                assert_eq!((one.key(), other.key()), (Some(&key), Some(&key)));
            }
            Err(error) => {
                assert!(!good && matches!(error, LinkError::Secret), "{error}");
                assert!(other.output().is_empty(), "a stranger is told nothing");
            }
        }
    }
}

/// An answerer with another key is no better than garbage to the dialler.
#[test]
fn the_dialler_is_not_deceived_either() {
    let (mut dialler, _) = ends(&keys('a', None).current, keys('a', None));
    let (mut stranger, mut tool) = ends(&keys('b', None).current, keys('b', None));
    let mut events = Vec::new();
    carry(&mut stranger, &mut tool, &[], &mut events).unwrap();
    let answer = tool.output().split();
    assert!(matches!(dialler.receive(&answer, &mut events), Err(LinkError::Secret)));
}

#[test]
fn another_version_is_told_from_another_secret() {
    let keys = keys('a', None);
    let (mut dialler, _) = ends(&keys.current, keys.clone());
    let newer = Hello { protocol: 2, version: "9.0.0".into(), ..hello("answerer:1") };
    let mut answerer = Link::answer(keys, newer);
    let error = talk(&mut dialler, &mut answerer, &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it speaks version 2 of the protocol and we speak 1 (it is ringsteer 9.0.0); upgrade the older one"
    );
    assert_eq!(error.reason(), "other_version");
}

#[test]
fn long_messages_go_in_pieces_up_to_a_limit() {
    let (mut dialler, mut answerer) = open();
    let of_length = |length: usize| vec![7; length];
    for length in [MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE, MAX_MESSAGE] {
        let message = of_length(length);
        assert_eq!(message.len(), length);
        dialler.send(&message).unwrap();
        let heard = talk(&mut dialler, &mut answerer, &[]).unwrap();
        assert_eq!(heard[1], [Event::Message(message)]);
    }
    assert!(matches!(dialler.send(&of_length(MAX_MESSAGE + 1)), Err(LinkError::TooLong(_))));
    // The link is none the worse for it.
    dialler.send(&of_length(100)).unwrap();
    assert_eq!(talk(&mut dialler, &mut answerer, &[]).unwrap()[1].len(), 1);
    // An end that sends more all the same is cut off, and its bytes are not kept.
    let Stage::Open(transport) = &mut dialler.stage else { panic!() };
    let mut events = Vec::new();
    let outcome = (0..).find_map(|_| {
        let mut frame = vec![0; MAX_FRAME];
        let mut plain = vec![0; MAX_PIECE + 1];
        plain[0] = MORE;
        transport.write_message(&plain, &mut frame).unwrap();
        let mut output = BytesMut::new();
        write_frame(&frame, &mut output);
        answerer.receive(&output, &mut events).err()
    });
    assert!(matches!(outcome, Some(LinkError::TooLong(_))) && events.is_empty());
}

#[test]
fn hello_comes_first() {
    let keys = keys('a', None);
    let (mut dialler, mut answerer) = ends(&keys.current, keys.clone());
    let mut events = Vec::new();
    carry(&mut dialler, &mut answerer, &[], &mut events).unwrap();
    // An end that has the key, and begins with something else.
    let Stage::Dialled(handshake) = &mut dialler.stage else { panic!() };
    let answer = answerer.output().split();
    handshake.read_message(&answer[2..2 + HANDSHAKE], &mut []).unwrap();
    let Stage::Dialled(handshake) = std::mem::replace(&mut dialler.stage, Stage::Over) else { panic!() };
    let mut transport = handshake.into_transport_mode().unwrap();
    write_message(&mut transport, &Message::State(state(1)).encode(), &mut dialler.output).unwrap();
    assert!(matches!(carry(&mut dialler, &mut answerer, &[], &mut events), Err(LinkError::Order)));
    assert!(events.is_empty());
}
