//! What is sent to sessions.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::websocket::decoder::Kind;

/// A message for clients. Cheap to clone: all that are to get it share the payload, and those that want it in the same
/// form share the frame, too. So make one of it, not one for each user.
#[derive(Clone)]
pub struct Message(Arc<Inner>);

struct Inner {
    kind: Kind,
    payload: Bytes,
    operation: Box<str>,
    /// By [`Form`].
    frames: [OnceLock<Bytes>; Form::COUNT],
}

/// The forms in which sessions want a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The payload, as a message of its kind.
    Plain,
    /// OpenIM's envelope in gob.
    Gob,
    /// The same, compressed.
    GobGzip,
    /// OpenIM's envelope in JSON.
    Json,
    /// The same, compressed.
    JsonGzip,
}

impl Form {
    const COUNT: usize = 5;
}

/// A message as it travels to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Whether the payload is UTF-8 text.
    pub text: bool,
    /// Its bytes.
    #[serde(with = "bytes_serde")]
    pub payload: Bytes,
    /// The pusher's name for the operation.
    pub operation: String,
}

// === impl Message ===

impl Message {
    /// A message: text, which must then be valid UTF-8, or binary. To OpenIM's clients the payload is the data of a push.
    pub fn new(kind: Kind, payload: Bytes) -> Self {
        Self::of_operation(kind, payload, "")
    }

    /// The same, with the name that the pusher has for it. OpenIM's clients are told, plain ones are not.
    pub fn of_operation(kind: Kind, payload: Bytes, operation: impl Into<Box<str>>) -> Self {
        Self(Arc::new(Inner { kind, payload, operation: operation.into(), frames: Default::default() }))
    }

    /// What the payload is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Its bytes.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// The pusher's name for the operation; empty if there is none.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The message in that form: made by `encode` at the first call, and the same bytes from then on.
    pub fn in_form(&self, form: Form, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.0.frames[form as usize].get_or_init(|| encode(self)).clone()
    }

    /// For another node.
    pub fn to_parcel(&self) -> Parcel {
        Parcel {
            text: self.kind() == Kind::Text,
            payload: self.payload().clone(),
            operation: self.operation().to_owned(),
        }
    }
}

impl From<Parcel> for Message {
    fn from(Parcel { text, payload, operation }: Parcel) -> Self {
        // What another node sends is as good as what it was sent; that a text is UTF-8 is cheap to make sure of.
        let text = text && str::from_utf8(&payload).is_ok();
        Self::of_operation(if text { Kind::Text } else { Kind::Binary }, payload, operation)
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.payload(), self.operation()) == (other.kind(), other.payload(), other.operation())
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind())
            .field("payload", self.payload())
            .field("operation", &self.operation())
            .finish_non_exhaustive()
    }
}

/// Bytes as bytes, not as a list of numbers.
pub(super) mod bytes_serde {
    use std::fmt;

    use bytes::Bytes;
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(in crate::session) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(in crate::session) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Buffer;

        impl Visitor<'_> for Buffer {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::copy_from_slice(bytes))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }
        }

        deserializer.deserialize_byte_buf(Buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_made_once() {
        let message = Message::new(Kind::Text, "hi".into());
        let shared = message.clone();
        let made = message.in_form(Form::Gob, |message| [message.payload(), &b"!"[..]].concat().into());
        assert_eq!(&made[..], b"hi!");
        let again = shared.in_form(Form::Gob, |_| unreachable!("it is there"));
        assert_eq!(again.as_ptr(), made.as_ptr());
        assert_eq!(&shared.in_form(Form::Json, |_| "other".into())[..], b"other");
    }

    #[test]
    fn a_parcel_is_the_message_again() {
        for kind in [Kind::Text, Kind::Binary] {
            let message = Message::of_operation(kind, "hi".into(), "op");
            assert_eq!(Message::from(message.to_parcel()), message);
        }
        let claims = Parcel { text: true, payload: vec![0xff].into(), operation: String::new() };
        assert_eq!(Message::from(claims).kind(), Kind::Binary);
    }
}
