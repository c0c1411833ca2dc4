//! Rings that several tests use.

use std::net::{IpAddr, Ipv4Addr};

use super::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring, golden};

/// A ring of these identities, in this order, numbered from 1.
pub fn ring_of<S: AsRef<str>>(identities: &[S]) -> Ring {
    Ring::new(Epoch(1), Algorithm::OpenIm, members(identities)).unwrap()
}

/// The same with the other algorithm.
pub fn multiprobe<S: AsRef<str>>(identities: &[S]) -> Ring {
    Ring::new(Epoch(1), Algorithm::Multiprobe, members(identities)).unwrap()
}

/// Members of these identities, in this order, numbered from 1.
pub fn members<S: AsRef<str>>(identities: &[S]) -> Vec<Member> {
    (1u16..).zip(identities).map(|(number, identity)| member(number, identity.as_ref())).collect()
}

/// A member with an address of its own.
pub fn member(number: u16, identity: &str) -> Member {
    let [high, low] = number.to_be_bytes();
    Member {
        number: MemberNumber::new(number).unwrap(),
        identity: Identity::port_optional(identity).unwrap(),
        address: NodeAddress::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100 + high, low))).unwrap(),
        state: MemberState::Active,
    }
}

/// OpenIM's own ring of `members` gateways, as its chart names them; `suffix` is `:88` or empty.
pub fn openim(members: usize, suffix: &str) -> Ring {
    ring_of(&golden::openim_identities(members, suffix))
}
