use proptest::prelude::*;

use super::*;
use crate::{
    frame::MAX_UNPACKED_BYTES,
    login::{Compression, Encoding},
    message::{
        msg::SendMsgReq,
        sdkws::{GetMaxSeqReq, MsgData},
    },
};

fn client(wire: Wire) -> Client {
    let login = Login {
        user: "a".into(),
        token: "t".into(),
        platform: Platform::Web,
        operation_id: String::new(),
        encoding: wire.encoding,
        compression: wire.compression,
        background: false,
        wants_reply: true,
        sdk_version: String::new(),
    };
    let claims = Claims { user: "a".into(), platform: Platform::Web, expires: 100 };
    Client::new(&login, &claims, "c1".into())
}

fn request(id: i32, data: impl Into<Bytes>) -> Request {
    Request {
        id,
        token: String::new(),
        send_id: "a".into(),
        operation_id: "op".into(),
        msg_incr: "a_1".into(),
        data: data.into(),
    }
}

fn tell(client: &mut Client, request: &Request) -> Vec<Action> {
    let mut out = Vec::new();
    client.binary(&client.wire().write_request(request), &mut out);
    out
}

fn read(client: &Client, frame: &Bytes) -> Response {
    client.wire().read_response(frame, MAX_UNPACKED_BYTES).unwrap()
}

/// The one answer among the actions.
fn answer(client: &Client, actions: &[Action]) -> Response {
    let [Action::Send(frame)] = actions else { panic!("{actions:?}") };
    read(client, frame)
}

fn ticket(id: i32) -> Ticket {
    Ticket { id, msg_incr: "a_1".into(), operation_id: "op".into() }
}

#[test]
fn what_others_know_is_asked_and_the_answer_goes_back() {
    for wire in Wire::ALL {
        let client = &mut client(wire);
        let data = GetMaxSeqReq { user_id: "a".into() };
        let actions = tell(client, &request(id::NEWEST_SEQS, data.encode_to_vec()));
        let question = Question::NewestSeqs(data);
        assert_eq!(actions, [Action::Ask { ticket: ticket(1001), question }]);
        assert!(client.is_waiting());

        let frame = client.answer(ticket(1001), Ok(Bytes::from_static(b"data")));
        assert!(!client.is_waiting());
        let expected = Response {
            id: 1001,
            msg_incr: "a_1".into(),
            operation_id: "op".into(),
            data: Bytes::from_static(b"data"),
            ..Response::default()
        };
        assert_eq!(read(client, &frame), expected);
        let failure = Failure { code: 1302, message: "blocked".into() };
        let frame = client.answer(ticket(1001), Err(failure));
        let expected = Response { err_code: 1302, err_msg: "blocked".into(), data: Bytes::new(), ..expected };
        assert_eq!(read(client, &frame), expected);
    }
}

#[test]
fn a_message_is_the_users_own() {
    let client = &mut client(Wire::default());
    let message = MsgData { send_id: "a".into(), recv_id: "b".into(), ..MsgData::default() };
    let asked = [Action::Ask {
        ticket: ticket(id::SEND),
        question: Question::Send(Box::new(SendMsgReq { msg_data: Some(message.clone()) })),
    }];
    assert_eq!(tell(client, &request(id::SEND, message.encode_to_vec())), asked);
    let unnamed = MsgData { send_id: String::new(), ..message.clone() };
    assert_eq!(tell(client, &request(id::SEND, unnamed.encode_to_vec())), asked);
    let forged = MsgData { send_id: "b".into(), ..message };
    let actions = tell(client, &request(id::SEND, forged.encode_to_vec()));
    assert_eq!(answer(client, &actions).err_code, Code::NoPermission as i64);
}

#[test]
fn all_requests_for_the_message_service_are_read() {
    // User ids are in field 1 of all of them, and so is the sender's of a message.
    let data = [&[0x0a, 1, b'a'][..], &[]].concat();
    for id in [1001, 1002, 1003, 1005, 1006, 1007] {
        let client = &mut client(Wire::default());
        let actions = tell(client, &request(id, data.clone()));
        assert!(matches!(&actions[..], [Action::Ask { ticket, .. }] if ticket.id == id), "{id}: {actions:?}");
        let actions = tell(client, &request(id, vec![0x0a, 1, b'b']));
        assert_eq!(answer(client, &actions).err_code, 1002, "{id}");
        let actions = tell(client, &request(id, vec![0x0a, 9]));
        assert_eq!(answer(client, &actions).err_code, 1001, "{id}");
    }
}

#[test]
fn an_unknown_request_is_answered_and_the_session_goes_on() {
    for id in [0, 1, 1004, 1008, 2001, 2002, 2999, 3001, -1, i32::MAX] {
        let client = &mut client(Wire::default());
        let actions = tell(client, &request(id, ""));
        let answer = answer(client, &actions);
        assert_eq!((answer.id, answer.msg_incr.as_str(), answer.err_code), (id, "a_1", 1001));
        assert!(answer.err_msg.contains("not served"));
        assert!(!client.is_waiting());
    }
}

