//! A TCP segment over IP of either family.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::ops::BitOr;

use super::{
    TcpOption,
    ip::{IpPacket, protocol},
    sum::sum_between,
};
use crate::lab::Family;

/// Flags of a segment, combined with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

/// A TCP segment with its addresses, which are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it comes from, or claims to.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; present without the ACK flag, too.
    pub acknowledgement: u32,
    /// The four reserved bits beside the data offset.
    pub reserved: u8,
    /// Flags.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Options, padding left out.
    pub options: Vec<TcpOption>,
    /// Data.
    pub payload: Vec<u8>,
}

// === impl Flags ===

impl Flags {
    /// The sender is done.
    pub const FIN: Self = Self(1);
    /// Opens a connection.
    pub const SYN: Self = Self(2);
    /// Ends a connection at once.
    pub const RST: Self = Self(4);
    /// Data to be handed on.
    pub const PSH: Self = Self(8);
    /// The acknowledgement number means something.
    pub const ACK: Self = Self(16);
    /// The urgent pointer means something.
    pub const URG: Self = Self(32);
    /// ECN echo.
    pub const ECE: Self = Self(64);
    /// Congestion window reduced.
    pub const CWR: Self = Self(128);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These, as the byte of the header.
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl From<u8> for Flags {
    fn from(bits: u8) -> Self {
        Self(bits)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

// === impl Segment ===

impl Segment {
    /// A segment without options and data.
    pub fn new(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>, flags: Flags) -> Self {
        Self {
            source: source.into(),
            destination: destination.into(),
            sequence: 0,
            acknowledgement: 0,
            reserved: 0,
            flags,
            window: 64_240,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A SYN with the options that a present-day Linux sends.
    pub fn syn(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>, sequence: u32) -> Self {
        let source = source.into();
        let options = vec![
            TcpOption::MaximumSegmentSize(Family::of(source.ip()).segment_max()),
            TcpOption::SackPermitted,
            TcpOption::Timestamps(1_000_000, 0),
            TcpOption::WindowScale(7),
        ];
        Self { sequence, options, ..Self::new(source, destination, Flags::SYN) }
    }

    /// The ACK that follows a SYN+ACK, from the other side: it fills the window and, if the SYN+ACK carries one, echoes
    /// the timestamp. Add a payload to make it a first data segment.
    pub fn acknowledging(syn_ack: &Self) -> Self {
        let mut ack = Self::new(syn_ack.destination, syn_ack.source, Flags::ACK);
        ack.sequence = syn_ack.acknowledgement;
        ack.acknowledgement = syn_ack.sequence.wrapping_add(1);
        if let Some((theirs, ours)) = syn_ack.timestamps() {
            ack.options.push(TcpOption::Timestamps(ours.wrapping_add(1), theirs));
        }
        ack
    }

    /// The segment's own timestamp and the one it echoes.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        self.options.iter().find_map(|option| match option {
            TcpOption::Timestamps(value, echo) => Some((*value, *echo)),
            _ => None,
        })
    }

    /// The IP packet with the segment in it, its checksum filled in.
    ///
    /// # Panics
    /// If the options take more than 40 bytes.
    pub fn packet(&self) -> IpPacket {
        let options = TcpOption::area(&self.options);
        assert!(options.len() <= 40, "the caller's options take {} bytes", options.len());
        let mut tcp = Vec::with_capacity(20 + options.len() + self.payload.len());
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.destination.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgement.to_be_bytes());
        tcp.extend([(5 + options.len() as u8 / 4) << 4 | self.reserved, self.flags.0]);
        tcp.extend(self.window.to_be_bytes());
        // Checksum and urgent pointer.
        tcp.extend([0; 4]);
        tcp.extend(options);
        tcp.extend(&self.payload);
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let checksum = !sum_between(source, destination, protocol::TCP, &tcp);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        IpPacket::new(source, destination, protocol::TCP, tcp)
    }

    /// The packet's bytes: IP header, TCP header, data; checksums filled in.
    ///
    /// # Panics
    /// If the options take more than 40 bytes or the packet more than IP can carry.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.packet().to_bytes()
    }

    /// Reads a packet; none if it is no TCP segment or its headers are malformed. Sums are not looked at.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        Self::within(&IpPacket::parse(packet)?)
    }

    /// Reads a packet that must be right: lengths, options, sums.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verified(packet: &[u8]) -> Result<Self> {
        let packet = IpPacket::verified(packet)?;
        let segment = Self::within(&packet).with_context(|| format!("no well-formed TCP segment: {packet:02x?}"))?;
        let sum = sum_between(packet.source, packet.destination, protocol::TCP, &packet.payload);
        ensure!(sum == 0xffff, "wrong TCP checksum: {segment:?}");
        Ok(segment)
    }

    fn within(packet: &IpPacket) -> Option<Self> {
        let tcp = packet.payload.as_slice();
        if packet.protocol != protocol::TCP || tcp.len() < 20 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let number = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        Some(Self {
            source: SocketAddr::new(packet.source, word(0)),
            destination: SocketAddr::new(packet.destination, word(2)),
            sequence: number(4),
            acknowledgement: number(8),
            reserved: tcp[12] & 0xf,
            flags: Flags(tcp[13]),
            window: word(14),
            options: TcpOption::list(tcp.get(20..header)?)?,
            payload: tcp[header..].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ip::tests::two_ends;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            [source, destination] in two_ends(), numbers: [u32; 2], flags: u8, reserved in 0u8..16, window: u16,
            payload: Vec<u8>, damaged: prop::sample::Index,
        ) {
            let segment = Segment {
                sequence: numbers[0],
                acknowledgement: numbers[1],
                flags: Flags(flags),
                reserved,
                window,
                payload,
                ..Segment::syn(source, destination, 0)
            };
            let mut bytes = segment.to_bytes();
            prop_assert_eq!(Segment::parse(&bytes), Some(segment.clone()));
            prop_assert_eq!(&Segment::verified(&bytes).expect("it is right"), &segment);
            // The sums see any single damaged byte behind the IP header.
            let from = bytes.len() - segment.packet().payload.len();
            let at = from + damaged.index(bytes.len() - from);
            bytes[at] ^= 0x55;
            prop_assert!(Segment::verified(&bytes).is_err());
        }

        #[test]
        fn garbage_does_not_panic(packet: Vec<u8>) {
            let _ = Segment::parse(&packet);
        }
    }
}
