//! The `[msg]` table: the embedded message service.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The `[msg]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msg {
    /// Where gateways reach the service.
    pub listen: SocketAddr,
    /// The directory that holds the messages.
    pub path: PathBuf,
    /// When an acknowledged message is on disk.
    pub fsync: FsyncPolicy,
    /// With [`FsyncPolicy::Interval`]: how much time a machine that dies may cost, in milliseconds.
    pub fsync_interval_ms: u32,
    /// Who pushes what is stored, as a URL; nobody without one.
    pub push: Option<String>,
    /// The file with the token that they want to see.
    pub push_token_file: Option<PathBuf>,
    /// The file with the token that callers have to show; without one, whoever reaches the service may call.
    pub token_file: Option<PathBuf>,
    /// Largest message, in bytes.
    pub max_message_bytes: usize,
}

/// When an acknowledged message is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsyncPolicy {
    /// Before it is acknowledged.
    #[default]
    Always,
    /// Soon after.
    Interval,
}
