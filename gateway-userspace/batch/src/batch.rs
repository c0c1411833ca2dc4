//! What is sent.
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

use crate::names::{MAX_ID, MAX_OPERATION, MAX_USER, good_id, good_user};

/// Largest body of a push to many users, in bytes.
pub const MAX_BATCH: usize = 4 << 20;

/// Largest message, in bytes.
pub const MAX_MESSAGE: usize = 256 << 10;

/// Most users of one batch.
pub const MAX_USERS: usize = 10_000;

/// A push to many users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What makes a repeat the same push.
    pub id: Option<String>,
    /// Whom to.
    pub users: Vec<String>,
    /// What.
    pub content: Content,
    /// The pusher's name for it; empty if there is none.
    pub operation: String,
}

/// What is pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text(String),
    /// Any bytes.
    Data(Bytes),
    /// A message of OpenIM's in its envelope, a `PushMessages`.
    OpenIm(Bytes),
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

/// A batch as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    id: Option<String>,
    users: Vec<String>,
    text: Option<String>,
    data: Option<String>,
    openim: Option<String>,
    #[serde(default)]
    operation: String,
}

/// A batch as it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    users: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openim: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    operation: &'a str,
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
        let Read { id, users, text, data, openim, operation } = serde_json::from_slice(body)?;
        if users.is_empty() || users.len() > MAX_USERS {
            return Err(BadBatch::Users(users.len()));
        }
        if !users.iter().all(|user| good_user(user)) {
            return Err(BadBatch::User);
        }
        if !id.as_ref().is_none_or(|id| good_id(id)) || operation.len() > MAX_OPERATION {
            return Err(BadBatch::Name);
        }
        let decode = |key, text| match BASE64_STANDARD.decode(text) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) => Err(BadBatch::Base64(key, error)),
        };
        let content = match (text, data, openim) {
            (Some(text), None, None) => Content::Text(text),
            (None, Some(data), None) => Content::Data(decode("data", data)?),
            (None, None, Some(openim)) => Content::OpenIm(decode("openim", openim)?),
            _ => return Err(BadBatch::Content),
        };
        if content.len() > max {
            return Err(BadBatch::TooLarge(max));
        }
        if matches!(&content, Content::OpenIm(envelope) if self::content(envelope.clone()).is_none()) {
            return Err(BadBatch::Envelope);
        }
        Ok(Self { id, users, content, operation })
    }

    /// The body of a request.
    pub fn write(id: Option<&str>, users: &[&str], content: &Content, operation: &str) -> String {
        let base64 = |bytes: &Bytes| Some(BASE64_STANDARD.encode(bytes));
        let (text, data, openim) = match content {
            Content::Text(text) => (Some(&**text), None, None),
            Content::Data(data) => (None, base64(data), None),
            Content::OpenIm(envelope) => (None, None, base64(envelope)),
        };
        let written = Written { id, users, text, data, openim, operation };
        serde_json::to_string(&written).expect("strings are always JSON")
    }
}

// === impl Content ===

impl Content {
    /// Its length in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Data(bytes) | Self::OpenIm(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> Result<Batch, String> {
        Batch::read(body.as_bytes(), 10).map_err(|error| error.to_string())
    }

    #[test]
    fn a_batch_is_read() {
        let batch = read(r#"{"id":"m-1","users":["a","ü"],"text":"hi"}"#).unwrap();
        assert_eq!((batch.id.as_deref(), batch.users), (Some("m-1"), vec!["a".to_owned(), "ü".to_owned()]));
        assert_eq!((batch.content, batch.operation), (Content::Text("hi".into()), String::new()));
        let batch = read(r#"{"users":["a"],"data":"aGk=","operation":"op"}"#).unwrap();
        assert_eq!((batch.id, batch.content, &*batch.operation), (None, Content::Data("hi".into()), "op"));
        // A PushMessages with one message in the conversation without a name.
        let batch = read(r#"{"users":["a"],"openim":"CggSBgoEYgJoaQ=="}"#).unwrap();
        assert!(matches!(batch.content, Content::OpenIm(envelope) if content(envelope.clone()).unwrap() == "hi"));
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

    proptest! {
        #[test]
        fn what_is_written_is_read(
            id in prop::option::of("[!-~]{1,128}"),
            users in prop::collection::vec(".{1,60}", 1..20),
            text in prop::option::of(".{0,60}"),
            data in prop::collection::vec(any::<u8>(), 0..60),
            operation in ".{0,60}",
        ) {
            let content = text.map_or_else(|| Content::Data(data.into()), Content::Text);
            let named: Vec<&str> = users.iter().map(String::as_str).collect();
            let body = Batch::write(id.as_deref(), &named, &content, &operation);
            prop_assert_eq!(Batch::read(body.as_bytes(), 1000).unwrap(), Batch { id, users, content, operation });
        }
    }
}
