//! An IP packet of either family.

use anyhow::{Result, bail, ensure};
use std::net::IpAddr;

use super::sum::sum;
use crate::lab::Family;

/// Protocol numbers.
pub mod protocol {
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// IPv6 destination options header (RFC 8200 section 4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Hops that a packet made here has left.
pub const HOPS: u8 = 64;

/// The IPv4 flags and offset of a packet that must not be fragmented.
const DONT_FRAGMENT: u16 = 0x4000;
/// The IPv4 flag of all fragments but the last.
const MORE: u16 = 0x2000;

/// An IP packet. Both addresses are of one family, and that is the packet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// Where it comes from, or claims to.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// What the payload is; for IPv6 perhaps an extension header.
    pub protocol: u8,
    /// Time to live, hop limit.
    pub hops: u8,
    /// Type of service, traffic class.
    pub class: u8,
    /// IPv6: flow label, 20 bits. Without meaning for IPv4.
    pub label: u32,
    /// IPv4: flags and offset. Without meaning for IPv6.
    pub fragment: u16,
    /// IPv4: options, a multiple of four bytes. Without meaning for IPv6.
    pub options: Vec<u8>,
    /// What follows the header.
    pub payload: Vec<u8>,
}

// === impl Family ===

impl Family {
    /// Bytes of the family's header, without options or extension headers.
    pub fn header_length(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The family's EtherType.
    pub fn ether_type(self) -> u16 {
        match self {
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }

    /// The protocol number of the family's ICMP.
    pub fn icmp(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }
}

// === impl IpPacket ===

impl IpPacket {
    /// A packet as most are: [`HOPS`] left, not to be fragmented, no options.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        let fragment = DONT_FRAGMENT;
        Self { source, destination, protocol, hops: HOPS, class: 0, label: 0, fragment, options: Vec::new(), payload }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// The same with one thing more than a plain header has: IPv4 options that do nothing, an IPv6 destination options
    /// header that does nothing.
    pub fn with_extension(&self) -> Self {
        match self.family() {
            Family::V4 => Self { options: vec![1; 4], ..self.clone() },
            // One option of four bytes, all padding (PadN).
            Family::V6 => self.behind(protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0]),
        }
    }

    /// The same as a fragment: the offset in units of eight bytes, and whether more follow. The payload stays whole.
    pub fn as_fragment(&self, offset: u16, more: bool) -> Self {
        assert!(offset < 1 << 13, "an offset of {offset} does not fit");
        match self.family() {
            Family::V4 => Self { fragment: offset | if more { MORE } else { 0 }, ..self.clone() },
            Family::V6 => {
                let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
                self.behind(protocol::FRAGMENT, &[0, high, low, 0, 0, 0, 7])
            }
        }
    }

    /// The same with an IPv6 extension header in front of the payload: `kind` names it, `rest` is what follows the
    /// byte that names the next header.
    ///
    /// # Panics
    /// If this is no IPv6 packet, or the header's length is no multiple of eight.
    pub fn behind(&self, kind: u8, rest: &[u8]) -> Self {
        assert!(self.family() == Family::V6 && (rest.len() + 1).is_multiple_of(8));
        Self { protocol: kind, payload: [&[self.protocol], rest, &self.payload].concat(), ..self.clone() }
    }

    /// The packet's bytes, header checksum included.
    ///
    /// # Panics
    /// If the addresses are of different families, or a length does not fit its field.
    pub fn to_bytes(&self) -> Vec<u8> {
        let fit = |length: usize| u16::try_from(length).expect("the caller's packet fits in IP");
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40);
                let header = 20 + self.options.len();
                let mut bytes = vec![0x40 | (header / 4) as u8, self.class];
                bytes.extend(fit(header + self.payload.len()).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(self.fragment.to_be_bytes());
                bytes.extend([self.hops, self.protocol, 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.options);
                let checksum = !sum(&bytes);
                bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
                bytes.extend(&self.payload);
                bytes
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut bytes = (6 << 28 | u32::from(self.class) << 20 | self.label).to_be_bytes().to_vec();
                bytes.extend(fit(self.payload.len()).to_be_bytes());
                bytes.extend([self.protocol, self.hops]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.payload);
                bytes
            }
            (source, destination) => panic!("{source} and {destination} are of different families"),
        }
    }

