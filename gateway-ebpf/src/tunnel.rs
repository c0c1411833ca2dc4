//! The datagram that carries a packet from the edge to the owner: the packet itself, headers and all, as the payload
//! of UDP. The first nibble of the payload tells IPv4 from IPv6.

/// UDP port the tunnel listens on unless configured otherwise.
pub const DEFAULT_PORT: u16 = 6080;

/// Bytes an IPv4 tunnel puts in front of a packet: IPv4 (20) and UDP (8) headers.
pub const OVERHEAD_V4: u32 = 28;

/// Bytes an IPv6 tunnel puts in front of a packet.
pub const OVERHEAD_V6: u32 = 48;

/// Room a service's MSS leaves for the tunnel: that of the larger header, so that the same offer fits either.
pub const RESERVED: u32 = OVERHEAD_V6;

/// The UDP source port of a flow's tunnel packets: in the dynamic range (RFC 6335 section 6), the same for every
/// packet of a flow and spread over flows, so that routers and receive queues keep a flow in order and flows apart.
#[inline(always)]
pub fn source_port(client_tail: u32, client_port: u16) -> u16 {
    // Fibonacci hashing: the high bits of a product with 2^32/phi are well mixed.
    let mixed = (client_tail ^ ((client_port as u32) << 16 | client_port as u32)).wrapping_mul(0x9E37_79B9);
    0xC000 | (mixed >> 18) as u16
}
