//! What messages mean: the part of a session that differs with `serve`.
//!
//! An application is plain data and pure: it is told what happened and says what is to be done. Sockets, queues, the
//! websocket protocol and the session table are the session's and the gateway's business.

mod plain;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::plain::Plain;
use super::message::Message;
use crate::websocket::{close::Close, decoder::Kind};

/// An application in the middle of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Application {
    /// Messages are echoed, pushes are sent as they are.
    Plain(Plain),
}

/// What an application wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Send the client a message.
    Send(Kind, Bytes),
    /// Send what is queued, then this close frame, and end the session.
    Close(Close),
}

// === impl Application ===

impl Application {
    /// The client has sent a message.
    pub fn message(&mut self, kind: Kind, payload: Vec<u8>, out: &mut Vec<Reaction>) {
        match self {
            Self::Plain(plain) => plain.message(kind, payload, out),
        }
    }

    /// The frame that brings `message` to the client.
    pub fn frame(&self, message: &Message) -> Bytes {
        match self {
            Self::Plain(plain) => plain.frame(message),
        }
    }

    /// The session is kicked. What this says is sent after what is queued; without a close frame among it, the
    /// connection ends without one.
    pub fn kicked(&mut self, out: &mut Vec<Reaction>) {
        match self {
            Self::Plain(plain) => plain.kicked(out),
        }
    }
}
