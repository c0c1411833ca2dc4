//! From a request to a client that is who it says it is.

use std::sync::Arc;

use ringsteer_openim::{
    error::{ApiError, Code},
    login::Login,
    policy::{Fate, Terminal},
    token::{Claims, TokenDigest},
};

use super::{OpenIm, now};
use crate::{
    gateway::{Shared, http::Response, line::Line},
    session::table::{Card, Farewell, SessionId},
    websocket::{
        close::{Close, CloseCode},
        decoder::Kind,
        encoder::Encoder,
        frame::{self, Opcode},
        handshake::Upgrade,
    },
};

/// A client that is not let in, and how it wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Refusal {
    pub(in crate::gateway) error: ApiError,
    /// In a text frame, or else as the answer to its request.
    pub(in crate::gateway) wants_reply: bool,
}

/// Proves who the client is.
pub(in crate::gateway) fn authenticate(openim: &OpenIm, login: &Login) -> Result<Claims, Refusal> {
    let now = now();
    let mut kicked = openim.kicked();
    kicked.forget_expired(openim.keys.expired_until(now));
    openim.keys.authenticate(login, &kicked, now).map_err(|error| Refusal { error, wants_reply: login.wants_reply })
}

/// Puts the client's session into the table, and ends those that may not stay beside it.
pub(in crate::gateway) fn register(
    shared: &Arc<Shared>,
    openim: &OpenIm,
    login: &Login,
    card: Card,
    line: &Arc<Line>,
) -> Result<SessionId, Refusal> {
    let user = login.user.as_bytes();
    let new = Terminal { platform: login.platform, token: TokenDigest::of(&login.token) };
    let refuse = |code, why: String| Refusal { error: ApiError::new(code, why), wants_reply: login.wants_reply };
    let mut sessions = shared.sessions();
    // Under the table's lock, so that whoever stops the gateway says goodbye to this session or finds it refused.
    if shared.stopping.is_cancelled() {
        return Err(refuse(Code::ServerInternal, "the gateway stops".into()));
    }
    let ended: Vec<_> = sessions
        .of(user)
        .filter_map(|(id, card, _)| {
            let platform = card.platform.try_into().ok()?;
            let existing = Terminal { platform, token: card.token? };
            match openim.policy.fate(existing, new) {
                Fate::Stays => None,
                Fate::Replaced => Some((id, Farewell::Replace, card.clone())),
                Fate::Kicked => Some((id, Farewell::Kick, card.clone())),
            }
        })
        .collect();
    for (id, farewell, card) in ended {
        if farewell == Farewell::Kick {
            shared.token_is_kicked(&card);
        }
        sessions.end(user, id, farewell);
    }
    sessions
        .insert(user, card, Arc::clone(line))
        .map_err(|crowded| refuse(Code::TooManyConnections, crowded.to_string()))
}

impl Refusal {
    /// What is sent to the client, and then no more.
    pub(in crate::gateway) fn encode(&self, upgrade: &Upgrade) -> Vec<u8> {
        let json = self.error.to_json();
        if !self.wants_reply {
            return Response::text(200, json).encode(false);
        }
        let mut bytes = greeting(upgrade, Some(&json)).to_vec();
        frame::encode(Opcode::Close, &Close::new(CloseCode::NORMAL, "").payload(), &mut bytes);
        bytes
    }
}

/// The 101, and the text that goes with it, if one does.
pub(in crate::gateway) fn greeting(upgrade: &Upgrade, text: Option<&str>) -> bytes::BytesMut {
    let mut bytes = bytes::BytesMut::from(&upgrade.response()[..]);
    if let Some(text) = text {
        Encoder::new(upgrade.deflate()).encode(Kind::Text, text.as_bytes(), &mut bytes);
    }
    bytes
}
