//! `serve = "openim"`: what OpenIM's clients need of a gateway beyond a websocket.
//!
//! | file | subject |
//! |---|---|
//! | `login` | from a request to a client that is who it says, or the error in the form that it reads |
//! | `kicked` | tokens that are worth nothing any more, at every gateway |
//! | `service` | the message service, asked for clients |
//! | `presence` | who is online, and who wants to know, at any gateway |
//!
//! What clients mean is decided in the pure [`crate::session::application`].

mod kicked;
mod login;
mod presence;
mod service;

use std::{
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ringsteer_openim::{
    dispatch::{Client, Failure, Question},
    policy::Policy,
    token::{Keys, Kicked, KickedToken, UnixSeconds},
};
use ringsteer_openim_rpc::Caller;
use tokio::sync::broadcast;

use self::service::MessageService;
pub(super) use self::{
    kicked::spread,
    login::{Refusal, authenticate, greeting, register},
    presence::{Presence, Watched, Watcher, follow},
};
use super::Shared;
use crate::{
    config::{self, ConfigError},
    peer::gateways::Handlers,
    session::table::Card,
};

/// What OpenIM's clients have in common.
#[derive(Debug)]
pub(super) struct OpenIm {
    keys: Keys,
    policy: Policy,
    /// Tokens that another login has ended.
    kicked: Mutex<Kicked>,
    /// The same, as they become known here.
    news: broadcast::Sender<KickedToken>,
    service: MessageService,
}

/// Answers other gateways.
pub(super) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    presence::answer(handlers, shared);
    kicked::answer(handlers, shared);
}

// === impl OpenIm ===

impl OpenIm {
    /// As configured; reads the secrets. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If a file with a secret cannot be read.
    pub(super) fn new(config: &config::OpenIm) -> Result<Self, ConfigError> {
        Ok(Self {
            keys: config.keys()?,
            policy: config.login_policy,
            kicked: Mutex::default(),
            news: broadcast::Sender::new(kicked::MAX_NEWS),
            service: MessageService::new(config, config.msg_token()?),
        })
    }

    fn kicked(&self) -> MutexGuard<'_, Kicked> {
        self.kicked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Which sessions of a user exclude each other.
    pub(super) fn login_policy(&self) -> Policy {
        self.openim.as_ref().map(|openim| openim.policy).unwrap_or_default()
    }

    /// Another login, or an operator, has ended a session: its token is worth nothing any more, here and anywhere.
    pub(super) fn token_is_kicked(&self, card: &Card) {
        self.counters.kicked();
        if let (Some(openim), Some(token)) = (&self.openim, card.token) {
            openim.are_kicked(&[(card.token_expires, token)]);
        }
    }

    /// How many tokens are known as kicked.
    pub(super) fn tokens_kicked(&self) -> usize {
        self.openim.as_ref().map_or(0, |openim| openim.kicked().len())
    }

    /// Asks on behalf of a client.
    pub(super) async fn ask_for(
        &self,
        caller: Caller,
        watcher: Option<Watcher>,
        question: Question,
    ) -> Result<Bytes, Failure> {
        match (question, &self.openim) {
            (Question::OnlineStatus(users), _) => match watcher {
                Some(watcher) => Ok(self.online_status(&watcher, &users).await),
                // It is leaving.
                None => Ok(Bytes::new()),
            },
            (question, Some(openim)) => openim.service.ask(&caller, question).await,
            (_, None) => Err(service::failure("this gateway serves no OpenIM")),
        }
    }
}

/// Who asks, when it is asked for `client`.
pub(super) fn caller(client: &Client, operation_id: &str) -> Caller {
    Caller {
        // It must have a name.
        operation_id: if operation_id.is_empty() { client.connection_id().to_owned() } else { operation_id.to_owned() },
        user_id: Some(client.user().to_owned()),
        platform: Some(client.platform().name().to_owned()),
        conn_id: Some(client.connection_id().to_owned()),
    }
}

/// The time as tokens know it.
fn now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as UnixSeconds)
}
