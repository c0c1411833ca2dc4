//! The IP header of a packet, of whichever family its addresses are.

use etherparse::{IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep};
use std::net::{IpAddr, SocketAddr};

/// Hops a packet may make.
const HOPS: u8 = 64;

/// Begins a packet between two addresses; IPv4 packets forbid fragments, as TCP's do.
///
/// # Panics
/// If the families differ.
pub fn between(source: SocketAddr, destination: SocketAddr) -> PacketBuilderStep<IpHeaders> {
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), HOPS)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), HOPS)
        }
        _ => panic!("{source} and {destination} are of different families"),
    }
}

/// The source and destination of a packet; none if it is not IP.
pub fn ends(net: &NetSlice<'_>) -> Option<(IpAddr, IpAddr)> {
    match net {
        NetSlice::Ipv4(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Ipv6(ip) => Some((ip.header().source_addr().into(), ip.header().destination_addr().into())),
        NetSlice::Arp(_) => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two ends of a connection, of either family.
    pub fn two_ends() -> impl Strategy<Value = [SocketAddr; 2]> {
        let v4 = any::<[([u8; 4], u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| SocketAddr::new(ip.into(), port)));
        let v6 = any::<[([u8; 16], u16); 2]>().prop_map(|ends| ends.map(|(ip, port)| SocketAddr::new(ip.into(), port)));
        v4.boxed().prop_union(v6.boxed())
    }
}
