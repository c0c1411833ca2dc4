//! What was found on the host, before anybody judges it. Gathered by [`probe`](super::probe), judged by
//! [`checks`](super::checks).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use super::rules::Danger;
use crate::ring::MemberNumber;
pub use crate::{
    dataplane::inspect::{PinState, PinnedLink, PinnedMap},
    peer::agreement::Standing,
};

/// A fact, or why it could not be found out.
pub type Fact<T> = Result<T, Unknown>;

/// Why something could not be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

/// All of them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration file.
    pub configuration: Configuration,
    /// The kernel.
    pub kernel: Kernel,
    /// Effective capabilities of this process, as a bit mask (`linux/capability.h`).
    pub capabilities: Fact<u64>,
    /// What is pinned.
    pub pins: Pins,
    /// All interfaces of this network namespace.
    pub interfaces: Fact<Vec<Interface>>,
    /// All addresses of this host.
    pub addresses: Fact<Vec<Address>>,
    /// Routes of the main table.
    pub routes: Fact<Vec<Route>>,
    /// Interfaces with default routes that the kernel took from router advertisements.
    pub learnt_routes: Fact<Vec<String>>,
    /// Settings below `/proc/sys`.
    pub settings: Settings,
    /// TCP listeners.
    pub listeners: Fact<Vec<Listener>>,
    /// How the other members can be reached.
    pub nodes: Vec<NodePath>,
    /// The clock.
    pub clock: Fact<Clock>,
    /// The files that should be private.
    pub private_files: Vec<Readability>,
    /// Firewall rules that could harm.
    pub firewall: Fact<Vec<Danger>>,
    /// The agent.
    pub agent: Agent,
}

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// It can be used.
    Read(PathBuf),
    /// There is none, and nobody said there was.
    Absent(PathBuf),
    /// It cannot be used, for this reason, which names the file.
    Unusable(String),
}

/// The kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// As `uname -r` shows it.
    pub release: String,
    /// What the programs need of the kernel's types, and its types do not have; `Err` if it shows none.
    pub lacking: Fact<Vec<String>>,
    /// Its build options, `CONFIG_…` without the prefix, where it shows them.
    pub options: Fact<BTreeMap<String, String>>,
}

/// What is pinned.
#[derive(Clone, Debug)]
pub struct Pins {
    /// The pin directory, or its nearest parent that exists.
    pub place: PathBuf,
    /// Whether that lies on a BPF file system.
    pub bpf_file_system: Fact<bool>,
    /// Whether this process may create files there.
    pub writable: bool,
    /// The maps.
    pub maps: Fact<Vec<PinnedMap>>,
    /// The links.
    pub links: Fact<Vec<PinnedLink>>,
}

/// An interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its kernel number.
    pub index: u32,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Switched on.
    pub up: bool,
    /// Connected.
    pub carrier: bool,
    /// Asks and answers who has an address: not the loopback interface, and no dummy.
    pub arp: bool,
    /// The bridge, bond or VRF it belongs to, by kernel number.
    pub master: Option<u32>,
    /// XDP programs on it, and how each is attached.
    pub xdp: Vec<(Attachment, u32)>,
    /// What only a network card's driver tells; for the configured interfaces.
    pub driver: Option<Driver>,
}

/// How an XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
    /// On the card.
    Offloaded,
}

/// What a driver tells about its interface.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Its name.
    pub name: Fact<String>,
    /// What it can do with XDP.
    pub xdp: Fact<XdpFeatures>,
    /// Whether it merges received packets (large receive offload).
    pub lro: Fact<bool>,
    /// Its counters of frames that an XDP program sent and that it could not send.
    pub xdp_errors: Vec<(String, u64)>,
}

/// What a driver can do with XDP (`enum netdev_xdp_act`, Linux 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Run a program.
    pub native: bool,
    /// Send a frame that a program on another interface redirects here.
    pub transmit: bool,
}

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix, in bits.
    pub prefix: u8,
    /// Its interface, by kernel number.
    pub interface: u32,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; `None` for the default route.
    pub destination: Option<(IpAddr, u8)>,
    /// Whether it is one for IPv6.
    pub ipv6: bool,
    /// By which interfaces, by kernel number; several for a route with several next hops.
    pub interfaces: Vec<u32>,
}

/// Values below `/proc/sys`, by their path there.
#[derive(Clone, Debug, Default)]
pub struct Settings(pub BTreeMap<String, Fact<String>>);

