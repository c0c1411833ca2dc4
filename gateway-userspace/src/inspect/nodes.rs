//! The members that the maps name.

use anyhow::{Context as _, Result};
use ringsteer_ebpf::layout::node::{Node, SHOWN_IDENTITY};

use super::address::unmapped;
use crate::{dataplane::readings::Readings, ring::NodeAddress};

/// A member as the map `nodes` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its number.
    pub number: u32,
    /// What is hashed for it, cut to what the map has room for.
    pub identity: String,
    /// Where packets to it go; none if the map holds no such thing.
    pub address: Option<NodeAddress>,
    /// Whether it is the node we run on.
    pub here: bool,
}

/// All of them, by number.
///
/// # Errors
/// If the kernel refuses.
pub fn all(readings: &Readings) -> Result<Vec<NodeEntry>> {
    let mut nodes = Vec::new();
    for one in readings.nodes.iter() {
        let (number, node) = one.context("cannot read the nodes")?;
        nodes.push(NodeEntry::of(number, &node));
    }
    nodes.sort_by_key(|node| node.number);
    Ok(nodes)
}

/// The one of this number, if there is one.
pub fn one(readings: &Readings, number: u32) -> Option<NodeEntry> {
    readings.nodes.get(&number, 0).ok().map(|node| NodeEntry::of(number, &node))
}

// === impl NodeEntry ===

impl NodeEntry {
    fn of(number: u32, node: &Node) -> Self {
        let length = (node.identity_length as usize).min(SHOWN_IDENTITY);
        Self {
            number,
            identity: String::from_utf8_lossy(&node.identity[..length]).into_owned(),
            address: NodeAddress::new(unmapped(&node.address)).ok(),
            here: node.here != 0,
        }
    }
}
