//! A TCP segment over IP.

use super::ip;
use crate::lab::Family;
use etherparse::{SlicedPacket, TcpHeader, TcpOptionElement, TransportSlice};
use std::net::SocketAddr;
use std::ops::BitOr;

/// Flags of a segment, combined with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u8);

/// A TCP segment with its addresses, both of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it comes from, or claims to.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; present without the ACK flag, too.
    pub acknowledgment: u32,
    /// Flags.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Options, padding left out.
    pub options: Vec<TcpOptionElement>,
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
    /// The acknowledgment number means something.
    pub const ACK: Self = Self(16);
    /// ECN echo.
    pub const ECE: Self = Self(64);
    /// Congestion window reduced.
    pub const CWR: Self = Self(128);

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
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
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: Flags) -> Self {
        Self {
            source,
            destination,
            sequence: 0,
            acknowledgment: 0,
            flags,
            window: 64_240,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A SYN with the options that a present-day Linux sends.
    pub fn syn(source: SocketAddr, destination: SocketAddr, sequence: u32) -> Self {
        let options = vec![
            TcpOptionElement::MaximumSegmentSize(Family::of(source.ip()).segment_max()),
            TcpOptionElement::SelectiveAcknowledgementPermitted,
            TcpOptionElement::Timestamp(1_000_000, 0),
            TcpOptionElement::WindowScale(7),
        ];
        Self { sequence, options, ..Self::new(source, destination, Flags::SYN) }
    }

    /// The ACK that follows a SYN+ACK, from the other side: it fills the window and, if the SYN+ACK carries one, echoes
    /// the timestamp. Add a payload to make it a first data segment.
    pub fn acknowledging(syn_ack: &Self) -> Self {
        let mut ack = Self::new(syn_ack.destination, syn_ack.source, Flags::ACK);
        ack.sequence = syn_ack.acknowledgment;
        ack.acknowledgment = syn_ack.sequence.wrapping_add(1);
        if let Some((theirs, ours)) = syn_ack.timestamps() {
            ack.options.push(TcpOptionElement::Timestamp(ours.wrapping_add(1), theirs));
        }
        ack
    }

    /// The segment's own timestamp and the one it echoes.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        self.options.iter().find_map(|option| match option {
            TcpOptionElement::Timestamp(value, echo) => Some((*value, *echo)),
            _ => None,
        })
    }

    /// The packet: IP header, TCP header, data; checksums filled in.
    ///
    /// # Panics
    /// If the options take more than 40 bytes or the packet more than 65 535, or the families of its addresses differ.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.source.port(), self.destination.port(), self.sequence, self.window);
        tcp.acknowledgment_number = self.acknowledgment;
        tcp.fin = self.flags.contains(Flags::FIN);
        tcp.syn = self.flags.contains(Flags::SYN);
        tcp.rst = self.flags.contains(Flags::RST);
        tcp.psh = self.flags.contains(Flags::PSH);
        tcp.ack = self.flags.contains(Flags::ACK);
        tcp.ece = self.flags.contains(Flags::ECE);
        tcp.cwr = self.flags.contains(Flags::CWR);
        tcp.set_options(&self.options).expect("the caller's options take at most 40 bytes");

        let builder = ip::between(self.source, self.destination).tcp_header(tcp);
        let mut bytes = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut bytes, &self.payload).expect("the caller's packet fits in IP, and memory takes all");
        bytes
    }

    /// Reads a packet; none if it is not TCP over IP or its options are malformed. Checksums are not looked at.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        let (source, destination) = ip::ends(sliced.net.as_ref()?)?;
        let flags = [
            (tcp.fin(), Flags::FIN),
            (tcp.syn(), Flags::SYN),
            (tcp.rst(), Flags::RST),
            (tcp.psh(), Flags::PSH),
            (tcp.ack(), Flags::ACK),
            (tcp.ece(), Flags::ECE),
            (tcp.cwr(), Flags::CWR),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set).fold(Flags::default(), |all, (_, flag)| all | flag);
        let options = tcp.options_iterator().filter(|option| !matches!(option, Ok(TcpOptionElement::Noop)));
        Some(Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.acknowledgment_number(),
            flags,
            window: tcp.window_size(),
            options: options.collect::<Result<_, _>>().ok()?,
            payload: tcp.payload().to_vec(),
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
            [source, destination] in two_ends(), numbers: [u32; 2], flags: u8, window: u16, payload: Vec<u8>,
        ) {
            let segment = Segment {
                sequence: numbers[0],
                acknowledgment: numbers[1],
                // URG (32) is the one flag we have no use for.
                flags: Flags(flags & !32),
                window,
                payload,
                ..Segment::syn(source, destination, 0)
            };
            prop_assert_eq!(Segment::parse(&segment.to_bytes()), Some(segment));
        }

        #[test]
        fn garbage_does_not_panic(packet: Vec<u8>) {
            let _ = Segment::parse(&packet);
        }
    }
}
