//! Sends packets made by hand.

use crate::lab::Host;
use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket, sockopt,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// A socket on a host that sends whole IPv4 packets, whatever source they claim. Usable from any thread.
pub struct RawSocket {
    socket: OwnedFd,
}

// === impl RawSocket ===

impl RawSocket {
    /// Opens it on a host.
    ///
    /// # Errors
    /// If the process lacks CAP_NET_RAW.
    pub fn open(host: &Host) -> Result<Self> {
        host.run(|| {
            // Of this protocol, the kernel takes the IP header from the packet.
            let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
                .with_context(|| format!("opening a raw socket on {}", host.name()))?;
            setsockopt(&socket, sockopt::SndBufForce, &(4 << 20)).context("enlarging a raw socket's buffer")?;
            Ok(Self { socket })
        })
    }

    /// Sends a packet by the host's routes to the destination in its header.
    ///
    /// # Errors
    /// If it is no IPv4 packet, is larger than the link allows, or there is no route.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let Some(destination) = packet.get(16..20) else { bail!("{} bytes are no IPv4 packet", packet.len()) };
        let destination = Ipv4Addr::new(destination[0], destination[1], destination[2], destination[3]);
        let address = SockaddrIn::from(std::net::SocketAddrV4::new(destination, 0));
        sendto(self.socket.as_raw_fd(), packet, &address, MsgFlags::empty())
            .with_context(|| format!("sending {} bytes made by hand to {destination}", packet.len()))?;
        Ok(())
    }
}
