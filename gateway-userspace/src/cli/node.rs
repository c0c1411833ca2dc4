//! The agent of this node, for the subcommands that ask it; and the maps it has pinned, for when it does not answer.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde::Serialize;
use tokio::time::timeout;

use super::pinned::Pinned;
use crate::{
    config::{self, Config},
    control::{self, ClientError},
    ring::Ring,
};

/// How long the agent may take to answer. It may have to walk a table of a million flows, and to ask other nodes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take once it has been given up: it is likely to be as before.
const LATER_LIMIT: Duration = Duration::from_secs(1);

/// Where the agent of this node listens, and where it has pinned the maps.
#[derive(Clone, Debug, clap::Args)]
pub struct Node {
    /// The node's configuration file, for the agent's socket and the pin directory
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The agent's socket, instead of the one in the configuration file
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The pin directory, instead of the one in the configuration file; read only where the agent does not answer
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
    /// Whether it has been said that the agent does not answer.
    #[arg(skip)]
    said: Cell<bool>,
}

/// Who has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The agent of this node.
    Agent,
    /// Nobody: the pinned maps were read.
    Maps,
}

/// The ring in force on this node, and the one before it.
#[derive(Clone, Debug)]
pub struct Rings {
    /// The one in force.
    pub current: Ring,
    /// The one before it, if there was one.
    pub previous: Option<Ring>,
    /// Who says so.
    pub source: Source,
}

// === impl Node ===

impl Node {
    /// Asks the agent.
    ///
    /// # Errors
    /// If it cannot be reached, does not answer in time, or refuses.
    pub async fn ask<T>(&self, question: impl AsyncFnOnce(&Path) -> Result<T, ClientError>) -> Result<T> {
        match self.try_to_ask(question).await? {
            Ok(answer) => Ok(answer),
            Err(gone) => Err(anyhow!("{gone}; is `ringsteer agent` running?")),
        }
    }

    /// Asks the agent, or reads the pinned maps if there is none that answers, and says so on stderr.
    ///
    /// # Errors
    /// If the agent refuses, or is gone and the maps tell nothing either.
    pub async fn ask_or_read<T>(
        &self,
        question: impl AsyncFnOnce(&Path) -> Result<T, ClientError>,
        read: impl FnOnce(&Pinned) -> Result<T>,
    ) -> Result<(T, Source)> {
        let gone = match self.try_to_ask(question).await? {
            Ok(answer) => {
                if self.said.replace(false) {
                    eprintln!("ringsteer: the agent answers again");
                }
                return Ok((answer, Source::Agent));
            }
            Err(gone) => gone,
        };
        let pinned = self.pinned().and_then(|pinned| read(&pinned).map(|answer| (answer, pinned)));
        let (answer, pinned) =
            pinned.map_err(|error| anyhow!("{gone}, and the pinned maps do not tell it: {error:#}"))?;
        if !self.said.replace(true) {
            eprintln!("ringsteer: {gone}; this is what the maps pinned in {} say", pinned.directory().display());
        }
        Ok((answer, Source::Maps))
    }

    /// The ring in force and the one before it.
    ///
    /// # Errors
    /// If they cannot be had, or are not what they are said to be.
    pub async fn rings(&self) -> Result<Rings> {
        let question = async |socket: &Path| {
            let control::Rings { current, previous } = control::ring(socket).await?;
            let current = current.map(control::NamedRing::verified).transpose()?;
            Ok((current, previous.map(control::NamedRing::verified).transpose()?))
        };
        let read = |pinned: &Pinned| pinned.rings().map(|(current, previous)| (Some(current), previous));
        let ((current, previous), source) = self.ask_or_read(question, read).await?;
        let current = current.context("there is no ring in force yet; `ringsteer status` says what is missing")?;
        Ok(Rings { current, previous, source })
    }

    /// The answer, or why there is nobody to give one.
    async fn try_to_ask<T>(
        &self,
        question: impl AsyncFnOnce(&Path) -> Result<T, ClientError>,
    ) -> Result<Result<T, String>> {
        let socket = self.socket()?;
        let limit = if self.said.get() { LATER_LIMIT } else { ANSWER_LIMIT };
        let error = match timeout(limit, question(&socket)).await {
            Ok(Ok(answer)) => return Ok(Ok(answer)),
            Ok(Err(error)) if error.agent_is_gone() => error,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let (socket, limit) = (socket.display(), limit.as_secs());
                return Ok(Err(format!("the agent on {socket} has not answered within {limit} s")));
            }
        };
        Ok(Err(match error {
            ClientError::Connect { path, error } => format!("no agent answers on {}: {error}", path.display()),
            broken => format!("the agent on {} broke off: {broken}", socket.display()),
        }))
    }

    /// The agent's socket.
    fn socket(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(Config::load(&self.config)
                .context("cannot tell where the agent listens (see --config and --socket)")?
                .node
                .socket),
        }
    }

    fn pinned(&self) -> Result<Pinned> {
        match (&self.pin_dir, Config::load(&self.config)) {
            (Some(directory), config) => Pinned::open(directory, config.ok().as_ref(), &self.socket()?),
            (None, Ok(config)) => Pinned::open(&config.node.pin_dir.clone(), Some(&config), &self.socket()?),
            (None, Err(error)) => Err(error).context("cannot tell where they are (see --config and --pin-dir)"),
        }
    }
}
