use proptest::prelude::*;

use super::*;
use crate::{
    session::application::Plain,
    websocket::{decoder::Kind, frame::FrameHeader},
};

const LIMITS: Limits = Limits { idle_ms: 1000, close_ms: 100, ping_ms: 700 };

fn session() -> Session {
    Session::new(Application::Plain(Plain), Decoder::new(100_000), b"", LIMITS, 0)
}

/// A client's frame.
fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameHeader { fin, compressed: false, opcode, mask: Some([0; 4]), length: payload.len() as u64 }.encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// What a server sends.
fn sent(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(opcode, payload, &mut bytes);
    bytes
}

fn push(text: &str) -> Message {
    Message::new(Kind::Text, text.to_owned().into())
}

/// Writes up to `most` bytes to a client.
fn write(session: &mut Session, most: usize, client: &mut Vec<u8>) {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let bytes: Vec<u8> = session.to_write(&mut slices).iter().flat_map(|slice| slice.to_vec()).take(most).collect();
    session.written(bytes.len(), 0);
    client.extend(bytes);
}

fn write_all(session: &mut Session) -> Vec<u8> {
    let mut client = Vec::new();
    while session.wants_to_write() {
        write(session, usize::MAX, &mut client);
    }
    client
}

#[test]
fn the_last_words_come_after_what_was_queued() {
    for (say, words, end) in [
        (frame(Opcode::Close, true, &1000u16.to_be_bytes()), sent(Opcode::Close, &1000u16.to_be_bytes()), End::Agreed),
        (frame(Opcode::Close, true, b""), sent(Opcode::Close, b""), End::Agreed),
        (
            frame(Opcode::Continuation, true, b""),
            sent(Opcode::Close, b"\x03\xeaa continuation frame continues no message"),
            End::Cut,
        ),
    ] {
        let mut session = session();
        session.receive(&[say, frame(Opcode::Text, true, b"ignored")].concat(), 5);
        assert!(session.is_leaving() && !session.wants_messages() && !session.wants_bytes());
        session.send(&push("queued"));
        let violated = session.leave(6);
        assert_eq!(violated.is_some(), end == End::Cut);
        assert_eq!(session.ended(), None, "there is something to be written");
        assert_eq!(write_all(&mut session), [sent(Opcode::Text, b"queued"), words].concat());
        assert_eq!(session.ended(), Some(end));
    }
}

#[test]
fn who_is_told_goodbye_has_time_to_answer() {
    let mut session = session();
    session.expire(999).unwrap();
    assert!(!session.is_leaving());
    session.expire(1000).unwrap();
    assert!(session.is_leaving());
    session.leave(1000);
    let goodbye = write_all(&mut session);
    assert_eq!(goodbye[..4], [0x88, goodbye.len() as u8 - 2, 0x03, 0xf0]);
    assert_eq!((session.deadline_ms(), session.ended()), (1100, None));
    // Something else that was under way, then the answer.
    session.receive(&frame(Opcode::Ping, true, b"x"), 1050);
    assert!(!session.wants_to_write());
    session.expire(1099).unwrap();
    let mut answered = frame(Opcode::Close, true, b"");
    answered.extend(b"more");
    assert_eq!(session.expire(1100), Err(GivenUp));
    session.receive(&answered, 1100);
    assert_eq!(session.ended(), Some(End::Agreed));
}

#[test]
fn a_client_that_talks_is_not_let_go() {
    let mut session = session();
    session.receive(&frame(Opcode::Pong, true, b""), 900);
    assert_eq!(session.deadline_ms(), 1900);
    // A part of a frame is no frame.
    session.receive(&frame(Opcode::Pong, true, b"")[..3], 1800);
    assert_eq!(session.deadline_ms(), 1900);
}

#[test]
fn a_client_that_does_not_listen_is_not_listened_to() {
    let mut session = session();
    let echo = frame(Opcode::Binary, true, &vec![7; 50_000]);
    session.receive(&echo.repeat(4), 0);
    assert!(!session.wants_bytes() && !session.wants_messages());
    let mut client = Vec::new();
    // Two echoes are there; writing one of them makes room for the third.
    write(&mut session, 50_004, &mut client);
    write(&mut session, usize::MAX, &mut client);
    client.extend(write_all(&mut session));
    assert_eq!(client, sent(Opcode::Binary, &vec![7; 50_000]).repeat(4));
    assert!(session.wants_bytes() && session.wants_messages());
}

