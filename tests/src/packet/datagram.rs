//! A UDP datagram over IP of either family: what tunnel packets are.

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;

use super::{
    ip::{IpPacket, protocol},
    sum::sum_between,
};

/// A UDP datagram with its addresses, which are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from, or claims to.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Whether it has a checksum. Without, the field is zero (RFC 768; for tunnels over IPv6 RFC 6935).
    pub checksum: bool,
    /// Data; in a tunnel packet an IP packet.
    pub payload: Vec<u8>,
}

// === impl Datagram ===

impl Datagram {
    /// A datagram with a checksum.
    pub fn new(source: impl Into<SocketAddr>, destination: impl Into<SocketAddr>, payload: Vec<u8>) -> Self {
        Self { source: source.into(), destination: destination.into(), checksum: true, payload }
    }

    /// The IP packet with the datagram in it.
    ///
    /// # Panics
    /// If it is longer than UDP can say.
    pub fn packet(&self) -> IpPacket {
        let length = u16::try_from(8 + self.payload.len()).expect("the caller's datagram fits in UDP");
        let mut udp = Vec::with_capacity(length.into());
        udp.extend(self.source.port().to_be_bytes());
        udp.extend(self.destination.port().to_be_bytes());
        udp.extend(length.to_be_bytes());
        udp.extend([0; 2]);
        udp.extend(&self.payload);
        let (source, destination) = (self.source.ip(), self.destination.ip());
        if self.checksum {
            let checksum = match !sum_between(source, destination, protocol::UDP, &udp) {
                // Zero would say that there is none.
                0 => 0xffff,
                checksum => checksum,
            };
            udp[6..8].copy_from_slice(&u16::to_be_bytes(checksum));
        }
        IpPacket::new(source, destination, protocol::UDP, udp)
    }

    /// The packet's bytes: IP header, UDP header, data; checksums filled in.
    ///
    /// # Panics
    /// If it is longer than IP can carry.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.packet().to_bytes()
    }

    /// Reads a packet; none if it is no UDP datagram or its headers are malformed. Sums are not looked at.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        Self::within(&IpPacket::parse(packet)?)
    }

    /// Reads a packet that must be right: lengths and, as far as there are any, sums.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn verified(packet: &[u8]) -> Result<Self> {
        let packet = IpPacket::verified(packet)?;
        let datagram = Self::within(&packet).with_context(|| format!("no well-formed datagram: {packet:02x?}"))?;
        ensure!(datagram.payload.len() + 8 == packet.payload.len(), "a UDP length that is too short: {datagram:?}");
        if datagram.checksum {
            let sum = sum_between(packet.source, packet.destination, protocol::UDP, &packet.payload);
            ensure!(sum == 0xffff, "wrong UDP checksum: {datagram:?}");
        }
        Ok(datagram)
    }

    fn within(packet: &IpPacket) -> Option<Self> {
        let udp = packet.payload.as_slice();
        if packet.protocol != protocol::UDP || udp.len() < 8 {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
        Some(Self {
            source: SocketAddr::new(packet.source, word(0)),
            destination: SocketAddr::new(packet.destination, word(2)),
            checksum: word(6) != 0,
            payload: udp.get(8..word(4).into())?.to_vec(),
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
        fn what_is_written_is_read([source, destination] in two_ends(), checksum: bool, payload: Vec<u8>) {
            let datagram = Datagram { checksum, ..Datagram::new(source, destination, payload) };
            let bytes = datagram.to_bytes();
            prop_assert_eq!(Datagram::parse(&bytes), Some(datagram.clone()));
            prop_assert_eq!(Datagram::verified(&bytes).expect("it is right"), datagram);
        }

        #[test]
        fn garbage_does_not_panic(packet: Vec<u8>) {
            let _ = Datagram::parse(&packet);
        }
    }
}
