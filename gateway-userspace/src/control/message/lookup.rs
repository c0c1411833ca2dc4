//! Where a user belongs, by everybody who has a say.

use serde::{Deserialize, Serialize};

use crate::ring::{Algorithm, Epoch, MemberNumber, NodeAddress, RingName};

/// Where a user belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// The user, as asked for.
    pub user: String,
    /// By the ring that the agent has published, searched here.
    pub userspace: Option<Placement>,
    /// By what stands in the kernel's maps: the points that packets are placed by.
    pub kernel: Option<KernelPlacement>,
    /// Why the kernel's maps say nothing, if they do not.
    pub kernel_error: Option<String>,
    /// By the ring before, which may still have the user's session.
    pub previous: Option<Placement>,
    /// Whether kernel and userspace name the same node by the same ring.
    pub agree: bool,
}

/// What a ring says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Which ring.
    pub ring: RingName,
    /// Where the user stands on it.
    pub position: u32,
    /// The owner's number.
    pub number: MemberNumber,
    /// What is hashed for it.
    pub identity: String,
    /// Where packets to it go.
    pub address: NodeAddress,
}

/// What the kernel's maps say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelPlacement {
    /// Epoch of the ring in the map.
    pub epoch: Epoch,
    /// Its digest, as far as the map has it: the first 16 hexadecimal digits.
    pub digest: String,
    /// How it hashes.
    pub algorithm: Algorithm,
    /// How many points it has.
    pub point_count: u32,
    /// Where the user stands on it.
    pub position: u32,
    /// Which of the points owns that position, counted from 0.
    pub point_index: u32,
    /// Where that point is.
    pub point: u32,
    /// The node that the point names.
    pub node: u32,
    /// What `nodes` shows for its identity, cut to what the map has room for; none if `nodes` does not have it.
    pub identity: Option<String>,
    /// Where `nodes` has packets to it go.
    pub address: Option<NodeAddress>,
}
