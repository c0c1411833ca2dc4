//! `serve = "websocket"`: for trying out, for tests and for benchmarks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Reaction;
use crate::{
    session::message::{Form, Message},
    websocket::{
        close::{Close, CloseCode},
        decoder::Kind,
        encoder::Encoder,
    },
};

/// Echoes messages, and sends pushes as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain;

impl Plain {
    pub(super) fn message(&mut self, kind: Kind, payload: Vec<u8>, out: &mut Vec<Reaction>) {
        out.push(Reaction::Send(kind, payload.into()));
    }

    pub(super) fn frame(&self, message: &Message, encoder: Encoder) -> Bytes {
        message.frame(Form::Plain, encoder, Message::plain)
    }

    pub(super) fn kicked(&mut self, out: &mut Vec<Reaction>) {
        out.push(Reaction::Close(Close::new(CloseCode::POLICY, "this session was ended by the user or an operator")));
    }
}
