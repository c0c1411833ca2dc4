//! What is sent to sessions.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use ringsteer_openim::{
    frame::Wire,
    login::{Compression, Encoding},
    message::content,
};
use serde::{Deserialize, Serialize};

use crate::websocket::{
    decoder::Kind,
    encoder::{Encoder, SharedMessage},
};

/// A message for clients. Cheap to clone: all that are to get it share the payload, and those that want it in the same
/// form share the frame, too. So make one of it, not one for each user.
#[derive(Clone)]
pub struct Message(Arc<Inner>);

struct Inner {
    kind: Kind,
    payload: Bytes,
    operation: Box<str>,
    purpose: Purpose,
    /// By [`Form`].
    forms: [OnceLock<Box<SharedMessage>>; Form::COUNT],
}

/// What a message is for. Plain clients are not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To OpenIM's clients the payload is what they are pushed, a `PushMessages`.
    #[default]
    Push,
    /// To OpenIM's clients the payload is the status of users whom they watch, a `SubUserOnlineStatusTips`.
    OnlineStatus,
    /// The payload is a message of OpenIM's in its envelope, a `PushMessages`. OpenIM's clients are pushed that; plain ones
    /// know no envelope, and get the content.
    Envelope,
}

/// The forms in which sessions want a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The payload, as a message of its kind.
    Plain,
    /// OpenIM's envelope, in the way that the client chose.
    OpenIm(Wire),
}

impl Form {
    const COUNT: usize = 5;

    fn index(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::OpenIm(Wire { encoding, compression }) => {
                let json = usize::from(encoding == Encoding::Json);
                let gzip = usize::from(compression == Compression::Gzip);
                1 + 2 * json + gzip
            }
        }
    }
}

/// A message as it travels to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Whether the payload is UTF-8 text.
    pub text: bool,
    /// Its bytes.
    pub payload: Bytes,
    /// The pusher's name for the operation.
    pub operation: String,
    /// What it is for.
    pub purpose: Purpose,
}

// === impl Message ===

impl Message {
    /// A message: text, which must then be valid UTF-8, or binary. To OpenIM's clients the payload is the data of a push.
    pub fn new(kind: Kind, payload: Bytes) -> Self {
        Self::of_operation(kind, payload, "")
    }

    /// The same, with the name that the pusher has for it. OpenIM's clients are told, plain ones are not.
    pub fn of_operation(kind: Kind, payload: Bytes, operation: impl Into<Box<str>>) -> Self {
        Self::for_purpose(Purpose::Push, kind, payload, operation)
    }

    /// The same, for a purpose.
    pub fn for_purpose(purpose: Purpose, kind: Kind, payload: Bytes, operation: impl Into<Box<str>>) -> Self {
        let operation = operation.into();
        Self(Arc::new(Inner { kind, payload, operation, purpose, forms: Default::default() }))
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

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// What clients get who know nothing of OpenIM: the payload, or what is in the envelope.
    pub fn plain(&self) -> (Kind, Bytes) {
        let content = match self.purpose() {
            Purpose::Envelope => content(self.payload().clone()),
            Purpose::Push | Purpose::OnlineStatus => None,
        };
        match content {
            Some(content) => {
                let kind = if str::from_utf8(&content).is_ok() { Kind::Text } else { Kind::Binary };
                (kind, content)
            }
            None => (self.kind(), self.payload().clone()),
        }
    }

    /// The frame that brings the message to a client in that form. The form is made by `make` at the first call, and then
    /// it is the same bytes for all who agreed on the same.
    pub fn frame(&self, form: Form, encoder: Encoder, make: impl FnOnce(&Self) -> (Kind, Bytes)) -> Bytes {
        let shared = self.0.forms[form.index()].get_or_init(|| {
            let (kind, payload) = make(self);
            Box::new(SharedMessage::new(kind, payload))
        });
        shared.frame(encoder)
    }

    /// For another node.
    pub fn to_parcel(&self) -> Parcel {
        Parcel {
            text: self.kind() == Kind::Text,
            payload: self.payload().clone(),
            operation: self.operation().to_owned(),
            purpose: self.purpose(),
        }
    }
}

impl From<Parcel> for Message {
    fn from(Parcel { text, payload, operation, purpose }: Parcel) -> Self {
        // What another node sends is as good as what it was sent; that a text is UTF-8 is cheap to make sure of.
        let text = text && str::from_utf8(&payload).is_ok();
        Self::for_purpose(purpose, if text { Kind::Text } else { Kind::Binary }, payload, operation)
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let parts = |message: &Self| (message.kind(), message.payload().clone(), message.purpose());
        parts(self) == parts(other) && self.operation() == other.operation()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_made_once() {
        let message = Message::new(Kind::Text, "hi".into());
        let shared = message.clone();
        let encoder = Encoder::new(None);
        let plain = |message: &Message| (message.kind(), message.payload().clone());
        let made = message.frame(Form::Plain, encoder, plain);
        assert_eq!(&made[..], b"\x81\x02hi");
        let again = shared.frame(Form::Plain, encoder, |_| unreachable!("it is there"));
        assert_eq!(again.as_ptr(), made.as_ptr());
        for (index, wire) in Wire::ALL.into_iter().enumerate() {
            let own = Bytes::from(vec![index as u8]);
            let frame = shared.frame(Form::OpenIm(wire), encoder, |_| (Kind::Binary, own));
            assert_eq!(&frame[..], [0x82, 1, index as u8], "each form is its own");
        }
    }

    #[test]
    fn a_parcel_is_the_message_again() {
        for kind in [Kind::Text, Kind::Binary] {
            let message = Message::of_operation(kind, "hi".into(), "op");
            assert_eq!(Message::from(message.to_parcel()), message);
        }
        let payload = vec![0xff].into();
        let claims = Parcel { text: true, payload, operation: String::new(), purpose: Purpose::OnlineStatus };
        assert_eq!(Message::from(claims).kind(), Kind::Binary);
    }
}
