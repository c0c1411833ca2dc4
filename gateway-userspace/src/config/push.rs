//! Pushes: who may make them, and what becomes of those that come to the wrong node.

use std::{
    fs::File,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Problem};
use crate::push::{
    OnlineRule,
    token::{Token, Tokens},
};

/// Largest file with tokens, in bytes.
const MAX_TOKEN_FILE: u64 = 64 << 10;

/// The `[push]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Tokens in the configuration itself.
    pub(super) tokens: Vec<Token>,
    /// A file with a token a line.
    pub(super) token_file: Option<PathBuf>,
    /// Whether anybody may push.
    pub(super) insecure_no_auth: bool,
    /// Which delivery is told to OpenIM as an online push.
    pub online: OnlineRule,
    /// For how long a push is known by its id.
    pub window: Duration,
    /// How long a push may take.
    pub deadline: Duration,
    /// Where OpenIM's services call this gateway, if they do.
    pub grpc: Option<SocketAddr>,
    /// What they must show.
    pub grpc_auth: GrpcAuth,
}

/// What OpenIM's services must show when they call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GrpcAuth {
    /// A token, like everybody who pushes.
    #[default]
    Token,
    /// Nothing, for they have nothing to show: something else keeps strangers away from that port.
    None,
}

// === impl Push ===

impl Push {
    /// The tokens that are valid; reads their file. The first is the one to push with.
    ///
    /// # Errors
    /// If the file cannot be read, something in it is no token, or there is none and that is not wanted.
    pub fn tokens(&self) -> Result<Tokens, ConfigError> {
        if self.insecure_no_auth {
            return Ok(Tokens::Anybody);
        }
        let mut tokens = self.tokens.clone();
        if let Some(path) = &self.token_file {
            tokens.extend(read(path)?);
        }
        if tokens.is_empty() {
            return Err(ConfigError::elsewhere(Problem::NoPushToken));
        }
        Ok(Tokens::These(tokens))
    }

    /// The file that holds tokens.
    pub fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }
}

fn read(path: &Path) -> Result<Vec<Token>, ConfigError> {
    let unreadable = |error| ConfigError::elsewhere(Problem::UnreadableTokens { path: path.to_owned(), error });
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_TOKEN_FILE).read_to_string(&mut text)).map_err(unreadable)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| Token::new(line).ok_or_else(|| ConfigError::elsewhere(Problem::PushToken))).collect()
}
