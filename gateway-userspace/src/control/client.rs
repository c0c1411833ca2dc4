//! One request, one answer.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{io::BufReader, net::UnixStream};

use super::{
    line::{self, LineError, MAX_ANSWER_BYTES},
    message::{Answer, PublicationError, Request, Status},
};

/// Why the agent gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there.
    #[error("cannot reach the agent on {}: {error}; is `ringsteer agent` running, and may this user connect?", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent's answer: {0}")]
    Line(#[from] LineError),
    /// It hung up.
    #[error("the agent hung up")]
    HungUp,
    /// It would not.
    #[error("the agent refused: {0}")]
    Refused(String),
    /// It answered another question.
    #[error("the agent answered another question; agent and this program are of versions that do not go together")]
    Unexpected,
    /// What it publishes is not to be believed.
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

/// How the agent that listens on `path` is.
///
/// # Errors
/// If it cannot be reached or does not answer.
pub async fn status(path: &Path) -> Result<Status, ClientError> {
    let mut agent = Agent::ask(path, &Request::Status {}).await?;
    match agent.answer().await? {
        Answer::Status(status) => Ok(status),
        _ => Err(ClientError::Unexpected),
    }
}

/// An agent that has been asked something.
pub(super) struct Agent {
    stream: BufReader<UnixStream>,
}

// === impl Agent ===

impl Agent {
    pub(super) async fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(path).await;
        let stream = connected.map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
        let mut stream = BufReader::new(stream);
        line::write(&mut stream, request).await?;
        Ok(Self { stream })
    }

    /// Its next answer.
    pub(super) async fn answer(&mut self) -> Result<Answer, ClientError> {
        match line::read(&mut self.stream, MAX_ANSWER_BYTES).await? {
            Some(Answer::Error { message }) => Err(ClientError::Refused(message)),
            Some(answer) => Ok(answer),
            None => Err(ClientError::HungUp),
        }
    }
}
