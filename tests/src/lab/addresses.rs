//! Who has which address. All of them come from the ranges reserved for documentation (RFC 5737, RFC 3849).
//!
//! Each host has one of either family, and the last parts go together: 198.51.100.11 is 2001:db8:51::11, spelled the
//! same to a reader's eye.

use super::Family;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The two addresses of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The IPv4 one.
    pub v4: Ipv4Addr,
    /// The IPv6 one.
    pub v6: Ipv6Addr,
}

/// The virtual addresses: on `lo` of every node, announced by none of them.
pub const VIRTUAL: Addresses = Network::Virtual.host(1);

/// The router on the side of the fleet.
pub const ROUTER_FLEET: Addresses = Network::Fleet.host(1);

/// The router on the side of the clients: the same addresses on each of its client links.
pub const ROUTER_CLIENT: Addresses = Network::Clients.host(1);

/// The pusher: a client host like the others.
pub const PUSHER: Addresses = Network::Clients.host(2);

/// Store hosts a lab can have.
pub const STORES_MAX: usize = 8;

/// Nodes a lab can have.
pub const NODES_MAX: usize = 100;

/// Client hosts a lab can have.
pub const CLIENTS_MAX: usize = 50;

/// The prefixes that the router discards: nobody lives there, so a SYN+ACK sent to a forged source vanishes as it
/// does in the Internet, without an ICMP error or a reset.
pub const NOBODY: [(IpAddr, u8); 3] = [
    (IpAddr::V4(Ipv4Addr::new(203, 0, 113, 128)), 25),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 128)), 25),
    (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 0)), 48),
];

/// The networks of a lab.
#[derive(Clone, Copy)]
enum Network {
    /// 192.0.2.0/24, 2001:db8:2::/64.
    Virtual,
    /// 198.51.100.0/24, 2001:db8:51::/64.
    Fleet,
    /// 203.0.113.0/24, 2001:db8:113::/64.
    Clients,
}

/// The addresses of a store host, on the fleet's network.
pub fn store(index: usize) -> Addresses {
    assert!(index < STORES_MAX);
    Network::Fleet.host(2 + index as u8)
}

/// The addresses of a node.
pub fn node(index: usize) -> Addresses {
    assert!(index < NODES_MAX);
    Network::Fleet.host(11 + index as u8)
}

/// The addresses of a client host.
pub fn client(index: usize) -> Addresses {
    assert!(index < CLIENTS_MAX);
    Network::Clients.host(10 + index as u8)
}

/// The addresses that are routed to the host with `addresses` but that its kernel does not know: packets made by hand
/// use them, and no kernel answers their SYN+ACK with a reset. Clients and the pusher have them.
pub fn spare(addresses: Addresses) -> Addresses {
    let host = addresses.host();
    assert_eq!(addresses, Network::Clients.host(host));
    Network::Clients.host(host + 64)
}

/// The link address of the interface with `addresses`; `side` 0 is the host's end of the link, 1 the router's.
pub fn link_address(addresses: Addresses, side: u8) -> String {
    let [a, b, c, d] = addresses.v4.octets();
    // The second bit of the first byte marks the address as locally administered.
    format!("02:{:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}", side)
}

// === impl Addresses ===

impl Addresses {
    /// The one of this family.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// Both.
    pub fn each(self) -> [IpAddr; 2] {
        Family::ALL.map(|family| self.of(family))
    }

    /// What tells hosts of a network apart.
    pub fn host(self) -> u8 {
        self.v4.octets()[3]
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.v4, self.v6)
    }
}

// === impl Network ===

impl Network {
    const fn host(self, host: u8) -> Addresses {
        let ([a, b, c], network) = match self {
            Self::Virtual => ([192, 0, 2], 0x2),
            Self::Fleet => ([198, 51, 100], 0x51),
            Self::Clients => ([203, 0, 113], 0x113),
        };
        // The decimal digits of `host`, read as hexadecimal ones.
        let digits = (host / 100) as u16 * 0x100 + (host / 10 % 10) as u16 * 0x10 + (host % 10) as u16;
        Addresses { v4: Ipv4Addr::new(a, b, c, host), v6: Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, digits) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn covers(network: IpAddr, bits: u8, address: IpAddr) -> bool {
        match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                network == Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - bits)))
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                network == Ipv6Addr::from(u128::from(address) & (u128::MAX << (128 - bits)))
            }
            _ => false,
        }
    }

    #[test]
    fn no_address_is_given_twice() {
        let mut all = vec![VIRTUAL, ROUTER_FLEET, ROUTER_CLIENT, PUSHER, spare(PUSHER)];
        all.extend((0..STORES_MAX).map(store));
        all.extend((0..NODES_MAX).map(node));
        all.extend((0..CLIENTS_MAX).flat_map(|index| [client(index), spare(client(index))]));
        let taken: HashSet<IpAddr> = all.iter().flat_map(|addresses| addresses.each()).collect();
        assert_eq!(taken.len(), 2 * all.len());
        for address in taken {
            for (network, bits) in NOBODY {
                assert!(!covers(network, bits, address), "{address} would be discarded");
            }
        }
    }

    #[test]
    fn both_families_spell_a_host_alike() {
        assert_eq!(node(0).to_string(), "198.51.100.11 2001:db8:51::11");
        assert_eq!(node(99).to_string(), "198.51.100.110 2001:db8:51::110");
        assert_eq!(spare(client(49)).to_string(), "203.0.113.123 2001:db8:113::123");
    }
}
