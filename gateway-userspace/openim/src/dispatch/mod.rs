//! One client after its login: what its messages mean, and what has to be done.
//!
//! | file | subject |
//! |---|---|
//! | `question` | what somebody else has to be asked for a client |
//!
//! [`Client`] is pure and plain data: messages in, [`Action`]s out; it can be stored and go on in another process. It
//! knows nothing of sockets or services. What it cannot answer itself it has asked ([`Action::Ask`]): the message
//! service, or whoever knows who is online. Answers come back with the [`Ticket`] of the question.
//!
//! | id | |
//! |---|---|
//! | 1001, 1002, 1003, 1005, 1006, 1007 | asked of the message service, as far as the request is the user's own |
//! | 2003 | answered, then the session ends |
//! | 2004 | noted and answered |
//! | 2005 | noted; whoever knows is asked who is online |
//! | any other, 1004 among them | answered with an error; old gateways end the session, which breaks newer clients |
//!
//! The session ends where going on makes no sense: a frame that cannot be read, another sender than the user, a text that
//! is neither ping nor pong.
//!
//! Messages of one client must stay in order, so it is listened to again only when its last question is answered
//! ([`Client::is_waiting`]), which also bounds what one client can have asked.

mod question;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use ringsteer_websocket::close::{Close, CloseCode};
use serde::{Deserialize, Serialize};

pub use self::question::Question;
use crate::{
    error::{ApiError, Code},
    frame::{BadFrame, Request, Response, Wire, id, text},
    login::Login,
    message::sdkws::{SetAppBackgroundStatusReq, SubUserOnlineStatus},
    platform::Platform,
    policy::Terminal,
    token::{Claims, TokenDigest, UnixSeconds},
};

/// Most users whose online status one client is told of.
pub const MAX_WATCHED: usize = 3000;

/// A client, logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    user: String,
    platform: Platform,
    token: TokenDigest,
    expires: UnixSeconds,
    connection_id: String,
    sdk_version: String,
    wire: Wire,
    background: bool,
    /// Users whose online status it is told of.
    watched: BTreeSet<String>,
    /// Questions that have not been answered.
    waiting: u32,
}

/// What has to be done. In order: what is to be sent is sent before the session ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a binary message.
    Send(Bytes),
    /// Send a text message.
    SendText(String),
    /// Ask somebody; see [`Question`].
    Ask {
        /// Comes back with the answer.
        ticket: Ticket,
        /// What to ask.
        question: Question,
    },
    /// The app is in the background now, or no more.
    Background(bool),
    /// The client wants to be told of other users than before.
    Watch {
        /// Whom to tell it of from now on.
        more: Vec<String>,
        /// Whom no longer.
        fewer: Vec<String>,
    },
    /// End the session.
    End(Ending),
}

/// The request that a question is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What the request is for.
    pub id: i32,
    /// The client's name for it.
    pub msg_incr: String,
    /// Names what the user does, in logs.
    pub operation_id: String,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number that the client is told; a [`Code`], or another of OpenIM's.
    pub code: i64,
    /// What is wrong.
    pub message: String,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The user has logged out.
    #[error("logged out")]
    LoggedOut,
    /// A frame of somebody else.
    #[error("the frame's sendID is not the session's user")]
    NotTheUser,
    /// A frame that cannot be read.
    #[error("the frame cannot be read: {0}")]
    BadFrame(#[from] BadFrame),
    /// A text that is neither ping nor pong.
    #[error("the text is neither ping nor pong")]
    BadText,
}

// === impl Client ===

