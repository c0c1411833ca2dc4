//! A UDP datagram over IPv4: what tunnel packets are.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use std::net::SocketAddrV4;

/// A UDP datagram with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it comes from, or claims to.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// Data; in a tunnel packet an IP packet.
    pub payload: Vec<u8>,
}

// === impl Datagram ===

impl Datagram {
    /// The packet: IPv4 header, UDP header, data; checksums filled in.
    ///
    /// # Panics
    /// If the packet takes more than 65 535 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let builder = PacketBuilder::ipv4(self.source.ip().octets(), self.destination.ip().octets(), 64)
            .udp(self.source.port(), self.destination.port());
        let mut bytes = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut bytes, &self.payload).expect("the caller's packet fits in IPv4, and memory takes all");
        bytes
    }

    /// Reads a packet; none if it is not UDP over IPv4.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(packet).ok()?;
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
            return None;
        };
        Some(Self {
            source: SocketAddrV4::new(ip.header().source_addr(), udp.source_port()),
            destination: SocketAddrV4::new(ip.header().destination_addr(), udp.destination_port()),
            payload: udp.payload().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(addresses: [u32; 2], ports: [u16; 2], payload: Vec<u8>) {
            let [source, destination] = [0, 1].map(|side| SocketAddrV4::new(addresses[side].into(), ports[side]));
            let datagram = Datagram { source, destination, payload };
            prop_assert_eq!(Datagram::parse(&datagram.to_bytes()), Some(datagram));
        }
    }
}
