//! Many SYNs from sources where nobody lives.

use super::{RawSocket, Segment};
use crate::lab::Family;
use crate::lab::addresses::NOBODY;
use anyhow::{Result, ensure};
use fastrand::Rng;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most SYNs that one flood sends.
const COUNT_MAX: u32 = 1_000_000;

/// A SYN flood. Its sources are in the prefixes that the lab's router discards, so nobody answers the SYN+ACKs.
#[derive(Clone, Copy, Debug)]
pub struct SynFlood {
    /// Where it goes.
    pub target: SocketAddr,
    /// How many SYNs; at most a million.
    pub count: u32,
    /// What sources, ports and sequence numbers are drawn from.
    pub seed: u64,
}

// === impl SynFlood ===

impl SynFlood {
    /// Sends all of it, as fast as it goes.
    ///
    /// # Errors
    /// If it is too large or a packet cannot be sent.
    pub fn send(&self, socket: &RawSocket) -> Result<()> {
        ensure!(self.count <= COUNT_MAX, "a flood of {} SYNs is larger than {COUNT_MAX}", self.count);
        self.segments().try_for_each(|segment| socket.send(&segment.to_bytes()))
    }

    /// The SYNs.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        let Self { target, count, seed } = *self;
        let family = Family::of(target.ip());
        let prefixes: Vec<_> = NOBODY.into_iter().filter(|(network, _)| Family::of(*network) == family).collect();
        let mut rng = Rng::with_seed(seed);
        (0..count).map(move |_| {
            let (network, bits) = *rng.choice(&prefixes).expect("there are some of either family");
            // Neither the network's own address nor, as IPv4 has it, its broadcast address.
            let host = rng.u128(1..(1 << (family.bits() - bits)) - 1);
            let address: IpAddr = match network {
                IpAddr::V4(network) => (network | Ipv4Addr::from(host as u32)).into(),
                IpAddr::V6(network) => (network | Ipv6Addr::from(host)).into(),
            };
            let source = SocketAddr::new(address, rng.u16(1024..));
            Segment::syn(source, target, rng.u32(..))
        })
    }
}