    /// Reads a packet; none if its header is malformed. What follows its end, padding of the frame, is left out. Sums
    /// are not looked at: a packet that was sent on this machine may not have any yet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        match bytes.first()? >> 4 {
            4 => {
                let header = usize::from(bytes[0] & 0xf) * 4;
                let total = usize::from(word(2)?);
                if header < 20 || total < header || total > bytes.len() {
                    return None;
                }
                Some(Self {
                    source: <[u8; 4]>::try_from(&bytes[12..16]).ok()?.into(),
                    destination: <[u8; 4]>::try_from(&bytes[16..20]).ok()?.into(),
                    protocol: bytes[9],
                    hops: bytes[8],
                    class: bytes[1],
                    label: 0,
                    fragment: word(6)?,
                    options: bytes[20..header].to_vec(),
                    payload: bytes[header..total].to_vec(),
                })
            }
            6 => {
                let end = 40 + usize::from(word(4)?);
                if end > bytes.len() {
                    return None;
                }
                Some(Self {
                    source: <[u8; 16]>::try_from(&bytes[8..24]).ok()?.into(),
                    destination: <[u8; 16]>::try_from(&bytes[24..40]).ok()?.into(),
                    protocol: bytes[6],
                    hops: bytes[7],
                    class: bytes[0] << 4 | bytes[1] >> 4,
                    label: u32::from(word(2)?) | u32::from(bytes[1] & 0xf) << 16,
                    fragment: DONT_FRAGMENT,
                    options: Vec::new(),
                    payload: bytes[40..end].to_vec(),
                })
            }
            _ => None,
        }
    }

    /// Reads a packet that must be right: lengths that fit the bytes exactly, and a right header checksum.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verified(bytes: &[u8]) -> Result<Self> {
        let Some(packet) = Self::parse(bytes) else { bail!("not an IP packet: {bytes:02x?}") };
        let (header, length) = match packet.family() {
            Family::V4 => (20 + packet.options.len(), 20 + packet.options.len() + packet.payload.len()),
            Family::V6 => (40, 40 + packet.payload.len()),
        };
        ensure!(length == bytes.len(), "an IP packet of {length} bytes in {}", bytes.len());
        if packet.family() == Family::V4 {
            ensure!(sum(&bytes[..header]) == 0xffff, "wrong IPv4 header checksum: {:02x?}", &bytes[..header]);
        }
        Ok(packet)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    /// Two ends of a connection, of either family.
    pub fn two_ends() -> impl Strategy<Value = [SocketAddr; 2]> {
        let v4 = any::<[([u8; 4], u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| SocketAddr::new(ip.into(), port)));
        let v6 = any::<[([u8; 16], u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| SocketAddr::new(ip.into(), port)));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ends in two_ends(), numbers: [u8; 3], label in 0u32..1 << 20, payload: Vec<u8>, padding: Vec<u8>,
        ) {
            let ([source, destination], [protocol, hops, class]) = (ends.map(|end| end.ip()), numbers);
            let label = if source.is_ipv6() { label } else { 0 };
            let packet = IpPacket { hops, class, label, ..IpPacket::new(source, destination, protocol, payload) };
            let mut bytes = packet.to_bytes();
            prop_assert_eq!(&IpPacket::verified(&bytes).expect("it is right"), &packet);
            bytes.extend(&padding);
            prop_assert_eq!(IpPacket::parse(&bytes), Some(packet));
            prop_assert_eq!(IpPacket::verified(&bytes).is_ok(), padding.is_empty());
        }

        #[test]
        fn garbage_does_not_panic(bytes: Vec<u8>, version in prop::option::of(prop_oneof![Just(0x45u8), Just(0x60)])) {
            let bytes = version.into_iter().chain(bytes).collect::<Vec<_>>();
            let _ = IpPacket::parse(&bytes);
        }
    }

    /// RFC 8200 section 4.5: reserved byte, 13 bits of offset, two reserved bits, M, identification.
    #[test]
    fn fragments_have_their_fields_where_the_rfcs_put_them() {
        let v4 = IpPacket::new([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 17, vec![9]).as_fragment(185, true);
        assert_eq!(v4.to_bytes()[6..8], [0x20, 0xb9]);
        let from: IpAddr = "2001:db8::1".parse().expect("an address");
        let v6 = IpPacket::new(from, from, 17, vec![9]).as_fragment(185, true);
        assert_eq!((v6.protocol, &v6.payload[..]), (44, &[17, 0, 0x05, 0xc9, 0, 0, 0, 7, 9][..]));
    }
}
