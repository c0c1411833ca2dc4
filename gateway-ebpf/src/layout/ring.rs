//! Map `ring`: an array with one slot, holding the inner map with the ring now in force.
//!
//! Everything about a ring travels in one value of one inner map, and the slot is replaced whole. A packet reads the
//! slot once and so sees one ring, the old or the new, never a mixture.

use super::map_pod;

/// Most points a ring can have: 1 638 members at 20 points each.
pub const MAX_POINTS: usize = 1 << 15;

map_pod! {
    /// One point of the ring.
    pub struct Point {
        /// Its position.
        pub hash: u32,
        /// The member that put it there, by its number in `nodes`.
        pub node: u32,
    }
}

map_pod! {
    /// A published ring.
    pub struct Ring {
        /// Its place in time: of two rings the one with the higher epoch is in force.
        pub epoch: u64,
        /// Its content, as the first eight bytes (big-endian) of the digest that `ringsteer` prints.
        pub digest: u64,
        /// How keys and members are hashed: 1 is `openim`, 2 is `multiprobe` ([`crate::ring::algorithm`]).
        pub algorithm: u32,
        /// How many of `points` are in use.
        pub point_count: u32,
        /// Sorted by hash, no hash twice; unused ones are zero.
        pub points: [Point; MAX_POINTS],
    }
}
