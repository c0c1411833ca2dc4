//! Maps `moves` and `moving`: connections that are leaving this node, or have left it.

use super::{flow::FlowKey, map_pod};

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
        /// Which connection, of all on these addresses and ports: its `first_ack`, as in `flows`. 0 while that is not known.
        pub first_ack: u32,
        /// No padding the compiler chose.
        pub unused: u32,
    }
}

/// Longest frame that is kept while its connection is held; a power of two. Longer ones are lost.
pub const KEPT_FRAME_MAX: usize = 2048;

/// Bytes of the ring buffer `held_frames`; a power of two.
pub const HELD_FRAMES_BYTES: u32 = 4 << 20;

/// What is in `held_frames`: a frame of a held connection as it arrived, for the agent, which has it arrive once more
/// when the connection is not held any more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct HeldFrame {
    /// The connection.
    pub key: FlowKey,
    /// Bytes of the frame.
    pub length: u32,
    /// Where it arrived.
    pub ifindex: u32,
    /// No padding the compiler chose.
    pub unused: u32,
    /// The frame, and then anything.
    pub frame: [u8; KEPT_FRAME_MAX],
}

map_pod! {
    /// The single entry of `moving`.
    pub struct Moving {
        /// Not 0 while `moves` may have entries; otherwise nobody looks there.
        pub entries: u32,
    }
}
