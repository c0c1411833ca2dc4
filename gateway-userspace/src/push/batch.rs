//! Pushes to many users: between their JSON and what sessions get.

use bytes::Bytes;
use ringsteer_batch::{Content, Status, UserResult};

use super::{OnlineRule, Outcome};
use crate::{
    session::message::{Message, Purpose},
    websocket::decoder::Kind,
};

/// What sessions get of a batch.
pub fn message(content: Content, operation: String) -> Message {
    let (purpose, kind, payload) = match content {
        Content::Text(text) => (Purpose::Push, Kind::Text, Bytes::from(text)),
        Content::Data(data) => (Purpose::Push, Kind::Binary, data),
        Content::OpenIm(envelope) => (Purpose::Envelope, Kind::Binary, envelope),
    };
    Message::for_purpose(purpose, kind, payload, operation)
}

/// A message as a batch brings it.
pub fn content(message: &Message) -> Content {
    match (message.purpose(), message.kind(), str::from_utf8(message.payload())) {
        (Purpose::Envelope, ..) => Content::OpenIm(message.payload().clone()),
        (_, Kind::Text, Ok(text)) => Content::Text(text.to_owned()),
        _ => Content::Data(message.payload().clone()),
    }
}

/// What is answered for one user.
pub fn result(user: String, outcome: &Outcome, rule: OnlineRule) -> UserResult {
    let status = match outcome {
        Outcome::Delivered(_) => Status::Delivered,
        Outcome::Offline => Status::Offline,
        Outcome::Unknown => Status::Unknown,
    };
    let platforms = outcome.reached().iter().map(|reached| reached.platform).collect();
    UserResult { user, status, platforms, online_push: rule.is_online(outcome) }
}

/// Whether a `Content-Type` calls its content text.
pub fn says_text(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/json")
        || media_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Reached;

    #[test]
    fn a_batch_is_the_same_message_again() {
        let envelope = Bytes::from_static(b"\x0a\x08\x12\x06\x0a\x04\x62\x02hi");
        for (sent, expected) in [
            (Content::Text("hi".into()), (Purpose::Push, Kind::Text)),
            (Content::Data("hi".into()), (Purpose::Push, Kind::Binary)),
            (Content::OpenIm(envelope), (Purpose::Envelope, Kind::Binary)),
        ] {
            let message = message(sent.clone(), "op".into());
            assert_eq!((message.purpose(), message.kind(), message.operation()), (expected.0, expected.1, "op"));
            let plain =
                if expected.1 == Kind::Binary && expected.0 == Purpose::Push { Kind::Binary } else { Kind::Text };
            assert_eq!(message.plain(), (plain, "hi".into()));
            assert_eq!(content(&message), sent);
        }
    }

    #[test]
    fn every_user_is_answered_for() {
        let reached = [5, 1].map(|platform| Reached { connection: "c".into(), platform, background: false }).to_vec();
        let answer = result("u".into(), &Outcome::Delivered(reached), OnlineRule::Mobile);
        let expected =
            UserResult { user: "u".into(), status: Status::Delivered, platforms: vec![5, 1], online_push: true };
        assert_eq!(answer, expected);
        for (outcome, status) in [(Outcome::Offline, Status::Offline), (Outcome::Unknown, Status::Unknown)] {
            let expected = UserResult::without_session("u", status);
            assert_eq!(result("u".into(), &outcome, OnlineRule::Mobile), expected);
        }
    }
}
