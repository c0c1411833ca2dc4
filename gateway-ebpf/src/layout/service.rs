//! Map `services`: the virtual addresses and ports that are steered.

use super::{Address, map_pod};

/// Longest query parameter name, in bytes.
pub const MAX_PARAMETER: usize = 24;

/// Most services a node can serve.
pub const MAX_SERVICES: usize = 256;

map_pod! {
    /// Where a packet must be going to be ours.
    pub struct ServiceKey {
        /// The virtual address.
        pub address: Address,
        /// TCP port.
        pub port: u32,
    }
}

map_pod! {
    /// What we do with connections to it.
    pub struct Service {
        /// Names the service in `flows`; 1 and up, kept as long as the service exists.
        pub service: u32,
        /// Largest segment offered to clients, in bytes. Leaves room for the tunnel header, so nothing ever fragments.
        pub mss: u32,
        /// Length of the parameter's name, in bytes; 0 spreads connections by their 4-tuple.
        pub parameter_length: u32,
        /// Name of the query parameter that holds the key, such as `sendID`; zero-padded.
        pub parameter: [u8; MAX_PARAMETER],
    }
}
