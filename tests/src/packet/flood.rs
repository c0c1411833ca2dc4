//! Many SYNs from sources where nobody lives.

use super::{RawSocket, Segment};
use crate::lab::addresses::NOBODY;
use anyhow::{Result, ensure};
use fastrand::Rng;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The most SYNs that one flood sends.
const COUNT_MAX: u32 = 1_000_000;

/// A SYN flood. Its sources are in the prefixes that the lab's router discards, so nobody answers the SYN+ACKs.
#[derive(Clone, Copy, Debug)]
pub struct SynFlood {
    /// Where it goes.
    pub target: SocketAddrV4,
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
        let mut rng = Rng::with_seed(seed);
        (0..count).map(move |_| {
            let (network, bits) = rng.choice(NOBODY).expect("there are some");
            // Neither the network's own address nor its broadcast address.
            let host = rng.u32(1..(1 << (32 - bits)) - 1);
            let source = SocketAddrV4::new(Ipv4Addr::from(u32::from(network) | host), rng.u16(1024..));
            Segment::syn(source, target, rng.u32(..))
        })
    }
}
