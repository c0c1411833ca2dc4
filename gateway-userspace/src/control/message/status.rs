//! How the agent and its programs are.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::GatewayReport;
use crate::{
    config::Mode,
    peer::agreement::Tally,
    ring::{Algorithm, Digest, Epoch, MemberNumber, MemberState, RingName},
};

/// How the agent and its programs are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which member this node is, if the ring in force has it.
    pub node: Option<MemberNumber>,
    /// How it calls itself.
    pub name: String,
    /// The agent's version.
    pub version: String,
    /// The agent's process.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started_at_unix_s: u64,
    /// Whether others may rely on this node, and if not, why.
    pub readiness: Readiness,
    /// The ring in force, if there is one.
    pub ring: Option<RingStatus>,
    /// Where rings come from.
    pub source: SourceStatus,
    /// How many members agree with this node, and how many do not.
    pub peers: Tally,
    /// The gateways of this node, as they report themselves.
    pub gateways: Vec<GatewayReport>,
    /// How connections come to their owners.
    #[serde(default)]
    pub mode: Mode,
    /// Where programs, maps and links are pinned.
    pub pin_dir: PathBuf,
    /// Where the programs are attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// The programs loaded.
    pub programs: Vec<ProgramStatus>,
    /// Flows in the table now.
    pub flows: u64,
    /// Flows it holds at most.
    pub max_flows: u64,
    /// The counters of the `stats` map, summed over the CPUs.
    pub counters: BTreeMap<String, u64>,
}

/// Whether others may rely on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// They may.
    pub ready: bool,
    /// Why not, a sentence each; empty if ready.
    pub reasons: Vec<String>,
}

/// The ring in force, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingStatus {
    /// Its place in time.
    pub epoch: Epoch,
    /// Its content.
    pub digest: Digest,
    /// How keys and members are hashed.
    pub algorithm: Algorithm,
    /// How many members it has.
    pub members: u32,
    /// The state of the member that this node is.
    pub state: Option<MemberState>,
    /// The ring that was in force before it.
    pub previous: Option<RingName>,
}

/// Where rings come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// `file`, `etcd` or `kubernetes`.
    pub name: String,
    /// What is wrong with it, if anything: the ring in force stays until that is over.
    pub trouble: Option<String>,
    /// For how long, in seconds; 0 without trouble.
    pub trouble_s: u64,
    /// Troubles told since the agent started.
    pub troubles: u64,
    /// Rings taken from it since the agent started.
    pub rings: u64,
}

/// One interface with programs attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// How `steer` is attached to it.
    pub xdp_mode: AttachedMode,
}

/// How `steer` is attached: what became of [`XdpMode`](crate::config::XdpMode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
}

/// One program in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// Its name.
    pub name: String,
    /// Its number, as `bpftool prog` lists it.
    pub id: u32,
    /// Hash of its instructions, as `bpftool prog` lists it.
    pub tag: String,
}

/// The kernel's counters at one moment, for rates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// When they were read, in milliseconds since the node started (CLOCK_MONOTONIC).
    pub taken_at_ms: u64,
    /// The counters of the `stats` map, summed over the CPUs.
    pub counters: BTreeMap<String, u64>,
    /// Flows in the table.
    pub flows: u64,
    /// Flows it holds at most.
    pub max_flows: u64,
}

// === impl Readiness ===

impl From<Vec<String>> for Readiness {
    fn from(reasons: Vec<String>) -> Self {
        Self { ready: reasons.is_empty(), reasons }
    }
}
