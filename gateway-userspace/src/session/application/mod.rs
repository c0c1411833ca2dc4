//! What messages mean: the part of a session that differs with `serve`.
//!
//! An application is plain data and pure: it is told what happened and says what is to be done. Sockets, queues, the
//! websocket protocol and the session table are the session's and the gateway's business.

mod openim;
mod plain;

use bytes::Bytes;
use ringsteer_openim::dispatch::{Failure, Question, Ticket};
use serde::{Deserialize, Serialize};

pub use self::{openim::OpenIm, plain::Plain};
use super::message::Message;
use crate::websocket::{close::Close, decoder::Kind, encoder::Encoder};

/// An application in the middle of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Application {
    /// Messages are echoed, pushes are sent as they are.
    Plain(Plain),
    /// OpenIM's protocol.
    OpenIm(OpenIm),
}

/// What an application wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// Send the client a message.
    Send(Kind, Bytes),
    /// Send what is queued, then this close frame, and end the session.
    Close(Close),
    /// The same, because of what the client has sent.
    Refuse(Close),
    /// Ask somebody, and bring the answer.
    Ask(Ticket, Question),
    /// The client's application is in the background now, or no more.
    Background(bool),
    /// The client wants to be told of these users' status, and of those no longer.
    Watch {
        /// Of whom from now on.
        more: Vec<String>,
        /// Of whom no longer.
        fewer: Vec<String>,
    },
}

// === impl Application ===

impl Application {
    /// The client has sent a message.
    pub fn message(&mut self, kind: Kind, payload: Vec<u8>, out: &mut Vec<Reaction>) {
        match self {
            Self::Plain(plain) => plain.message(kind, payload, out),
            Self::OpenIm(openim) => openim.message(kind, payload, out),
        }
    }

    /// What was asked has been answered.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<Bytes, Failure>, out: &mut Vec<Reaction>) {
        match self {
            // It asks nothing.
            Self::Plain(_) => {}
            Self::OpenIm(openim) => openim.answer(ticket, answer, out),
        }
    }

    /// Whether nothing more of the client is to be looked at before a question is answered.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::OpenIm(openim) => openim.is_waiting(),
        }
    }

    /// Whether the client has to be pinged, for it may not be able to ping by itself.
    pub fn wants_pings(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::OpenIm(openim) => openim.wants_pings(),
        }
    }

    /// Whom the client wants to be told of.
    pub fn watched(&self) -> Vec<String> {
        match self {
            Self::Plain(_) => vec![],
            Self::OpenIm(openim) => openim.client().watched().map(str::to_owned).collect(),
        }
    }

    /// The frame that brings `message` to the client.
    pub fn frame(&self, message: &Message, encoder: Encoder) -> Bytes {
        match self {
            Self::Plain(plain) => plain.frame(message, encoder),
            Self::OpenIm(openim) => openim.frame(message, encoder),
        }
    }

    /// The session is kicked. What this says is sent after what is queued; without a close frame among it, the
    /// connection ends without one.
    pub fn kicked(&mut self, out: &mut Vec<Reaction>) {
        match self {
            Self::Plain(plain) => plain.kicked(out),
            Self::OpenIm(openim) => openim.kicked(out),
        }
    }
}
