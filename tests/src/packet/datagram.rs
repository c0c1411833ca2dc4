//! A UDP datagram: what tunnel packets are.

use super::ip;
use etherparse::{SlicedPacket, TransportSlice};
use std::net::SocketAddr;

/// A UDP datagram with its addresses, both of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from, or claims to.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// Data; in a tunnel packet an IP packet.
    pub payload: Vec<u8>,
}

// === impl Datagram ===

impl Datagram {
    /// The packet: IP header, UDP header, data; checksums filled in.
    ///
    /// # Panics
    /// If the packet takes more than 65 535 bytes, or the families of its addresses differ.
    pub fn to_bytes(&self) -> Vec<u8> {
        let builder = ip::between(self.source, self.destination).udp(self.source.port(), self.destination.port());
        let mut bytes = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut bytes, &self.payload).expect("the caller's packet fits in IP, and memory takes all");
        bytes
    }

    /// Reads a packet; none if it is not UDP over IP. Checksums are not looked at.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let Some(TransportSlice::Udp(udp)) = &sliced.transport else { return None };
        let (source, destination) = ip::ends(sliced.net.as_ref()?)?;
        Some(Self {
            source: SocketAddr::new(source, udp.source_port()),
            destination: SocketAddr::new(destination, udp.destination_port()),
            payload: udp.payload().to_vec(),
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
        fn what_is_written_is_read([source, destination] in two_ends(), payload: Vec<u8>) {
            let datagram = Datagram { source, destination, payload };
            prop_assert_eq!(Datagram::parse(&datagram.to_bytes()), Some(datagram));
        }
    }
}
