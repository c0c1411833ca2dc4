//! What a push to many users looks like in JSON. Pure.
//!
//! ```json
//! {"id": "m-1", "users": ["alice", "bob"], "text": "hello"}
//! {"users": ["alice"], "data": "aGVsbG8=", "operation": "op-7"}
//! {"users": ["alice"], "openim": "ChQKBnNp…"}
//! ```
//!
//! `openim` is a `PushMessages` with one message. OpenIM's clients get it, plain ones what is in it.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ringsteer_openim::message::content;
use serde::{Deserialize, Serialize};

use super::{OnlineRule, Outcome};
use crate::{
    session::message::{Message, Purpose},
    websocket::decoder::Kind,
};

/// Longest id, in bytes.
pub const MAX_ID: usize = 128;

/// Largest body of a push to many users, in bytes.
pub const MAX_BATCH: usize = 4 << 20;

/// Largest message, in bytes.
pub const MAX_MESSAGE: usize = 256 << 10;

/// Most users of one batch.
const MAX_USERS: usize = 10_000;

/// Longest name of a user, in bytes: what the kernel program reads.
const MAX_USER: usize = 256;

/// Longest name of an operation, in bytes.
const MAX_OPERATION: usize = 256;

/// A push to many users.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// What makes a repeat the same push.
    pub id: Option<String>,
    /// Whom to.
    pub users: Vec<String>,
    /// What.
    pub message: Message,
}

/// Why it is none. The pusher's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadBatch {
    /// No JSON of that shape.
    #[error(
        "the body is no push: {0}; send {{\"users\": [\"alice\"], \"text\": \"hello\"}}, or `data` in base64 for `text`"
    )]
    Json(#[from] serde_json::Error),
    /// Nobody, or too many.
    #[error("a batch is for 1 to {MAX_USERS} users, and this one for {0}; send several")]
    Users(usize),
    /// No name.
    #[error("the name of a user is 1 to {MAX_USER} bytes")]
    User,
    /// Two messages, or none.
    #[error("a batch brings either `text` or `data` or `openim`")]
    Content,
    /// Not base64.
    #[error("`{0}` is no base64: {1}")]
    Base64(&'static str, base64::DecodeError),
    /// Not what OpenIM's clients are pushed.
    #[error("`openim` is no PushMessages of one message")]
    Envelope,
    /// Too large.
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
    /// No id.
    #[error("an id is 1 to {MAX_ID} characters without spaces, an operation up to {MAX_OPERATION} bytes")]
    Name,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    id: Option<String>,
    users: Vec<String>,
    text: Option<String>,
    data: Option<String>,
    openim: Option<String>,
    #[serde(default)]
    operation: String,
}

/// What became of the push to one of the users.
#[derive(Debug, Serialize)]
pub struct BatchResult<'a> {
    user: &'a str,
    /// `delivered`, `offline` or `unknown`.
    status: &'static str,
    /// The platforms of the sessions that took it.
    platforms: Vec<i32>,
    /// Whether no notification is wanted.
    online_push: bool,
}

// === impl BadBatch ===

impl BadBatch {
    /// The HTTP status that tells the pusher.
    pub fn status(&self) -> u16 {
        if matches!(self, Self::TooLarge(_)) { 413 } else { 400 }
    }
}

// === impl Batch ===

impl Batch {
    /// The batch in a request's body; its message has at most `max` bytes.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(body: &[u8], max: usize) -> Result<Self, BadBatch> {
        let Body { id, users, text, data, openim, operation } = serde_json::from_slice(body)?;
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(BadBatch::Users(users.len()));
        }
        if !users.iter().all(|user| good_user(user)) {
            return Err(BadBatch::User);
        }
        if !id.as_ref().is_none_or(|id| good_id(id)) || operation.len() > MAX_OPERATION {
            return Err(BadBatch::Name);
        }
        let decode = |key, text| BASE64_STANDARD.decode(text).map_err(|error| BadBatch::Base64(key, error));
        let (purpose, kind, payload) = match (text, data, openim) {
            (Some(text), None, None) => (Purpose::Push, Kind::Text, text.into_bytes()),
            (None, Some(data), None) => (Purpose::Push, Kind::Binary, decode("data", data)?),
            (None, None, Some(openim)) => (Purpose::Envelope, Kind::Binary, decode("openim", openim)?),
            _ => return Err(BadBatch::Content),
        };
        if payload.len() > max {
            return Err(BadBatch::TooLarge(max));
        }
        let payload = Bytes::from(payload);
        if purpose == Purpose::Envelope && content(payload.clone()).is_none() {
            return Err(BadBatch::Envelope);
        }
        Ok(Self { id, users, message: Message::for_purpose(purpose, kind, payload, operation) })
    }
}