#[test]
fn logging_out_is_answered_before_the_end() {
    let client = &mut client(Wire::default());
    let actions = tell(client, &request(id::LOGOUT, ""));
    let [Action::Send(frame), Action::End(Ending::LoggedOut)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((read(client, frame).id, read(client, frame).err_code), (id::LOGOUT, 0));
    assert_eq!(Ending::LoggedOut.close().code, CloseCode::NORMAL);
}

#[test]
fn background_is_noted() {
    let client = &mut client(Wire::default());
    let set = |is_background| SetAppBackgroundStatusReq { user_id: "a".into(), is_background }.encode_to_vec();
    let actions = tell(client, &request(id::BACKGROUND, set(true)));
    assert!(matches!(&actions[..], [Action::Background(true), Action::Send(_)]));
    assert!(client.is_in_background());
    assert!(matches!(&tell(client, &request(id::BACKGROUND, set(true)))[..], [Action::Send(_)]));
    assert!(matches!(
        &tell(client, &request(id::BACKGROUND, set(false)))[..],
        [Action::Background(false), Action::Send(_)]
    ));
    let actions = tell(client, &request(id::BACKGROUND, &b"\x0a"[..]));
    assert_eq!(answer(client, &actions).err_code, 1001);
}

#[test]
fn the_status_of_others_is_asked_for_and_watched() {
    let client = &mut client(Wire::default());
    let subscribe = |more: &[&str], fewer: &[&str]| {
        let list = |users: &[&str]| users.iter().map(|&user| user.to_owned()).collect();
        let data = SubUserOnlineStatus { subscribe_user_id: list(more), unsubscribe_user_id: list(fewer) };
        request(id::ONLINE_STATUS, data.encode_to_vec())
    };
    let ask = |users: &[&str]| Action::Ask {
        ticket: ticket(id::ONLINE_STATUS),
        question: Question::OnlineStatus(users.iter().map(|&user| user.to_owned()).collect()),
    };
    let watch = |more: &[&str], fewer: &[&str]| {
        let list = |users: &[&str]| users.iter().map(|&user| user.to_owned()).collect();
        Action::Watch { more: list(more), fewer: list(fewer) }
    };
    assert_eq!(tell(client, &subscribe(&["x", "y"], &["z"])), [watch(&["x", "y"], &[]), ask(&["x", "y"])]);
    // What is watched already, and wanted after all, changes nothing; its status is asked for again.
    assert_eq!(tell(client, &subscribe(&["x"], &["x"])), [ask(&["x"])]);
    assert_eq!(tell(client, &subscribe(&["z"], &["y"])), [watch(&["z"], &["y"]), ask(&["z"])]);
    assert!(client.watched().eq(["x", "z"]));

    let many: Vec<_> = (0..MAX_WATCHED).map(|user| user.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let actions = tell(client, &subscribe(&many, &[]));
    assert_eq!(answer(client, &actions).err_code, 1001);
    assert!(client.watched().eq(["x", "z"]));
}

#[test]
fn a_frame_of_somebody_else_ends_the_session() {
    let client = &mut client(Wire::default());
    for other in ["b", "", "a "] {
        let frame = Request { send_id: other.into(), ..request(1001, "") };
        assert_eq!(tell(client, &frame), [Action::End(Ending::NotTheUser)]);
    }
    assert_eq!(Ending::NotTheUser.close().code, CloseCode::POLICY);
}

#[test]
fn what_cannot_be_read_ends_the_session() {
    let client = &mut client(Wire { encoding: Encoding::Json, compression: Compression::None });
    let mut out = Vec::new();
    client.binary(&Bytes::from_static(b"{"), &mut out);
    let [Action::End(ending)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(ending.close().code, CloseCode::INVALID_DATA);
    let too_large = Ending::from(BadFrame::TooLargeUnpacked);
    assert_eq!(too_large.close().code, CloseCode::TOO_BIG);
}

#[test]
fn pings_in_text_are_answered() {
    let client = &mut client(Wire::default());
    let mut out = Vec::new();
    client.text(r#"{"type":"ping","body":"x"}"#, &mut out);
    client.text(r#"{"type":"pong","body":"x"}"#, &mut out);
    client.text("hello", &mut out);
    let pong = Action::SendText(r#"{"type":"pong","body":"x"}"#.into());
    assert_eq!(out, [pong, Action::End(Ending::BadText)]);
}

#[test]
fn what_the_server_sends_of_itself() {
    let expected = Response { id: 2001, operation_id: "op".into(), data: "d".into(), ..Response::default() };
    assert_eq!(push("op", "d".into()), expected);
    assert_eq!(kicked(), Response { id: 2002, ..Response::default() });
    assert_eq!(online_status("d".into()), Response { id: 2005, data: "d".into(), ..Response::default() });
}

proptest! {
    /// Stored and taken up again between any two messages, a client does what it would have done.
    #[test]
    fn it_can_be_stored_at_any_time(
        ids in prop::collection::vec(prop::sample::select(vec![1001, 1003, 1004, 2003, 2004, 2005]), 1..8),
        data in prop::collection::vec(any::<u8>(), 0..20),
        users in prop::collection::vec("[a-c]", 0..4),
        wire in prop::sample::select(&Wire::ALL[..]),
    ) {
        let (mut stays, mut moves) = (client(wire), client(wire));
        for id in ids {
            let data = match id {
                2005 => SubUserOnlineStatus { subscribe_user_id: users.clone(), ..Default::default() }.encode_to_vec(),
                _ => data.clone(),
            };
            let stored = serde_json::to_string(&moves).unwrap();
            moves = serde_json::from_str(&stored).unwrap();
            prop_assert_eq!(&moves, &stays);
            prop_assert_eq!(tell(&mut moves, &request(id, data.clone())), tell(&mut stays, &request(id, data)));
        }
    }

    #[test]
    fn no_message_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}", id: i32) {
        for wire in Wire::ALL {
            let client = &mut client(wire);
            client.binary(&bytes.clone().into(), &mut Vec::new());
            client.text(&text, &mut Vec::new());
            tell(client, &request(id, bytes.clone()));
            tell(client, &request(2000 + id.rem_euclid(6), bytes.clone()));
            tell(client, &request(1001 + id.rem_euclid(7), bytes.clone()));
        }
    }
}
