//! `serve = "openim"`: what OpenIM's clients say and are told.

use bytes::Bytes;
use ringsteer_openim::{
    dispatch::{self, Action, Client, Ending, Failure, Ticket},
    platform::Class,
};
use serde::{Deserialize, Serialize};

use super::Reaction;
use crate::{
    session::message::{Form, Message, Purpose},
    websocket::{decoder::Kind, encoder::Encoder},
};

/// A client of OpenIM, logged in. Boxed, so that other sessions do not pay for its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIm(Box<Client>);

impl OpenIm {
    /// The application of that client.
    pub fn new(client: Client) -> Self {
        Self(Box::new(client))
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.0
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.0.is_waiting()
    }

    /// Browsers answer pings, and give no program a way to send one.
    pub(super) fn wants_pings(&self) -> bool {
        self.0.platform().class() == Class::Web
    }

    pub(super) fn message(&mut self, kind: Kind, payload: Vec<u8>, out: &mut Vec<Reaction>) {
        let mut actions = Vec::new();
        match kind {
            // The decoder lets no other text pass.
            Kind::Text => self.0.text(&String::from_utf8_lossy(&payload), &mut actions),
            Kind::Binary => self.0.binary(&payload.into(), &mut actions),
        }
        out.extend(actions.into_iter().map(|action| match action {
            Action::Send(frame) => Reaction::Send(Kind::Binary, frame),
            Action::SendText(text) => Reaction::Send(Kind::Text, text.into()),
            Action::Ask { ticket, question } => Reaction::Ask(ticket, question),
            Action::Background(background) => Reaction::Background(background),
            Action::Watch { more, fewer } => Reaction::Watch { more, fewer },
            Action::End(ending @ Ending::LoggedOut) => Reaction::Close(ending.close()),
            Action::End(ending) => Reaction::Refuse(ending.close()),
        }));
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Result<Bytes, Failure>, out: &mut Vec<Reaction>) {
        out.push(Reaction::Send(Kind::Binary, self.0.answer(ticket, answer)));
    }

    pub(super) fn frame(&self, message: &Message, encoder: Encoder) -> Bytes {
        let wire = self.0.wire();
        message.frame(Form::OpenIm(wire), encoder, |message| {
            let payload = message.payload().clone();
            let response = match message.purpose() {
                Purpose::Push | Purpose::Envelope => dispatch::push(message.operation(), payload),
                Purpose::OnlineStatus => dispatch::online_status(payload),
            };
            (Kind::Binary, wire.write(&response))
        })
    }

    pub(super) fn kicked(&mut self, out: &mut Vec<Reaction>) {
        out.push(Reaction::Send(Kind::Binary, self.0.wire().write(&dispatch::kicked())));
    }
}
