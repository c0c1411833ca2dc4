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
//! | `front`, `membership`, `msg`, `network`, `openim`, `push`, `secret`, `service` | the types of those tables |
//! | `overrides` | what the environment and the command line say instead |
//! | `keys` | which keys there are to set |
//! | `shown` | the configuration in force, with where it comes from |
//! | `token` | secrets that callers show |
#![forbid(unsafe_code)]

mod check;
mod error;
mod file;
mod front;
mod keys;
mod membership;
mod msg;
mod network;
mod openim;
mod overrides;
mod push;
mod secret;
mod service;
pub mod shown;
#[cfg(test)]
mod tests;
mod token;

use std::{
    fs,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::{
    error::{ConfigError, Problem},
    front::{Front, Webhook},
    membership::{Etcd, Kubernetes, KubernetesMode, Login, Membership, NewRing, Tls},
    msg::{FsyncPolicy, Msg},
    network::{Network, NotANetwork},
    openim::OpenIm,
    overrides::{Overrides, Setting, Source},
    push::{GrpcAuth, Push},
    secret::{Secret, SecretSource, Secrets},
    service::{Parameter, Serve, Service},
    token::read_token,
};
use crate::ring::{Identity, Member, NodeAddress, Ring};

/// Where the configuration is looked for unless the command line names another file.
pub const DEFAULT_PATH: &str = "/etc/ringsteer/ringsteer.toml";

/// Where programs, maps and links are pinned unless `pin_dir` says otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/ringsteer";

/// Where the agent listens unless `socket` says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ringsteer/agent.sock";

/// Where messages are kept unless `[msg]` says otherwise.
pub const DEFAULT_MSG_PATH: &str = "/var/lib/ringsteer/msg";

/// Largest file taken for a configuration, in bytes: several times the largest ring.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Longest `node.name`, in bytes.
const MAX_NAME: usize = 128;

/// Longest path of a unix socket, in bytes: the address holds 108, one of them the final zero. Four more stay free for
/// the name under which the socket is prepared.
const MAX_SOCKET_PATH: usize = 103;

/// Largest `max_message_bytes`.
const MAX_MESSAGE_BYTES: u32 = 16 << 20;

/// Largest `max_message_bytes` of the message service: a message has to fit an answer.
const MAX_MSG_BYTES: u32 = 2 << 20;

/// A node's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is this node's own.
    pub node: Node,
    /// What is steered, in the file's order.
    pub services: Vec<Service>,
    /// Where the ring comes from.
    pub membership: Membership,
    /// How nodes talk to each other.
    pub peers: Peers,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// How our gateway behaves.
    pub gateway: Gateway,
    /// How pushes are made.
    pub push: Push,
    /// How our message service behaves.
    pub msg: Msg,
    /// What our gateway needs for OpenIM's clients; there if a service serves them.
    pub openim: Option<OpenIm>,
    /// How the front before the gateways takes messages.
    pub front: Front,
    current: SecretSource,
    previous: Option<SecretSource>,
    ring: Option<Ring>,
}

/// The `[node]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How this node calls itself in answers. One line of free text.
    pub name: String,
    /// What the ring hashes for this node, and so which of its members we are. A node whose identity is in no ring is an
    /// edge that owns nothing.
    pub identity: Identity,
    /// Where packets to this node go. Known where the node announces itself; else the ring says it.
    pub address: Option<NodeAddress>,
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
    /// How connections come to their owners; the same on all nodes.
    pub mode: Mode,
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

/// How connections come to their owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The edge makes the handshake, and the owner's kernel makes the socket of the first segment. Takes Linux 6.8.
    #[default]
    LateBinding,
    /// The node that client address and port hash to accepts the connection, and its gateway hands it to the owner.
    Accept,
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

/// The `[peers]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// TCP port of the links between agents; the same on all nodes.
    pub port: u16,
    /// TCP port of the links between gateways; the same on all nodes, and another than the agents'.
    pub gateway_port: u16,
}

/// The `[metrics]` table: where `/metrics`, `/healthz` and `/readyz` are served, if they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// By the agent.
    pub agent: Option<SocketAddr>,
    /// By the gateway.
    pub gateway: Option<SocketAddr>,
    /// By the message service.
    pub msg: Option<SocketAddr>,
}

/// The `[gateway]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Largest message taken from a client, in bytes as received.
    pub max_message_bytes: usize,
    /// Most sessions of all users.
    pub sessions: usize,
    /// Most sessions of one user.
    pub sessions_per_user: usize,
    /// Most sessions that begin in a second; 0 for any number.
    pub logins_per_s: u32,
    /// Most messages that wait for one client; one that is slower is closed.
    pub queue_messages: usize,
    /// Most bytes of messages that wait for one client.
    pub queue_bytes: usize,
    /// Whether messages are compressed for clients that can read that.
    pub compression: bool,
    /// How long a gateway that is told to stop may take to give its sessions away and to close the others, in seconds.
    pub grace_s: u32,
    /// Proxies that are believed when they say by the PROXY protocol whose connection it is.
    pub proxy_protocol_from: Vec<Network>,
}

