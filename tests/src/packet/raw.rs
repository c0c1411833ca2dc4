//! Sends packets made by hand.

use crate::lab::Host;
use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, setsockopt, socket, sockopt,
};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

/// Room for packets that wait to be sent, in bytes.
const BUFFER: usize = 4 << 20;

/// A pair of sockets on a host that send whole packets, of either family, whatever source they claim. Usable from any
/// thread.
pub struct RawSocket {
    v4: OwnedFd,
    v6: OwnedFd,
}

// === impl RawSocket ===

impl RawSocket {
    /// Opens it on a host.
    ///
    /// # Errors
    /// If the process lacks CAP_NET_RAW.
    pub fn open(host: &Host) -> Result<Self> {
        let open = |family| {
            // Of this protocol, the kernel takes the IP header from the packet.
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
                .with_context(|| format!("opening a raw socket on {}", host.name()))?;
            setsockopt(&socket, sockopt::SndBufForce, &BUFFER).context("enlarging a raw socket's buffer")?;
            anyhow::Ok(socket)
        };
        host.run(|| Ok(Self { v4: open(AddressFamily::Inet)?, v6: open(AddressFamily::Inet6)? }))
    }

    /// Sends a packet by the host's routes to the destination in its header.
    ///
    /// # Errors
    /// If it is no IP packet, is larger than the link allows, or there is no route.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        // No more is read of it than the route needs: the rest may be as broken as the test wants.
        let (socket, destination) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => (&self.v4, packet.get(16..).and_then(<[u8]>::first_chunk::<4>).map(|at| IpAddr::from(*at))),
            Some(6) => (&self.v6, packet.get(24..).and_then(<[u8]>::first_chunk::<16>).map(|at| IpAddr::from(*at))),
            _ => bail!("{} bytes are no IP packet", packet.len()),
        };
        let destination = destination.with_context(|| format!("{} bytes hold no IP header", packet.len()))?;
        let address = SockaddrStorage::from(SocketAddr::new(destination, 0));
        sendto(socket.as_raw_fd(), packet, &address, MsgFlags::empty())
            .with_context(|| format!("sending {} bytes made by hand to {destination}", packet.len()))?;
        Ok(())
    }
}
