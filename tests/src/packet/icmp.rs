//! ICMP over IP of either family (RFC 792, RFC 4443).

use std::net::IpAddr;

use super::{
    ip::IpPacket,
    sum::{sum, sum_between},
};
use crate::lab::Family;

/// An ICMP message with its addresses, which are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Where it comes from, or claims to.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: IpAddr,
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes whose meaning depends on the type.
    pub rest: [u8; 4],
    /// What follows; in an error the beginning of the packet it is about.
    pub data: Vec<u8>,
}

// === impl Icmp ===

impl Icmp {
    /// A router's word to the sender of `packet` that it is too large for the next link: "fragmentation needed"
    /// (RFC 1191 section 4), "packet too big" (RFC 4443 section 3.2). Quotes all of `packet` that it is given.
    ///
    /// # Panics
    /// If `packet` does not begin with an IP header.
    pub fn too_big(router: IpAddr, mtu: u16, packet: &[u8]) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let (kind, code) = match Family::of(router) {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        Self { rest: [0, 0, high, low], ..Self::about(router, kind, code, packet) }
    }

    /// A router's word to the sender of `packet` that its destination cannot be reached, with no particular reason.
    ///
    /// # Panics
    /// If `packet` does not begin with an IP header.
    pub fn unreachable(router: IpAddr, packet: &[u8]) -> Self {
        let kind = match Family::of(router) {
            Family::V4 => 3,
            Family::V6 => 1,
        };
        Self::about(router, kind, 0, packet)
    }

    /// A router's word to the sender of `packet` that it has travelled too far.
    ///
    /// # Panics
    /// If `packet` does not begin with an IP header.
    pub fn time_exceeded(router: IpAddr, packet: &[u8]) -> Self {
        let kind = match Family::of(router) {
            Family::V4 => 11,
            Family::V6 => 3,
        };
        Self::about(router, kind, 0, packet)
    }

    /// A ping.
    pub fn echo_request(source: IpAddr, destination: IpAddr, data: Vec<u8>) -> Self {
        let kind = match Family::of(source) {
            Family::V4 => 8,
            Family::V6 => 128,
        };
        Self { source, destination, kind, code: 0, rest: [0, 1, 0, 1], data }
    }

    /// An error about `packet`, to its sender.
    fn about(router: IpAddr, kind: u8, code: u8, packet: &[u8]) -> Self {
        let destination: Option<IpAddr> = match Family::of(router) {
            Family::V4 => packet.get(12..16).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from),
            Family::V6 => packet.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from),
        };
        let destination = destination.expect("the caller quotes a packet with its IP header");
        Self { source: router, destination, kind, code, rest: [0; 4], data: packet.to_vec() }
    }

    /// The IP packet with the message in it, its checksum filled in.
    pub fn packet(&self) -> IpPacket {
        let family = Family::of(self.source);
        let mut message = [&[self.kind, self.code, 0, 0], &self.rest[..], &self.data].concat();
        let checksum = match family {
            Family::V4 => !sum(&message),
            Family::V6 => !sum_between(self.source, self.destination, family.icmp(), &message),
        };
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        IpPacket::new(self.source, self.destination, family.icmp(), message)
    }

    /// The packet's bytes: IP header and message, checksums filled in.
    ///
    /// # Panics
    /// If it is longer than IP can carry.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.packet().to_bytes()
    }
}
