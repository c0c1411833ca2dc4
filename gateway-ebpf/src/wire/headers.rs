//! Header layouts, in network byte order where a field is longer than a byte.
//!
//! These are the shapes that packets are read and written through. The 32-bit fields are naturally aligned relative to
//! the header's start; drivers place headers so that this holds in memory too (NET_IP_ALIGN), and machines where it
//! does not are those whose BPF loads need no alignment.

use super::checksum;

/// Length of an Ethernet header without VLAN tag.
pub const ETHERNET: usize = 14;
/// Length of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Length of an IPv6 header without extension headers.
pub const IPV6: usize = 40;
/// Length of a UDP header.
pub const UDP: usize = 8;
/// Length of a TCP header without options.
pub const TCP: usize = 20;
/// Length of an ICMP or ICMPv6 header.
pub const ICMP: usize = 8;

/// EtherType of IPv4, as it stands in memory.
pub const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
/// EtherType of IPv6, as it stands in memory.
pub const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// IP protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 extension header: hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv6 extension header: routing.
    pub const ROUTING: u8 = 43;
    /// IPv6 extension header: fragment.
    pub const FRAGMENT: u8 = 44;
    /// IPv6 extension header: authentication.
    pub const AUTHENTICATION: u8 = 51;
    /// IPv6 extension header: destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// IPv6 extension header: mobility.
    pub const MOBILITY: u8 = 135;
    /// IPv6 extension header: host identity protocol.
    pub const HOST_IDENTITY: u8 = 139;
    /// IPv6 extension header: shim6.
    pub const SHIM6: u8 = 140;
}

/// TCP flags (RFC 9293 section 3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// Marks a segment for admission, among the reserved bits beside the data offset.
///
/// The edge sets it on every segment that arrives before the owner has spoken, the owner's `admit` clears it. A bit of
/// the segment itself passes through the tunnel and from XDP to tc on any driver, where packet metadata does not; the
/// TCP stack ignores it (`TCP_HP_BITS`), and no standard uses it (AccECN took the lowest of the four).
pub const ADMISSION_MARK: u8 = 0x08;

/// Ethernet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// To whom.
    pub destination: [u16; 3],
    /// From whom.
    pub source: [u16; 3],
    /// What follows.
    pub ether_type: u16,
}

/// IPv4 without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version and header length; 0x45 when there are no options.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Of header and payload.
    pub total_length: u16,
    /// For fragments.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Hops left.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Over the header.
    pub checksum: u16,
    /// From whom, bytes as in memory.
    pub source: u32,
    /// To whom, bytes as in memory.
    pub destination: u32,
}

/// The version byte of an IPv4 header without options.
pub const IPV4_PLAIN: u8 = 0x45;
/// "Do not fragment", as it stands in memory.
pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
/// "More fragments" and the fragment offset, as they stand in memory: any bit set means a fragment.
pub const IS_FRAGMENT: u16 = 0x3fffu16.to_be();

/// IPv6 without extension headers.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version in the high nibble, then traffic class and flow label.
    pub version_class_label: u32,
    /// Bytes after this header.
    pub payload_length: u16,
    /// What follows.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// From whom, bytes as in memory.
    pub source: [u32; 4],
    /// To whom, bytes as in memory.
    pub destination: [u32; 4],
}

/// The first word of an IPv6 header without traffic class and flow label, as it stands in memory.
pub const IPV6_PLAIN: u32 = 0x6000_0000u32.to_be();

/// UDP.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Of header and payload.
    pub length: u16,
    /// Over pseudo-header and datagram; 0 for none.
    pub checksum: u16,
}

/// TCP without options.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Data offset in the high nibble, reserved bits in the low one.
    pub offset_reserved: u8,
    /// Flags.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
    /// Over pseudo-header and segment.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Tcp {
    /// Length of the header with its options, in bytes.
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        (self.offset_reserved >> 4) as usize * 4
    }

    /// Sets data offset and reserved bits, and keeps the checksum right.
    #[inline(always)]
    pub fn set_offset_reserved(&mut self, value: u8) {
        let word = |offset_reserved: u8| u16::from_ne_bytes([offset_reserved, self.flags]);
        self.checksum = checksum::updated(self.checksum, word(self.offset_reserved), word(value));
        self.offset_reserved = value;
    }
}

/// The header that ICMP and ICMPv6 share.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    /// What it is about.
    pub kind: u8,
    /// In particular.
    pub code: u8,
    /// Over the message.
    pub checksum: u16,
    /// Depends on the type.
    pub rest: u32,
}

/// ICMP type of "destination unreachable", which includes "fragmentation needed" (RFC 792).
pub const ICMP_UNREACHABLE: u8 = 3;
/// ICMPv6 type of "destination unreachable" (RFC 4443 section 3.1).
pub const ICMPV6_UNREACHABLE: u8 = 1;
/// ICMPv6 type of "packet too big" (RFC 4443 section 3.2).
pub const ICMPV6_TOO_BIG: u8 = 2;

/// The port fields every quoted TCP header has (RFC 792: the first eight bytes).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}
