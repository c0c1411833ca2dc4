//! Maps `nodes`, `node_addrs` and `this_node`: the members of the ring, and which of them we are.

use super::{Address, map_pod};

/// Member numbers run from 1 to this, exclusive. 0 names nobody.
pub const MAX_NODES: usize = 4096;

/// Longest member identity, in bytes, that a dump shows; a longer one is cut there.
pub const SHOWN_IDENTITY: usize = 96;

map_pod! {
    /// A member, under its number.
    pub struct Node {
        /// Where tunnel packets to it go, and come from.
        pub address: Address,
        /// 1 if this is the node we run on.
        pub here: u32,
        /// Length of the identity shown.
        pub identity_length: u32,
        /// The string the ring hashes. For people; nothing in the kernel reads it.
        pub identity: [u8; SHOWN_IDENTITY],
    }
}

map_pod! {
    /// Value of `node_addrs`: whose address that is.
    pub struct NodeNumber {
        /// Its number in `nodes`.
        pub node: u32,
    }
}

map_pod! {
    /// Key of `node_addrs`.
    pub struct NodeAddress {
        /// A node's address.
        pub address: Address,
    }
}

map_pod! {
    /// The single entry of `this_node`.
    pub struct ThisNode {
        /// Our number in `nodes`.
        pub node: u32,
        /// UDP port of the tunnel.
        pub tunnel_port: u32,
        /// Our node address, the source of every tunnel packet.
        pub address: Address,
    }
}
