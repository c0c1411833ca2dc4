//! Who has which address. All of them come from the ranges reserved for documentation (RFC 5737).

use std::net::Ipv4Addr;

/// The virtual address: on `lo` of every node, announced by none of them.
pub const VIRTUAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The router on the side of the fleet, 198.51.100.0/24.
pub const ROUTER_FLEET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The router on the side of the clients, 203.0.113.0/24: the same address on each of its client links.
pub const ROUTER_CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The pusher: a client host like the others.
pub const PUSHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// Nodes a lab can have.
pub const NODES_MAX: usize = 100;

/// Client hosts a lab can have.
pub const CLIENTS_MAX: usize = 50;

/// The prefixes that the router discards: nobody lives there, so a SYN+ACK sent to a forged source vanishes as it
/// does in the Internet, without an ICMP error or a reset.
pub const NOBODY: [(Ipv4Addr, u8); 2] = [(Ipv4Addr::new(203, 0, 113, 128), 25), (Ipv4Addr::new(192, 0, 2, 128), 25)];

/// The address of a node.
pub fn node(index: usize) -> Ipv4Addr {
    assert!(index < NODES_MAX);
    Ipv4Addr::new(198, 51, 100, 11 + index as u8)
}

/// The address of a client host.
pub fn client(index: usize) -> Ipv4Addr {
    assert!(index < CLIENTS_MAX);
    Ipv4Addr::new(203, 0, 113, 10 + index as u8)
}

/// The address that is routed to the host with `address` but that its kernel does not know: packets made by hand use
/// it, and no kernel answers their SYN+ACK with a reset. Clients and the pusher have one.
pub fn spare(address: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    assert_eq!([a, b, c], [203, 0, 113]);
    Ipv4Addr::new(a, b, c, d + 64)
}

/// The link address of the interface with `address`; `side` 0 is the host's end of the link, 1 the router's.
pub fn link_address(address: Ipv4Addr, side: u8) -> String {
    let [a, b, c, d] = address.octets();
    // The second bit of the first byte marks the address as locally administered.
    format!("02:{:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}", side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_address_is_given_twice() {
        let mut taken: HashSet<Ipv4Addr> = [VIRTUAL, ROUTER_FLEET, ROUTER_CLIENT, PUSHER, spare(PUSHER)].into();
        let mut count = taken.len();
        assert_eq!(count, 5);
        for index in 0..NODES_MAX {
            taken.insert(node(index));
            count += 1;
        }
        for index in 0..CLIENTS_MAX {
            taken.insert(client(index));
            taken.insert(spare(client(index)));
            count += 2;
        }
        assert_eq!(taken.len(), count);
        for address in taken {
            for (network, bits) in NOBODY {
                let mask = u32::MAX << (32 - bits);
                assert_ne!(u32::from(address) & mask, u32::from(network), "{address} would be discarded");
            }
        }
    }
}
