//! The `[openim]` table: what `serve = "openim"` needs.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use ringsteer_openim::{policy::Policy, token::Keys};

use super::{ConfigError, Problem, read_token};

/// Largest file taken for a secret or token, in bytes.
const MAX_SECRET_FILE: u64 = 4096;

/// The `[openim]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenIm {
    /// Files with the secrets that clients' tokens may be signed with, one each. Not empty.
    pub token_secret_files: Vec<PathBuf>,
    /// How far clocks may differ.
    pub token_leeway: Duration,
    /// Which sessions of a user exclude each other.
    pub login_policy: Policy,
    /// Where the message service is, as a URL; without one, requests that need it are answered with an error.
    pub msg_service: Option<String>,
    /// The file with the token that it wants to see.
    pub msg_token_file: Option<PathBuf>,
    /// For an answer of the message service.
    pub msg_timeout: Duration,
    /// Most questions that it may have unanswered.
    pub msg_in_flight: usize,
}

// === impl OpenIm ===

impl OpenIm {
    /// The keys for clients' tokens; reads their files.
    ///
    /// # Errors
    /// If a file cannot be read, or is empty.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let secrets = self.token_secret_files.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        let empty = |_| ConfigError::elsewhere(Problem::NoTokenSecret);
        Keys::new(secrets, self.token_leeway).map_err(empty)
    }

    /// The token for the message service; reads its file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no token.
    pub fn msg_token(&self) -> Result<Option<String>, ConfigError> {
        self.msg_token_file.as_deref().map(read_token).transpose()
    }
}

/// What stands in a file, without the line end after it.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let mut secret = Vec::new();
    let path_of = || path.to_owned();
    File::open(path)
        .and_then(|file| file.take(MAX_SECRET_FILE + 1).read_to_end(&mut secret))
        .map_err(|error| ConfigError::elsewhere(Problem::UnreadableTokenSecret { path: path_of(), error }))?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    if secret.is_empty() || secret.len() as u64 > MAX_SECRET_FILE {
        return Err(ConfigError::elsewhere(Problem::EmptySecret(path_of())));
    }
    Ok(secret)
}