/// A TCP socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where.
    pub address: SocketAddr,
    /// Whether one on `[::]` does not take IPv4 connections.
    pub only_ipv6: bool,
    /// Whether it is an MPTCP listener.
    pub mptcp: bool,
    /// Whose it is, as far as this process may see.
    pub owner: Option<Owner>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

/// How another member can be reached.
#[derive(Clone, Debug)]
pub struct NodePath {
    /// Which.
    pub number: MemberNumber,
    /// Its address.
    pub address: IpAddr,
    /// The way there. `Ok(None)`: there is none.
    pub route: Fact<Option<Way>>,
    /// What its agent's port answered.
    pub peer: PeerAnswer,
}

/// The way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// By which interface, by kernel number.
    pub interface: u32,
    /// Over which router; `None` if the address is on the link.
    pub gateway: Option<IpAddr>,
    /// Largest packet the route allows, in bytes, if it says so.
    pub mtu: Option<u32>,
    /// Who the next hop is, as the neighbour table has it.
    pub neighbour: Neighbour,
}

/// What the neighbour table says about a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its link-layer address.
    Known,
    /// Nothing: nobody has asked lately.
    Unknown,
    /// It was asked and did not answer.
    Failed,
}

/// What came of connecting to a peer port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// It took the connection. Its side takes packets up to this many bytes, if that is less than ours does.
    Connected {
        /// In bytes.
        mtu: Option<u32>,
    },
    /// It did not, for this reason.
    Failed(String),
}

/// The clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Whether something keeps it synchronised, as the kernel was told.
    pub synchronised: bool,
    /// Seconds that `CLOCK_TAI` is ahead of `CLOCK_REALTIME`.
    pub tai_offset_s: i32,
}

/// Who can read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readability {
    /// Which.
    pub path: PathBuf,
    /// What is in it.
    pub what: &'static str,
    /// Its permission bits.
    pub mode: Fact<u32>,
}

/// The agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Where it listens.
    pub socket: PathBuf,
    /// What it says of itself; `None` if there is none.
    pub running: Fact<Option<Running>>,
    /// Its effective capabilities; `None` if it does not run.
    pub capabilities: Option<Fact<u64>>,
}

/// What an agent says of itself.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its programs, by their kernel numbers.
    pub programs: Vec<u32>,
    /// Why others should not rely on this node yet; empty if they may.
    pub not_ready: Vec<String>,
    /// Where rings come from: `file`, `etcd` or `kubernetes`.
    pub source: String,
    /// What is wrong with that, if anything.
    pub trouble: Option<String>,
    /// What it knows of the other members.
    pub peers: Fact<Vec<PeerView>>,
}

/// What our agent knows of another member.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Which.
    pub number: MemberNumber,
    /// How its ring stands to ours.
    pub standing: Standing,
    /// How far its CLOCK_TAI is ahead of ours, in milliseconds, if it was heard.
    pub clock_ahead_ms: Option<i64>,
    /// Why there is no link to it, if there is none.
    pub trouble: Option<String>,
}

// === impl Unknown ===

impl Unknown {
    /// A file that could not be read.
    pub(super) fn file(path: impl AsRef<std::path::Path>, error: &std::io::Error) -> Self {
        Self(format!("cannot read {}: {error}", path.as_ref().display()))
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Settings ===

impl Settings {
    /// The value of a setting.
    pub fn get(&self, name: &str) -> Fact<&str> {
        match self.0.get(name) {
            Some(Ok(value)) => Ok(value),
            Some(Err(unknown)) => Err(unknown.clone()),
            None => Err(Unknown(format!("{} was not read", super::finding::shown(name)))),
        }
    }

    /// The value of a setting that is a number.
    pub fn number(&self, name: &str) -> Fact<i64> {
        let value = self.get(name)?;
        value.parse().map_err(|_| Unknown(format!("{} is {value:?}, no number", super::finding::shown(name))))
    }
}

// === impl Facts ===

impl Facts {
    /// The interface of that kernel number.
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.as_ref().ok()?.iter().find(|interface| interface.index == index)
    }

    /// The name of the interface of that kernel number, for people.
    pub fn interface_name(&self, index: u32) -> String {
        self.interface(index).map_or_else(|| format!("interface {index}"), |interface| interface.name.clone())
    }

    /// The agent, if it runs.
    pub fn running(&self) -> Option<&Running> {
        self.agent.running.as_ref().ok()?.as_ref()
    }

    /// Whether programs of ours run here, by what is pinned or by what the agent says.
    pub fn steering(&self) -> bool {
        self.running().is_some() || self.pins.links.as_ref().is_ok_and(|links| !links.is_empty())
    }
}
