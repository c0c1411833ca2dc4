//! The other members: whether they agree with this node, and what they are to it.

use serde::{Deserialize, Serialize};

use crate::{
    peer::agreement::{LinkStatus, Standing},
    ring::{MemberNumber, MemberState, NodeAddress, RingName},
};

/// Whether the members of the ring agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The ring in force here.
    pub ours: Option<RingName>,
    /// The ring that the gateway of this node follows; with several, the oldest of them. None without a gateway.
    pub gateway: Option<RingName>,
    /// The other members, in ring order.
    pub peers: Vec<PeerStatus>,
}

/// One of the other members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its number in our ring.
    pub number: MemberNumber,
    /// What our ring hashes for it.
    pub identity: String,
    /// Where it is.
    pub address: NodeAddress,
    /// How its ring stands to ours.
    pub standing: Standing,
    /// For how long it has stood so, in milliseconds.
    pub for_ms: u64,
    /// The ring in force there, as last heard.
    pub agent: Option<RingName>,
    /// The ring that its gateway follows, as last heard; none without a gateway.
    pub gateway: Option<RingName>,
    /// Since it was last heard, in milliseconds; none if never.
    pub heard_ms_ago: Option<u64>,
    /// How long its agent has been running, in milliseconds, as last heard.
    pub uptime_ms: Option<u64>,
    /// How far its clock is ahead of ours, in milliseconds; negative if behind. It is CLOCK_TAI that is compared, by
    /// which the cookies are timed; the time that the message took counts as being behind.
    pub clock_ahead_ms: Option<i64>,
    /// The version of its agent, as last heard.
    pub version: Option<String>,
    /// The link that we have made to it.
    pub link: LinkStatus,
}

/// The members of the ring in force, in ring order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// The ring.
    pub ring: Option<RingName>,
    /// Its members.
    pub members: Vec<MemberStatus>,
    /// Flows at this edge whose node is no member any more; their clients are being told.
    pub orphaned_flows: u64,
}

/// One member of the ring in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its number.
    pub number: MemberNumber,
    /// What is hashed.
    pub identity: String,
    /// Where packets go.
    pub address: NodeAddress,
    /// Whether it takes new users.
    pub state: MemberState,
    /// Whether it is the node that was asked.
    pub here: bool,
    /// The share of the ring that it owns, from 0 to 1.
    pub share: f64,
    /// Flows at this edge that it holds.
    pub flows: u64,
    /// How its ring stands to ours; none for the node that was asked.
    pub standing: Option<Standing>,
}