/// Whether a push can be called so.
pub fn good_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a user can be called so: nobody can be logged in under another name.
pub fn good_user(user: &str) -> bool {
    (1..=MAX_USER).contains(&user.len())
}

/// The name of an operation, cut to what a push may have.
pub fn shorten_operation(mut operation: String) -> String {
    operation.truncate(operation.floor_char_boundary(MAX_OPERATION));
    operation
}

/// Whether a `Content-Type` calls its content text.
pub fn says_text(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/json")
        || media_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
}

/// What is answered for one user.
pub fn result<'a>(user: &'a str, outcome: &Outcome, rule: OnlineRule) -> BatchResult<'a> {
    let platforms = outcome.reached().iter().map(|reached| reached.platform).collect();
    BatchResult { user, status: outcome.name(), platforms, online_push: rule.is_online(outcome) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::Reached;

    fn read(body: &str) -> Result<Batch, String> {
        Batch::read(body.as_bytes(), 10).map_err(|error| error.to_string())
    }

    #[test]
    fn a_batch_is_read() {
        let batch = read(r#"{"id":"m-1","users":["a","ü"],"text":"hi"}"#).unwrap();
        assert_eq!((batch.id.as_deref(), batch.users), (Some("m-1"), vec!["a".to_owned(), "ü".to_owned()]));
        assert_eq!(batch.message, Message::new(Kind::Text, "hi".into()));
        let batch = read(r#"{"users":["a"],"data":"aGk=","operation":"op"}"#).unwrap();
        assert_eq!((batch.id, batch.message), (None, Message::of_operation(Kind::Binary, "hi".into(), "op")));
        // A PushMessages with one message in the conversation without a name; its content is "hi".
        let batch = read(r#"{"users":["a"],"openim":"CggSBgoEYgJoaQ=="}"#).unwrap();
        assert_eq!((batch.message.purpose(), batch.message.plain()), (Purpose::Envelope, (Kind::Text, "hi".into())));
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        let crowd = format!(r#"{{"users":[{}"a"],"text":"x"}}"#, r#""a","#.repeat(MAX_USERS));
        let long = format!(r#"{{"users":["{}"],"text":"x"}}"#, "a".repeat(MAX_USER + 1));
        for (body, expected) in [
            ("hello", "the body is no push: "),
            (r#"{"users":["a"],"text":"x","txt":"y"}"#, "the body is no push: unknown field `txt`"),
            (r#"{"users":[],"text":"x"}"#, "a batch is for 1 to 10000 users, and this one for 0"),
            (&crowd, "a batch is for 1 to 10000 users, and this one for 10001"),
            (&long, "the name of a user is 1 to 256 bytes"),
            (r#"{"users":[""],"text":"x"}"#, "the name of a user is 1 to 256 bytes"),
            (r#"{"users":["a"]}"#, "a batch brings either `text` or `data` or `openim`"),
            (r#"{"users":["a"],"text":"x","data":""}"#, "a batch brings either `text` or `data` or `openim`"),
            (r#"{"users":["a"],"text":"x","openim":""}"#, "a batch brings either `text` or `data` or `openim`"),
            (r#"{"users":["a"],"data":"%"}"#, "`data` is no base64: "),
            (r#"{"users":["a"],"openim":"%"}"#, "`openim` is no base64: "),
            (r#"{"users":["a"],"openim":"aGk="}"#, "`openim` is no PushMessages of one message"),
            (r#"{"users":["a"],"openim":""}"#, "`openim` is no PushMessages of one message"),
            (r#"{"users":["a"],"text":"01234567890"}"#, "the message is larger than 10 bytes"),
            (r#"{"id":"a b","users":["a"],"text":"x"}"#, "an id is 1 to 128 characters"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn every_user_is_answered_for() {
        let reached = [5, 1].map(|platform| Reached { connection: "c".into(), platform, background: false }).to_vec();
        let answer = |outcome| serde_json::to_string(&result("u", &outcome, OnlineRule::Mobile)).unwrap();
        assert_eq!(
            answer(Outcome::Delivered(reached)),
            r#"{"user":"u","status":"delivered","platforms":[5,1],"online_push":true}"#
        );
        assert_eq!(answer(Outcome::Offline), r#"{"user":"u","status":"offline","platforms":[],"online_push":false}"#);
    }
}
