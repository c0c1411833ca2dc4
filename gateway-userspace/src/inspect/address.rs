//! Addresses as maps hold them.

use std::net::{IpAddr, Ipv6Addr};

use ringsteer_ebpf::layout::Address;

/// An address as maps hold it.
pub fn mapped(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map holds.
pub fn unmapped(address: &Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*address)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_into_the_maps_and_come_back() {
        for text in ["203.0.113.9", "2001:db8::9"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(unmapped(&mapped(address)), address);
        }
        assert_eq!(mapped("203.0.113.9".parse().unwrap()), ringsteer_ebpf::layout::mapped([203, 0, 113, 9]));
    }
}
