//! Messages as bytes.

use proptest::{collection::vec, prelude::*};
use ringsteer_handoff::{
    message::{
        Ask, DecodeError, MAX_LIST, MAX_USER, Message, Offer, Reached, RefusedBecause, State, Told, VERSION, Went,
    },
    name::{Epoch, Incarnation, MoveId, NodeId, PushId, SessionId, User},
};

type Said = Message<Vec<u8>, Vec<u8>>;

fn session() -> impl Strategy<Value = SessionId> {
    any::<(u64, u64)>().prop_map(|(born, number)| SessionId { born: Incarnation(born), number })
}

fn move_id() -> impl Strategy<Value = MoveId> {
    (session(), any::<u32>()).prop_map(|(session, generation)| MoveId { session, generation })
}

fn user() -> impl Strategy<Value = User> {
    vec(any::<u8>(), 0..100).prop_map(|bytes| User(bytes.into()))
}

fn message() -> impl Strategy<Value = Said> {
    let reached = (session(), any::<i32>()).prop_map(|(session, platform)| Reached { session, platform });
    let went = (move_id(), any::<u16>()).prop_map(|(id, to)| Went { id, to: NodeId(to) });
    let state = any::<(u64, bool, bool, u64, u64)>().prop_map(|(epoch, in_force, settled, heard, number)| {
        Message::State(State { epoch: Epoch(epoch), in_force, settled, heard: Epoch(heard), number })
    });
    let offer = (move_id(), any::<(u64, bool, i32)>(), user(), vec(any::<u128>(), 0..20), any::<Vec<u8>>());
    let offer = offer.prop_map(|(id, (epoch, opened, platform), user, seen, dump)| {
        let seen = seen.into_iter().map(PushId).collect();
        Message::Offer(Box::new(Offer { id, epoch: Epoch(epoch), user, opened, platform, seen, dump }))
    });
    let ask = (any::<(u64, u128, u32)>(), user(), any::<Vec<u8>>());
    let ask = ask.prop_map(|((number, push, patience_ms), user, body)| {
        Message::Ask(Box::new(Ask { number, user, push: PushId(push), patience_ms, body }))
    });
    let told = (any::<u64>(), user(), vec(reached, 0..9), vec(went, 0..9));
    let told =
        told.prop_map(|(number, user, reached, went)| Message::Told(Box::new(Told { number, user, reached, went })));
    prop_oneof![
        state,
        offer,
        ask,
        told,
        move_id().prop_map(|id| Message::Go { id }),
        move_id().prop_map(|id| Message::Abort { id }),
        move_id().prop_map(|id| Message::Ready { id }),
        (move_id(), any::<bool>()).prop_map(|(id, alive)| Message::Done { id, alive }),
        move_id().prop_map(|id| Message::Refused { id, because: RefusedBecause::Busy }),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_the_journey(message in message()) {
        prop_assert_eq!(Said::decode(&message.encode().unwrap()).unwrap(), message);
    }

    #[test]
    fn damage_is_an_error_or_another_message(
        message in message(),
        place in any::<prop::sample::Index>(),
        damage in 1..=255u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = message.encode().unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= damage;
        // Neither may panic.
        let _ = Said::decode(&bytes);
        let cut = cut.index(bytes.len());
        prop_assert!(Said::decode(&bytes[..cut]).is_err() || cut > 0);
    }

    #[test]
    fn garbage_is_no_message_or_the_one_it_says(mut bytes in vec(any::<u8>(), 0..200)) {
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(message) = Said::decode(&bytes) {
            prop_assert_eq!(Said::decode(&message.encode().unwrap()).unwrap(), message);
        }
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let told = |user: usize, went: usize| {
        let id = MoveId { session: SessionId { born: Incarnation(1), number: 1 }, generation: 1 };
        let told = Told {
            number: 1,
            user: User(vec![0; user].into()),
            reached: vec![],
            went: vec![Went { id, to: NodeId(1) }; went],
        };
        Said::decode(&Said::Told(Box::new(told)).encode().unwrap())
    };
    assert!(told(MAX_USER, MAX_LIST).is_ok());
    assert_eq!(told(MAX_USER + 1, 0), Err(DecodeError::TooLong));
    assert_eq!(told(0, MAX_LIST + 1), Err(DecodeError::TooLong));
    assert_eq!(Said::decode(&[]), Err(DecodeError::Malformed));
    assert_eq!(Said::decode(&[VERSION + 1]), Err(DecodeError::Version(VERSION + 1)));
}
