//! Maps of the lab's program `bench_restore`: what it makes of the packet before each round of a benchmark.

use super::map_pod;

/// Whole words of a packet that are written anew each round.
pub const WORDS: usize = 9;

/// Bytes of a packet that are written anew each round: Ethernet, IPv4, TCP and 20 bytes of options, the most that `steer`
/// ever writes to. No packet of a benchmark is shorter.
pub const RESTORED: usize = WORDS * 8 + 2;

/// Most connections whose acknowledgement numbers are prepared.
pub const MAX_ACKNOWLEDGEMENTS: usize = 1 << 16;

/// Client ports run from here; 2¹⁵ of them for each client address.
pub const FIRST_PORT: u16 = 1 << 15;

map_pod! {
    /// How a round begins.
    pub struct Plan {
        /// The packet's first bytes.
        pub words: [u64; WORDS],
        /// The two bytes that follow them.
        pub rest: u16,
        /// 1 if the packet changes its length at the end, 0 if in front.
        pub at_tail: u16,
        /// Length of the packet, in bytes.
        pub length: u32,
        /// Number of connections less one; their number is a power of two.
        pub connections_mask: u32,
        /// Which connection was last, with bits above the mask.
        pub position: u32,
        /// 1 if client address and port are those of the round's connection, 0 if they stay as they are.
        pub with_client: u32,
        /// 1 if the acknowledgement number is the prepared one of the round's connection, 0 if it stays as it is.
        pub with_acknowledgement: u32,
    }
}

map_pod! {
    /// What the connections acknowledge in their first segments.
    pub struct Acknowledgements {
        /// The number of each connection, bytes as in the packet.
        pub numbers: [u32; MAX_ACKNOWLEDGEMENTS],
    }
}

impl Plan {
    /// The connection of the next round. All of them come by before one comes by again, in an order that no prefetcher
    /// follows: a linear congruential generator keeps its full period in its low bits (Numerical Recipes).
    #[inline(always)]
    pub fn step(&mut self) -> u32 {
        self.position = self.position.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.position & self.connections_mask
    }
}

/// The last byte of a connection's client address, counted from the first client, and its client port.
#[inline(always)]
pub fn client(connection: u32) -> (u8, u16) {
    ((connection >> 15) as u8, FIRST_PORT | (connection & 0x7fff) as u16)
}
