//! Maps `moves` and `moving`: connections that are leaving this node, or have left it.

use super::map_pod;

/// Connections that can be on the move at once.
pub const MAX_MOVES: u32 = 1 << 16;

map_pod! {
    /// Value of `moves`; the key is that of `flows`. There is one from the moment the connection is held until every edge
    /// knows where it has gone.
    pub struct Move {
        /// When it was held, or, once it has moved, when that was; in nanoseconds since boot (CLOCK_MONOTONIC).
        pub since_ns: u64,
        /// When the last packet was sent on, in nanoseconds since boot; 0 for never.
        pub last_sent_ns: u64,
        /// Packets kept back while it was held.
        pub held: u64,
        /// Packets sent on to the node that has it now.
        pub sent_on: u64,
        /// The member that it has moved to, by its number in `nodes`; 0 while it is held.
        pub node: u32,
        /// Which of the connection's moves this is, from 1.
        pub count: u32,
    }
}

map_pod! {
    /// The single entry of `moving`.
    pub struct Moving {
        /// Not 0 while `moves` may have entries; otherwise nobody looks there.
        pub entries: u32,
    }
}
