//! What IPv4 and IPv6 have in common, so that one text of the data path serves both.
//!
//! The data path is generic over a [`Family`] and compiled once for each, so nothing here costs a packet a branch.

use bytemuck::Pod;

use super::{
    checksum,
    headers::{
        DONT_FRAGMENT, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMP_UNREACHABLE, ICMPV6_TOO_BIG, ICMPV6_UNREACHABLE, IPV4,
        IPV4_PLAIN, IPV6, IPV6_PLAIN, IS_FRAGMENT, Ipv4, Ipv6, protocol,
    },
};
use crate::layout::MAPPED_PREFIX;

/// An address of either family in 16 bytes as they stand in memory, IPv4 mapped into IPv6; see
/// [`crate::layout::Address`]. As words, because code that may assume no alignment copies byte by byte.
pub type Words = [u32; 4];

/// A version of IP.
pub trait Family: Copy {
    /// Its header: without options, without extension headers.
    type Header: Copy;
    /// An address in it, bytes as in memory.
    type Address: Pod + PartialEq;

    /// Length of the header, in bytes.
    const HEADER: usize;
    /// The EtherType, as it stands in memory.
    const ETHERTYPE: u16;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// The MSS of a host that names none (RFC 9293 section 3.7.1). No connection is admitted with less.
    const DEFAULT_MSS: u16;

    /// Whether a header of this family starts with this byte and the payload follows it directly, as far as the byte
    /// can tell.
    fn is_plain(first_byte: u8) -> bool;

    /// What follows the header.
    fn protocol(header: &Self::Header) -> u8;

    /// Whether the header says that this is a fragment.
    fn is_fragment(header: &Self::Header) -> bool;

    /// Bytes of the packet, header included.
    fn length(header: &Self::Header) -> usize;

    /// Hops that the packet has left.
    fn hops(header: &Self::Header) -> u8;

    /// From whom.
    fn source(header: &Self::Header) -> Self::Address;

    /// To whom.
    fn destination(header: &Self::Header) -> Self::Address;

    /// An address in 16 bytes.
    fn widen(address: Self::Address) -> Words;

    /// The address in 16 bytes that hold one of this family.
    fn narrow(words: &Words) -> Self::Address;

    /// A number that differs between addresses.
    fn entropy(address: Self::Address) -> u32;

    /// Sum of an address's 16-bit words.
    fn sum(address: Self::Address) -> u32;

    /// The header of a TCP segment of our own, `tcp_length` bytes long.
    fn tcp_header(tcp_length: u16, source: Self::Address, destination: Self::Address) -> Self::Header;

    /// Whether an ICMP message of this type is an error that a connection's owner has to know of.
    fn is_error(icmp_type: u8) -> bool;
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl Family for V4 {
    type Header = Ipv4;
    type Address = u32;

    const HEADER: usize = IPV4;
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const ICMP: u8 = protocol::ICMP;
    const DEFAULT_MSS: u16 = 536;

    #[inline(always)]
    fn is_plain(first_byte: u8) -> bool {
        first_byte == IPV4_PLAIN
    }

    #[inline(always)]
    fn protocol(header: &Ipv4) -> u8 {
        header.protocol
    }

    #[inline(always)]
    fn is_fragment(header: &Ipv4) -> bool {
        header.fragment & IS_FRAGMENT != 0
    }

    #[inline(always)]
    fn length(header: &Ipv4) -> usize {
        u16::from_be(header.total_length) as usize
    }

    #[inline(always)]
    fn hops(header: &Ipv4) -> u8 {
        header.ttl
    }

    #[inline(always)]
    fn source(header: &Ipv4) -> u32 {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Ipv4) -> u32 {
        header.destination
    }

    #[inline(always)]
    fn widen(address: u32) -> Words {
        let [a, b, c] = MAPPED_PREFIX;
        [a, b, c, address]
    }

    #[inline(always)]
    fn narrow(words: &Words) -> u32 {
        words[3]
    }

    #[inline(always)]
    fn entropy(address: u32) -> u32 {
        address
    }

    #[inline(always)]
    fn sum(address: u32) -> u32 {
        checksum::halves(address)
    }

    #[inline(always)]
    fn tcp_header(tcp_length: u16, source: u32, destination: u32) -> Ipv4 {
        /// Hops that our answers may take.
        const TTL: u8 = 64;
        let total_length = (IPV4 as u16).wrapping_add(tcp_length).to_be();
        // The words of the header in memory order: a byte pair (a, b) is a | b << 8 on this little-endian target.
        let sum = IPV4_PLAIN as u32
            + total_length as u32
            + DONT_FRAGMENT as u32
            + (TTL as u32 | (protocol::TCP as u32) << 8)
            + checksum::halves(source)
            + checksum::halves(destination);
        Ipv4 {
            version_ihl: IPV4_PLAIN,
            tos: 0,
            total_length,
            identification: 0,
            fragment: DONT_FRAGMENT,
            ttl: TTL,
            protocol: protocol::TCP,
            checksum: checksum::finish(sum),
            source,
            destination,
        }
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // "Fragmentation needed" is one of its codes.
        icmp_type == ICMP_UNREACHABLE
    }
}

impl Family for V6 {
    type Header = Ipv6;
    type Address = [u32; 4];

    const HEADER: usize = IPV6;
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const ICMP: u8 = protocol::ICMPV6;
    const DEFAULT_MSS: u16 = 1220;

    #[inline(always)]
    fn is_plain(first_byte: u8) -> bool {
        first_byte >> 4 == 6
    }

    #[inline(always)]
    fn protocol(header: &Ipv6) -> u8 {
        header.next_header
    }

    /// Never: a fragment has an extension header, which is a protocol of its own.
    #[inline(always)]
    fn is_fragment(_: &Ipv6) -> bool {
        false
    }

    #[inline(always)]
    fn length(header: &Ipv6) -> usize {
        IPV6 + u16::from_be(header.payload_length) as usize
    }

    #[inline(always)]
    fn hops(header: &Ipv6) -> u8 {
        header.hop_limit
    }

    #[inline(always)]
    fn source(header: &Ipv6) -> [u32; 4] {
        header.source
    }

    #[inline(always)]
    fn destination(header: &Ipv6) -> [u32; 4] {
        header.destination
    }

    #[inline(always)]
    fn widen(address: [u32; 4]) -> Words {
        address
    }

    #[inline(always)]
    fn narrow(words: &Words) -> [u32; 4] {
        *words
    }

    #[inline(always)]
    fn entropy(address: [u32; 4]) -> u32 {
        // Clients differ in their network, in their interface identifier, or in both.
        address[0] ^ address[1].rotate_left(8) ^ address[2].rotate_left(16) ^ address[3]
    }

    #[inline(always)]
    fn sum(address: [u32; 4]) -> u32 {
        let [a, b, c, d] = address;
        checksum::halves(a) + checksum::halves(b) + checksum::halves(c) + checksum::halves(d)
    }

    #[inline(always)]
    fn tcp_header(tcp_length: u16, source: [u32; 4], destination: [u32; 4]) -> Ipv6 {
        Ipv6 {
            version_class_label: IPV6_PLAIN,
            payload_length: tcp_length.to_be(),
            next_header: protocol::TCP,
            hop_limit: 64,
            source,
            destination,
        }
    }

    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        icmp_type == ICMPV6_UNREACHABLE || icmp_type == ICMPV6_TOO_BIG
    }
}
