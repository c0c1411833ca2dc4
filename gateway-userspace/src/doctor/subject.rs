//! What is examined: what the configuration, if there is one, says this node should be.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{
    config::{self, Config, Membership, Mode, XdpMode},
    ring::{MemberNumber, Ring},
};

/// The node as it should be.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where programs, maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Where the agent listens.
    pub socket: PathBuf,
    /// What only a configuration tells; `None` without one.
    pub node: Option<Node>,
}

/// What a configuration tells.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the ring hashes for us.
    pub identity: String,
    /// Where packets to us go, if the configuration says so; else the ring does.
    pub address: Option<IpAddr>,
    /// Where the programs run.
    pub interfaces: Vec<String>,
    /// How connections come to their owners.
    pub mode: Mode,
    /// How `steer` is to be attached.
    pub xdp_mode: XdpMode,
    /// log2 of the nanoseconds a cookie slot lasts.
    pub slot_shift: u8,
    /// TCP port of the other agents.
    pub peer_port: u16,
    /// What is steered.
    pub services: Vec<Service>,
    /// The members of the ring, as far as they are known.
    pub members: Vec<Member>,
    /// Files that only the agent should be able to read.
    pub private_files: Vec<PrivateFile>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Virtual address and port.
    pub address: SocketAddr,
}

/// A member of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub number: MemberNumber,
    /// What is hashed.
    pub identity: String,
    /// Where packets go.
    pub address: IpAddr,
}

/// A file with something secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub what: &'static str,
}

// === impl Subject ===

impl Subject {
    /// A host of which nothing is known but the defaults.
    pub fn without_configuration() -> Self {
        Self { pin_dir: config::DEFAULT_PIN_DIR.into(), socket: config::DEFAULT_SOCKET.into(), node: None }
    }

    /// How connections come to their owners.
    pub fn mode(&self) -> Mode {
        self.node.as_ref().map(|node| node.mode).unwrap_or_default()
    }

    /// The node that `config`, read from the file at `path`, describes.
    pub fn of(config: &Config, path: &Path) -> Self {
        let mut node = Node::of(config);
        if config.holds_secrets() {
            node.private_files.push(PrivateFile { path: path.to_owned(), what: SECRET });
        }
        Self { pin_dir: config.node.pin_dir.clone(), socket: config.node.socket.clone(), node: Some(node) }
    }
}

/// What is in most private files.
const SECRET: &str = "a fleet secret";

/// What the file with tokens is called.
const TOKENS: &str = "the tokens for pushing";

// === impl Node ===

impl Node {
    /// The node that `config` describes.
    pub fn of(config: &Config) -> Self {
        let node = &config.node;
        let services =
            config.services.iter().map(|one| Service { name: one.name.clone(), address: one.address }).collect();
        let secrets = config.secret_files().map(|path| PrivateFile { path: path.to_owned(), what: SECRET });
        let tokens = config.push.token_file().map(|path| PrivateFile { path: path.to_owned(), what: TOKENS });
        Self {
            identity: node.identity.as_str().to_owned(),
            address: node.address.map(|address| address.ip()),
            interfaces: node.interfaces.clone(),
            mode: node.mode,
            xdp_mode: node.xdp_mode,
            slot_shift: node.handshake_slot_shift,
            peer_port: config.peers.port,
            services,
            members: config.ring().map(members_of).unwrap_or_default(),
            private_files: secrets.chain(tokens).chain(of_membership(&config.membership)).collect(),
        }
    }

    /// The virtual addresses, each once.
    pub fn virtual_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<_> = self.services.iter().map(|service| service.address.ip()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Our own address: the ring's word counts, for that is where the others send.
    pub fn own_address(&self) -> Option<IpAddr> {
        self.members
            .iter()
            .find(|member| member.identity == self.identity)
            .map(|member| member.address)
            .or(self.address)
    }

    /// The other members.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.identity != self.identity)
    }
}

/// The members of a ring.
pub fn members_of(ring: &Ring) -> Vec<Member> {
    let one = |member: &crate::ring::Member| Member {
        number: member.number,
        identity: member.identity.as_str().to_owned(),
        address: member.address.ip(),
    };
    ring.members().iter().map(one).collect()
}

/// What lets one into the store that the ring comes from.
fn of_membership(membership: &Membership) -> Vec<PrivateFile> {
    let Membership::Etcd(etcd) = membership else { return Vec::new() };
    let password = etcd.login.as_ref().map(|login| (&login.password_file, "the password for etcd"));
    let key = etcd.tls.as_ref().and_then(|tls| Some((&tls.identity.as_ref()?.1, "the private key for etcd")));
    password.into_iter().chain(key).map(|(path, what)| PrivateFile { path: path.clone(), what }).collect()
}
