//! The configuration file, one for agent and gateway of a node.
//!
//! A configuration is checked whole before anybody acts on it: what [`Config::load`] returns can be used, and what
//! cannot is refused with the line, what is wrong there and how to mend it.
//!
//! | file | subject |
//! |---|---|
//! | `file` | the shape of the file, and where each value stands |
//! | `check` | from that shape to a [`Config`] |
//! | `error` | everything that can be wrong |
//! | `secret`, `service` | the types of those tables |
#![forbid(unsafe_code)]

mod check;
mod error;
mod file;
mod secret;
mod service;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use self::{
    error::{ConfigError, Problem},
    secret::{Secret, SecretSource, Secrets},
    service::{Parameter, Serve, Service},
};
use crate::ring::{Member, MemberNumber, Ring};

/// Where the configuration is looked for unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/ringsteer/ringsteer.toml";

/// Where programs, maps and links are pinned unless `pin_dir` says otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/ringsteer";

/// Where the agent listens unless `socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ringsteer/agent.sock";

/// Largest file taken for a configuration, in bytes: several times the largest ring.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Longest `node.name`, in bytes.
const MAX_NAME: usize = 128;

/// Longest path of a unix socket, in bytes: the address holds 108, one of them the final zero. Four more stay free for
/// the name under which the socket is prepared.
const MAX_SOCKET_PATH: usize = 103;

/// Largest `max_message_bytes`.
const MAX_MESSAGE_BYTES: u32 = 16 << 20;

/// A node's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is this node's own.
    pub node: Node,
    /// What is steered, in the file's order.
    pub services: Vec<Service>,
    /// How our gateway behaves.
    pub gateway: Gateway,
    current: SecretSource,
    previous: Option<SecretSource>,
    ring: Ring,
}

/// The `[node]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How this node calls itself in answers. One line of free text.
    pub name: String,
    /// Our number in the ring. The ring has such a member.
    pub member: MemberNumber,
    /// Where `steer` and `admit` attach. Not empty, no repeats; whether they exist is for the agent to find out.
    pub interfaces: Vec<String>,
    /// Where programs, maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Where the agent listens, for gateway and CLI.
    pub socket: PathBuf,
    /// UDP port of the tunnel; the same on all nodes.
    pub tunnel_port: u16,
    /// Flows the table holds.
    pub max_flows: u32,
    /// How `steer` is attached.
    pub xdp_mode: XdpMode,
    /// Seconds without a packet after which a flow is forgotten. The default lies just above Linux' keepalive, which
    /// probes an idle connection after two hours and gives it up eleven minutes later.
    pub flow_idle_s: u32,
    /// A cookie's time slot lasts 2 to this power nanoseconds; 36, the default, is 68.7 s. A client has at least one
    /// slot and at most two to send its first bytes after the handshake. Must be the same on all nodes: they check
    /// each other's cookies.
    pub handshake_slot_shift: u8,
}

/// How `steer` is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// Behind the driver: works everywhere, slower.
    Generic,
}

/// The `[gateway]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Largest message taken from a client, in bytes as received.
    pub max_message_bytes: usize,
}

// === impl Config ===

impl Config {
    /// The configuration in the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be read, or what it says cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = || {
            let mut text = String::new();
            fs::File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
            Ok(text)
        };
        let parsed = match read() {
            Ok(text) if text.len() as u64 > MAX_CONFIG_BYTES => Err(ConfigError::elsewhere(Problem::FileTooLarge)),
            Ok(text) => Self::parse(&text),
            Err(error) => Err(ConfigError::elsewhere(Problem::Unreadable(error))),
        };
        parsed.map_err(|error| error.in_file(path))
    }

    /// The configuration in `text`.
    ///
    /// # Errors
    /// If it is no TOML of the right shape, or what it says cannot be used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file = toml::from_str(text).map_err(|error| {
            let problem = Problem::Toml(error.message().to_owned());
            ConfigError::at(text, error.span(), problem)
        })?;
        check::config(file).map_err(|located| ConfigError::at(text, Some(located.span), located.problem))
    }

    /// The ring with the members listed. For the agent, which publishes it: everybody else follows what is published
    /// (promise 1).
    pub fn ring(&self) -> Ring {
        self.ring.clone()
    }

    /// This node as a member of the ring listed.
    pub fn member(&self) -> &Member {
        self.ring.member(self.node.member).expect("a checked configuration names a member of its ring")
    }

    /// The fleet secrets; reads their files.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold a secret.
    pub fn secrets(&self) -> Result<Secrets, ConfigError> {
        Ok(Secrets {
            current: self.current.read()?,
            previous: self.previous.as_ref().map(SecretSource::read).transpose()?,
        })
    }
}
