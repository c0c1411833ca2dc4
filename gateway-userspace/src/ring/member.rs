//! A node as the ring sees it.

use std::{fmt, net::IpAddr, str::FromStr};

use ringsteer_ebpf::layout::{self, node::MAX_NODES};
use serde::{Deserialize, Serialize};

use super::Identity;

/// One node of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Names it in the kernel maps and on the wire.
    pub number: MemberNumber,
    /// What is hashed.
    pub identity: Identity,
    /// Where packets go.
    pub address: NodeAddress,
    /// Whether it takes new users.
    pub state: MemberState,
}

/// Whether a member takes new users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It owns its share of the ring.
    #[default]
    Active,
    /// It is leaving: it owns nothing, and has no points, but still holds the connections it has.
    Draining,
}

/// A member's small number, from 1 to 4095. It stays with the member: growing or shrinking the ring renumbers nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u16")]
pub struct MemberNumber(u16);

/// A number that names no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no member number; numbers run from 1 to {max}", max = MAX_NODES - 1)]
pub struct MemberNumberError(i64);

/// Where tunnel packets to a member go, and come from. One spelling for each address: IPv4 is never mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress(IpAddr);

/// Why an address cannot be a node's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeAddressError {
    /// Not an IP address; names are not resolved, for the kernel could not follow a change.
    #[error("{0:?} is no IP address; write the node's own address, such as 198.51.100.11, without a port")]
    NotAnAddress(String),
    /// No single host has it.
    #[error("{0} is not the address of one host; write the node's own unicast address")]
    NotUnicast(IpAddr),
}

// === impl MemberState ===

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Draining => "draining",
        })
    }
}

// === impl MemberNumber ===

impl MemberNumber {
    /// The number `number`.
    ///
    /// # Errors
    /// If it is 0 or above 4095.
    pub fn new(number: u16) -> Result<Self, MemberNumberError> {
        Self::try_from(i64::from(number))
    }

    /// The number as such.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for MemberNumber {
    type Error = MemberNumberError;

    fn try_from(number: i64) -> Result<Self, MemberNumberError> {
        match u16::try_from(number) {
            Ok(valid) if valid >= 1 && usize::from(valid) < MAX_NODES => Ok(Self(valid)),
            _ => Err(MemberNumberError(number)),
        }
    }
}

impl From<MemberNumber> for u16 {
    fn from(number: MemberNumber) -> Self {
        number.0
    }
}

impl fmt::Display for MemberNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl NodeAddress ===

impl NodeAddress {
    /// The address `address`.
    ///
    /// # Errors
    /// If it is unspecified, multicast or broadcast.
    pub fn new(address: IpAddr) -> Result<Self, NodeAddressError> {
        let address = address.to_canonical();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err(NodeAddressError::NotUnicast(address));
        }
        Ok(Self(address))
    }

    /// The address as such.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The 16-byte form that kernel maps and tunnel use.
    pub fn to_kernel(self) -> layout::Address {
        match self.0 {
            IpAddr::V4(v4) => layout::mapped(v4.octets()),
            IpAddr::V6(v6) => v6.octets(),
        }
    }
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        Self::new(text.parse().map_err(|_| NodeAddressError::NotAnAddress(text.to_owned()))?)
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = NodeAddressError;

    fn try_from(text: String) -> Result<Self, NodeAddressError> {
        text.parse()
    }
}

impl From<NodeAddress> for String {
    fn from(address: NodeAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_the_kernel_map() {
        assert_eq!(MemberNumber::new(1).unwrap().get(), 1);
        assert_eq!(MemberNumber::new(4095).unwrap().get(), 4095);
        assert_eq!(MemberNumber::new(0), Err(MemberNumberError(0)));
        assert_eq!(MemberNumber::new(4096), Err(MemberNumberError(4096)));
        for json in ["-1", "0", "4096", "70000"] {
            let error = serde_json::from_str::<MemberNumber>(json).unwrap_err().to_string();
            assert!(error.contains("is no member number; numbers run from 1 to 4095"), "{error}");
        }
    }

    #[test]
    fn an_address_has_one_spelling() {
        let plain: NodeAddress = "198.51.100.11".parse().unwrap();
        let mapped: NodeAddress = "::ffff:198.51.100.11".parse().unwrap();
        assert_eq!(plain, mapped);
        assert_eq!(mapped.to_string(), "198.51.100.11");
        assert_eq!(mapped.to_kernel(), layout::mapped([198, 51, 100, 11]));
        assert_eq!(serde_json::to_string(&mapped).unwrap(), "\"198.51.100.11\"");
    }

    #[test]
    fn an_address_is_one_host() {
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(matches!(text.parse::<NodeAddress>(), Err(NodeAddressError::NotUnicast(_))), "{text}");
        }
        for text in ["", "gw-0", "198.51.100.11:88", "198.51.100.011"] {
            assert_eq!(text.parse::<NodeAddress>(), Err(NodeAddressError::NotAnAddress(text.into())));
        }
    }
}