#[test]
fn ends_from_our_side_differ_in_their_last_words() {
    let close = Close::new(CloseCode::GOING_AWAY, "bye");
    for (farewell, words, ended) in [
        (Farewell::Close(close.clone()), Some(sent(Opcode::Close, &close.payload())), None),
        (Farewell::Kick, None, None),
        (Farewell::Replace, Some(vec![]), Some(End::Cut)),
    ] {
        let mut session = session();
        session.end(farewell.clone());
        if session.is_leaving() {
            session.leave(0);
        }
        let said = write_all(&mut session);
        if let Some(words) = words {
            assert_eq!(said, words, "{farewell:?}");
        }
        assert_eq!(session.ended(), ended, "{farewell:?}");
        // The first word counts.
        session.end(Farewell::Kick);
        assert!(!session.is_leaving());
    }
}

#[test]
fn only_a_halted_session_that_is_not_ending_can_be_suspended() {
    let mut session = session();
    session = *session.suspend(0).unwrap_err();
    session.halt();
    session.end(Farewell::Kick);
    session = *session.suspend(0).unwrap_err();
    session.leave(0);
    assert!(session.suspend(0).is_err());
}

/// What can happen to a session.
#[derive(Clone, Debug)]
enum Step {
    /// So many of the client's bytes arrive.
    Receive(usize),
    /// A push of so many bytes.
    Push(usize),
    /// The socket takes so many bytes.
    Write(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..400usize).prop_map(Step::Receive),
        (0..2000usize).prop_map(Step::Push),
        (0..3000usize).prop_map(Step::Write),
    ];
    prop::collection::vec(step, 0..60)
}

/// What clients say: fragments with control frames between them, texts whose characters are cut by frames, and now and
/// then something that ends the session.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    let sentence = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| frame(Opcode::Binary, true, &bytes)),
        6 => "\\PC{0,60}".prop_flat_map(|text| (0..=text.len(), Just(text))).prop_map(|(cut, text)| {
            let (first, last) = text.as_bytes().split_at(cut);
            [frame(Opcode::Text, false, first), frame(Opcode::Ping, true, b"?"), frame(Opcode::Continuation, true, last)]
                .concat()
        }),
        1 => Just(frame(Opcode::Close, true, &1001u16.to_be_bytes())),
        1 => Just(frame(Opcode::Text, true, b"\xff")),
    ];
    prop::collection::vec(sentence, 0..20).prop_map(|sentences| sentences.concat())
}

/// Plays the steps, suspending and resuming after those that `rests` says; what the client sees, and how it ends.
fn play(speech: &[u8], steps: &[Step], rests: &[bool]) -> (Vec<u8>, Option<End>) {
    let mut session = session();
    let (mut said, mut client) = (0, Vec::new());
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Receive(length) if session.wants_bytes() => {
                let end = speech.len().min(said + length);
                session.receive(&speech[said..end], 0);
                said = end;
            }
            Step::Push(length) if session.wants_messages() => session.send(&push(&"p".repeat(length))),
            Step::Write(most) => write(&mut session, most, &mut client),
            _ => {}
        }
        if session.is_leaving() {
            session.leave(0);
        }
        if rests.get(number).is_some_and(|rest| *rest) {
            session.halt();
            session = match session.suspend(0) {
                // As it would travel.
                Ok(core) => {
                    let core = postcard::from_bytes(&postcard::to_stdvec(&core).unwrap()).unwrap();
                    Session::resume(core, 100_000, LIMITS, 0).unwrap()
                }
                Err(mut session) => {
                    session.unhalt(0);
                    *session
                }
            };
            if session.is_leaving() {
                session.leave(0);
            }
        }
    }
    client.extend(write_all(&mut session));
    (client, session.ended())
}

proptest! {
    #[test]
    fn a_session_taken_apart_anywhere_goes_on_as_if_nothing_had_happened(
        speech in speech(),
        steps in steps(),
        rests in prop::collection::vec(any::<bool>(), 60),
    ) {
        prop_assert_eq!(play(&speech, &steps, &rests), play(&speech, &steps, &[]));
    }
}
