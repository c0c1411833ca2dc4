//! Map `flows`: one entry per steered TCP connection, at its edge.

use super::{Address, map_pod};

/// Flows the table holds unless the configuration says otherwise. Never written down as an LRU map: those evict early
/// and by guess, and losing an entry loses a connection.
pub const DEFAULT_MAX_FLOWS: u32 = 1 << 20;

/// Connections in mode "accept" whose SYN is remembered until they have a flow.
pub const MAX_DIALLING: usize = 1 << 16;

/// Seconds a flow is kept that no packet has come for. In mode "accept" every member has a flow of each connection, for it
/// may be its edge; the others need none.
pub const UNUSED_LIFE_S: u32 = 60;

/// Seconds a closing flow is kept, so that the last acknowledgements still find their way.
pub const CLOSING_LINGER_S: u32 = 30;

map_pod! {
    /// A connection as its packets name it. The service number stands for virtual address and port: the shorter the
    /// key, the faster the table.
    pub struct FlowKey {
        /// The client's address.
        pub client: Address,
        /// The client's TCP port.
        pub client_port: u16,
        /// Which service, by its number in `services`.
        pub service: u16,
    }
}

map_pod! {
    /// Who holds the connection, and what tells it from another one on the same addresses and ports.
    ///
    /// 56 bytes: with the key and the kernel's own 48 an entry then takes 128, two whole cache lines, however many there
    /// are. The two counters were free.
    pub struct Flow {
        /// When the flow was bound to the node that holds it, in nanoseconds since boot (CLOCK_MONOTONIC).
        pub bound_ns: u64,
        /// When the last packet passed, in nanoseconds since boot (CLOCK_MONOTONIC).
        pub last_seen_ns: u64,
        /// Packets from the client since.
        pub packets: u64,
        /// Their bytes, from the IP header on.
        pub bytes: u64,
        /// The member that holds it, by its number in `nodes`.
        pub node: u32,
        /// CRC-32 of the key found in the first segment; 0 if none was found and the 4-tuple decided, as always in mode
        /// "accept".
        pub key_hash: u32,
        /// What the client acknowledges until the owner has spoken: our cookie plus one. Segments that still carry it
        /// are marked for admission. It tells the connection from others on the same addresses and ports. So it does in mode
        /// "accept", where it is when the connection was accepted: the low 32 bits of CLOCK_TAI in milliseconds, or a
        /// little more where the next is accepted as soon; 0 if that is not known.
        pub first_ack: u32,
        /// What the client acknowledged last: the sequence number at which a RST would reach it (RFC 5961 section 3).
        pub last_ack: u32,
        /// 1 once FIN or RST was seen: the flow goes after a short silence.
        pub closing: u16,
        /// How many times the connection has moved from one node to another.
        pub moved: u16,
        /// The cookie slot of the last SYN seen for this flow while it lived, 0 for none. A segment in the following
        /// slots may belong to a new connection on the same 4-tuple and has its cookie checked. Always 0 in mode "accept".
        pub syn_slot: u32,
    }
}