impl Client {
    /// The client of a login that has been proven.
    pub fn new(login: &Login, claims: &Claims, connection_id: String) -> Self {
        Self {
            user: login.user.clone(),
            platform: login.platform,
            token: TokenDigest::of(&login.token),
            expires: claims.expires,
            connection_id,
            sdk_version: login.sdk_version.clone(),
            wire: login.into(),
            background: login.background,
            watched: BTreeSet::new(),
            waiting: 0,
        }
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// As policies see it.
    pub fn terminal(&self) -> Terminal {
        Terminal { platform: self.platform, token: self.token }
    }

    /// When its token expires.
    pub fn token_expires(&self) -> UnixSeconds {
        self.expires
    }

    /// Its connection's name.
    pub fn connection_id(&self) -> &str {
        &self.connection_id
    }

    /// The version of its SDK; may be empty.
    pub fn sdk_version(&self) -> &str {
        &self.sdk_version
    }

    /// How its frames are written.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Whether the app is in the background.
    pub fn is_in_background(&self) -> bool {
        self.background
    }

    /// The users whose online status it is told of.
    pub fn watched(&self) -> impl Iterator<Item = &str> {
        self.watched.iter().map(String::as_str)
    }

    /// Whether a question is unanswered. Until then nothing more of the client should be looked at.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// The client has sent a binary message.
    pub fn binary(&mut self, message: &Bytes, out: &mut Vec<Action>) {
        let request = match self.wire.read(message) {
            Ok(request) => request,
            Err(bad) => return out.push(Action::End(bad.into())),
        };
        if request.send_id != self.user {
            return out.push(Action::End(Ending::NotTheUser));
        }
        let Request { id, operation_id, msg_incr, data, .. } = request;
        let ticket = Ticket { id, msg_incr, operation_id };
        if let Err(error) = self.request(&ticket, data, out) {
            out.push(Action::Send(self.frame(ticket, Err(error.into()))));
        }
    }

    /// The client has sent a text message.
    pub fn text(&mut self, message: &str, out: &mut Vec<Action>) {
        match text::read(message) {
            Some((_, answer)) => out.extend(answer.map(Action::SendText)),
            None => out.push(Action::End(Ending::BadText)),
        }
    }

    /// A question has been answered, with the data of the answer or a failure: the frame to send.
    pub fn answer(&mut self, ticket: Ticket, answer: Result<Bytes, Failure>) -> Bytes {
        self.waiting = self.waiting.saturating_sub(1);
        self.frame(ticket, answer)
    }

    /// Does what a request wants.
    fn request(&mut self, ticket: &Ticket, data: Bytes, out: &mut Vec<Action>) -> Result<(), ApiError> {
        match ticket.id {
            id::LOGOUT => {
                out.push(Action::Send(self.frame(ticket.clone(), Ok(Bytes::new()))));
                out.push(Action::End(Ending::LoggedOut));
            }
            id::BACKGROUND => {
                let request = SetAppBackgroundStatusReq::decode(data).map_err(unreadable)?;
                if self.background != request.is_background {
                    self.background = request.is_background;
                    out.push(Action::Background(self.background));
                }
                out.push(Action::Send(self.frame(ticket.clone(), Ok(Bytes::new()))));
            }
            id::ONLINE_STATUS => {
                let request = SubUserOnlineStatus::decode(data).map_err(unreadable)?;
                let question = Question::OnlineStatus(request.subscribe_user_id.clone());
                self.watch(request, out)?;
                self.ask(ticket, question, out);
            }
            _ => {
                let question = Question::of(ticket.id, &self.user, data)?;
                self.ask(ticket, question, out);
            }
        }
        Ok(())
    }

    fn ask(&mut self, ticket: &Ticket, question: Question, out: &mut Vec<Action>) {
        self.waiting += 1;
        out.push(Action::Ask { ticket: ticket.clone(), question });
    }

    /// Changes whom the client is told of. What is in both lists is wanted.
    fn watch(&mut self, request: SubUserOnlineStatus, out: &mut Vec<Action>) -> Result<(), ApiError> {
        let (mut more, mut fewer) = (Vec::new(), Vec::new());
        let mut watched = self.watched.clone();
        for user in request.unsubscribe_user_id {
            if !request.subscribe_user_id.contains(&user) && watched.remove(&user) {
                fewer.push(user);
            }
        }
        for user in request.subscribe_user_id {
            if watched.insert(user.clone()) {
                more.push(user);
            }
        }
        if watched.len() > MAX_WATCHED {
            return Err(ApiError::new(Code::Args, format!("the status of more than {MAX_WATCHED} users")));
        }
        self.watched = watched;
        if !more.is_empty() || !fewer.is_empty() {
            out.push(Action::Watch { more, fewer });
        }
        Ok(())
    }

    /// The frame that answers a request.
    fn frame(&self, ticket: Ticket, answer: Result<Bytes, Failure>) -> Bytes {
        let Ticket { id, msg_incr, operation_id } = ticket;
        let (err_code, err_msg, data) = match answer {
            Ok(data) => (0, String::new(), data),
            Err(Failure { code, message }) => (code, message, Bytes::new()),
        };
        self.wire.write(&Response { id, msg_incr, operation_id, err_code, err_msg, data })
    }
}

/// What is pushed to clients: messages, `data` being the bytes of a [`PushMessages`](crate::message::sdkws::PushMessages).
/// Written once for each [`Wire`] it serves all of them.
pub fn push(operation_id: impl Into<String>, data: Bytes) -> Response {
    Response { id: id::PUSH, operation_id: operation_id.into(), data, ..Response::default() }
}

/// What a client is told whom another login has ended. The connection ends then, without a close frame.
pub fn kicked() -> Response {
    Response { id: id::KICKED, ..Response::default() }
}

/// What a client is told when the status of a user changes that it watches; `data` being the bytes of a
/// [`SubUserOnlineStatusTips`](crate::message::sdkws::SubUserOnlineStatusTips).
pub fn online_status(data: Bytes) -> Response {
    Response { id: id::ONLINE_STATUS, data, ..Response::default() }
}

fn unreadable(error: prost::DecodeError) -> ApiError {
    ApiError::new(Code::Args, format!("the data cannot be read: {error}"))
}

// === impl Ending ===

impl Ending {
    /// The close frame to say it with.
    pub fn close(&self) -> Close {
        let code = match self {
            Self::LoggedOut => CloseCode::NORMAL,
            Self::NotTheUser => CloseCode::POLICY,
            Self::BadFrame(BadFrame::TooLarge(_) | BadFrame::TooLargeUnpacked) => CloseCode::TOO_BIG,
            Self::BadFrame(_) | Self::BadText => CloseCode::INVALID_DATA,
        };
        Close::new(code, self.to_string())
    }
}

// === impl Failure ===

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { code: error.code as i64, message: format!("{}: {}", error.code.name(), error.detail) }
    }
}
