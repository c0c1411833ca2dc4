//! Who has which address: the lab's, in either family, where one node is looked at alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    lab::{Family, addresses},
    packet::LinkAddress,
};

/// The virtual address and port of the service.
pub fn virtual_address(family: Family) -> SocketAddr {
    SocketAddr::new(addresses::VIRTUAL.of(family), 88)
}

/// A client's address. There are more of them than the lab has.
pub fn client(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(203, 0, 113, host).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, host.into()).into(),
    }
}

/// The address of the member with this number. All members are on one link.
///
/// # Panics
/// If there is no address for it: numbers run from 1 to 100 here.
pub fn node(family: Family, number: u16) -> IpAddr {
    addresses::node(usize::from(number) - 1).of(family)
}

/// How many leading bits of a node's or a client's address are those of its link.
pub fn link_prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// What clients have for a number among link-layer addresses.
pub const CLIENTS: u16 = 254;

/// The link-layer address of the node with this number, or of the [`CLIENTS`].
pub fn link(number: u16) -> LinkAddress {
    let [high, low] = number.to_be_bytes();
    // The second bit of the first byte marks the address as locally administered.
    [2, 0, 0, 0, high, low]
}

/// A link-layer address as people write it.
pub fn shown(link: LinkAddress) -> String {
    link.map(|byte| format!("{byte:02x}")).join(":")
}
