//! The agent of this node, for the subcommands that ask it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    config::{self, Config},
    control::{self, Follower},
    ring::Ring,
};

/// Where the agent of this node listens.
#[derive(Clone, Debug, clap::Args)]
pub struct Node {
    /// The node's configuration file, for the agent's socket
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The agent's socket, instead of the one in the configuration file
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

// === impl Node ===

impl Node {
    /// The agent's socket.
    ///
    /// # Errors
    /// If the command line does not name it and the configuration cannot be read.
    pub fn socket(&self) -> Result<PathBuf> {
        match &self.socket {
            Some(socket) => Ok(socket.clone()),
            None => Ok(Config::load(&self.config)
                .context("cannot tell where the agent listens (see --config and --socket)")?
                .node
                .socket),
        }
    }

    /// The ring in force.
    ///
    /// # Errors
    /// If the agent cannot be reached.
    pub async fn ring(&self) -> Result<Ring> {
        let socket = self.socket()?;
        control::status(&socket).await?;
        Ok(Follower::start(socket).first().await.ring.clone())
    }
}