// === impl Config ===

impl Config {
    /// The configuration in the file at `path`, and what environment and command line say instead ([`Overrides`]).
    ///
    /// # Errors
    /// If the file cannot be read, or what it says cannot be used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        read(path).and_then(|text| Self::parse_file(path, &text))
    }

    /// The configuration in `text`, which was read from `path`, and what the environment says instead ([`Overrides`]).
    ///
    /// # Errors
    /// If what it says cannot be used.
    pub fn parse_file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse(text, &Overrides::of_this_process()).map_err(|error| error.in_file(path))
    }

    /// The configuration in `text`.
    ///
    /// # Errors
    /// If it is no TOML of the right shape, or what it says cannot be used.
    pub fn parse(text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        parse(text, overrides, check::config)
    }

    /// This node as a member of `ring`: the one with its identity or, where identities come from elsewhere and ours is
    /// not among them, the one at its address.
    pub fn member_of<'ring>(&self, ring: &'ring Ring) -> Option<&'ring Member> {
        let ours = |member: &&Member| member.identity == self.node.identity;
        let here = |member: &&Member| Some(member.address) == self.node.address;
        ring.members().iter().find(ours).or_else(|| ring.members().iter().find(here))
    }

    /// The ring that stands in the configuration itself, if one does. For [`Membership::File`] without a path;
    /// everybody else follows what is published (promise 1).
    pub fn ring(&self) -> Option<&Ring> {
        self.ring.as_ref()
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

    /// The files that hold them.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        self.secret_sources().filter_map(|source| match source {
            SecretSource::File(path) => Some(path.as_path()),
            SecretSource::Inline(_) => None,
        })
    }

    /// Whether one of them stands in the configuration itself.
    pub fn holds_secrets(&self) -> bool {
        self.secret_sources().any(|source| matches!(source, SecretSource::Inline(_)))
    }

    fn secret_sources(&self) -> impl Iterator<Item = &SecretSource> {
        [&self.current].into_iter().chain(&self.previous)
    }
}

/// What the message service needs of the configuration file at `path`, and where its metrics are served. Tables for
/// others may be missing: the service can have a host of its own.
///
/// # Errors
/// If the file cannot be read, or what it says cannot be used.
pub fn load_msg(path: &Path) -> Result<(Msg, Option<SocketAddr>), ConfigError> {
    read(path)
        .and_then(|text| parse(&text, &Overrides::of_this_process(), check::msg_alone))
        .map_err(|error| error.in_file(path))
}

/// The ring in a file that holds nothing else.
///
/// # Errors
/// If the file cannot be read, or is no ring.
pub fn load_ring(path: &Path) -> Result<Ring, ConfigError> {
    read(path).and_then(|text| parse_ring(&text).map_err(|error| error.in_file(path)))
}

/// The ring in a text that holds nothing else.
///
/// # Errors
/// If it is no TOML of the right shape, or the members make no ring.
pub fn parse_ring(text: &str) -> Result<Ring, ConfigError> {
    parse(text, &Overrides::default(), |file: file::RingFile| check::ring(file.ring))
}

/// The text of a file of ours.
///
/// # Errors
/// If it cannot be read, or is too large to be one.
pub fn read(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let problem = match fs::File::open(path).and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text))
    {
        Ok(_) if text.len() as u64 <= MAX_CONFIG_BYTES => return Ok(text),
        Ok(_) => Problem::FileTooLarge,
        Err(error) => Problem::Unreadable(error),
    };
    Err(ConfigError::elsewhere(problem).in_file(path))
}

fn parse<F: DeserializeOwned, T>(
    text: &str,
    overrides: &Overrides,
    check: impl FnOnce(F) -> Result<T, check::Located>,
) -> Result<T, ConfigError> {
    let error =
        |problem, span: Option<std::ops::Range<usize>>| match span.as_ref().and_then(|span| overrides.at(text, span)) {
            Some(source) => {
                ConfigError::elsewhere(Problem::Override { source_of: source.clone(), problem: Box::new(problem) })
            }
            None if span.is_some() => ConfigError::at(text, span, problem),
            None => ConfigError::elsewhere(problem),
        };
    let file = overrides.read(text).map_err(|unreadable| error(Problem::Toml(unreadable.message), unreadable.span))?;
    check(file).map_err(|located| error(located.problem, located.span))
}
