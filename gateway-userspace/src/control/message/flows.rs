//! What is in the flow table.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Which flows to show: those to which everything given applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowFilter {
    /// Held by this node.
    pub node: Option<u32>,
    /// Of this client.
    pub client: Option<IpAddr>,
    /// Bound by a key with this hash.
    pub key_hash: Option<u32>,
    /// Bound by this user id.
    pub user: Option<String>,
    /// Show this many at most, and count the rest. 0 shows none.
    pub limit: Option<u64>,
}

/// Some of the flows. Answers follow one another until one has `end`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The next ones, in no particular order.
    pub flows: Vec<FlowEntry>,
    /// There are no more.
    pub end: Option<FlowsEnd>,
}

/// What was found in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsEnd {
    /// Flows in the table.
    pub total: u64,
    /// Flows that the filter lets through, shown or not.
    pub matched: u64,
    /// Connections that are held on this node because they are about to leave it, whether or not they entered here.
    #[serde(default)]
    pub held: u64,
    /// Connections that have left this node, whose packets it still sends on.
    #[serde(default)]
    pub moved: u64,
}

/// How a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowState {
    /// As flows are.
    #[default]
    Open,
    /// Its end has been seen.
    Closing,
    /// This node has it and keeps its packets back, because it is about to leave.
    Held,
    /// It has left this node, and not every edge is known to know.
    Moved,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntry {
    /// The client.
    pub client: SocketAddr,
    /// The virtual address and port; none if the service has been removed since.
    pub service: Option<SocketAddr>,
    /// The service's name in the configuration, if it is still there.
    pub service_name: Option<String>,
    /// The node that holds it.
    pub node: u32,
    /// Hash of the key it was bound by; none if the 4-tuple decided.
    pub key_hash: Option<u32>,
    /// Since it was bound, in milliseconds.
    pub age_ms: u64,
    /// Since its last packet, in milliseconds.
    pub idle_ms: u64,
    /// Packets from the client.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// Whether its end has been seen.
    pub closing: bool,
    /// How it is.
    #[serde(default)]
    pub state: FlowState,
    /// How many times it has moved from one node to another.
    #[serde(default)]
    pub moves: u16,
}
