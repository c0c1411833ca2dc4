//! The stateless front before the gateways: where it takes messages, and whom it tells who was offline.

use std::{fs::File, io::Read as _, net::SocketAddr, path::PathBuf, time::Duration};

use super::{ConfigError, GrpcAuth, Problem};
use crate::push::token::Token;

/// Longest secret of a webhook, in bytes: what a block of SHA-256 holds.
pub(super) const MAX_WEBHOOK_SECRET: usize = 64;

/// The `[front]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// Where messages come in over HTTP.
    pub http: Option<SocketAddr>,
    /// Where OpenIM's services call.
    pub grpc: Option<SocketAddr>,
    /// What those must show.
    pub grpc_auth: GrpcAuth,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The service that pushes go to; the first one with `serve = "push"` if it has no name here.
    pub service: Option<String>,
    /// How long a push may take, with everything that has to be tried again.
    pub deadline: Duration,
    /// Who is told who was offline.
    pub webhook: Webhook,
}

/// The keys of `[front]` that begin with `webhook_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where it is; without, nobody is told.
    pub url: Option<hyper::Uri>,
    /// A file with the token that it is shown.
    pub(super) token_file: Option<PathBuf>,
    /// A file with the secret that calls are signed with.
    pub(super) secret_file: Option<PathBuf>,
    /// Attempts at a call.
    pub attempts: u32,
    /// How long one may take.
    pub timeout: Duration,
    /// Calls that may wait.
    pub queue: usize,
}

// === impl Webhook ===

impl Webhook {
    /// The token that it is shown; reads its file.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn token(&self) -> Result<Option<Token>, ConfigError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let text = read(path)?;
        let token = str::from_utf8(&text).ok().and_then(Token::new);
        token.map(Some).ok_or_else(|| ConfigError::elsewhere(Problem::PushToken))
    }

    /// The secret that calls are signed with; reads its file.
    ///
    /// # Errors
    /// If it cannot be read, or is too long or empty.
    pub fn secret(&self) -> Result<Option<Vec<u8>>, ConfigError> {
        let Some(path) = &self.secret_file else { return Ok(None) };
        let secret = read(path)?;
        let good = (1..=MAX_WEBHOOK_SECRET).contains(&secret.len());
        good.then_some(Some(secret)).ok_or_else(|| ConfigError::elsewhere(Problem::WebhookSecret))
    }
}

/// What stands in a small file, without the space around it.
fn read(path: &PathBuf) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(1024).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::elsewhere(Problem::UnreadableTokens { path: path.clone(), error }))?;
    Ok(bytes.trim_ascii().to_vec())
}
