//! What is steered.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::Serve;

/// What is steered, by address and port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services of the kernel's map and those of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its number in the kernel's maps; none if it is not steered: it waits for a ring, or for the agent to read it.
    pub number: Option<u32>,
    /// Its name in the configuration; none if that does not have it any more.
    pub name: Option<String>,
    /// The virtual address and TCP port.
    pub address: SocketAddr,
    /// The query parameter that holds the key; without one, connections are spread by their 4-tuple.
    pub parameter: Option<String>,
    /// What our gateway does on it, by the configuration.
    pub serve: Option<Serve>,
    /// The largest segment offered to clients, in bytes; none if it is not steered.
    pub mss: Option<u32>,
    /// Its flows at this edge.
    pub flows: u64,
}
