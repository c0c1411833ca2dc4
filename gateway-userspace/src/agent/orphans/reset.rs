//! Ends one TCP connection of a node that is gone, from its client's point of view: with a RST from the virtual
//! address.
//!
//! The kernel is made to send it. A socket in repair mode (`TCP_REPAIR`) takes any addresses and sequence numbers and
//! becomes a connection without a packet; closed without lingering it sends one RST, with the next sequence number.
//! That takes CAP_NET_ADMIN, which the agent has, where packets made by hand would take CAP_NET_RAW; and route,
//! checksums and IPv6 are the kernel's work.
//!
//! The sequence number is the last that the client acknowledged, which is the one it expects next (RFC 9293 section
//! 3.10.7.4 and RFC 5961 section 3.2): it ends the connection at once. The RST also carries an acknowledgement number.
//! The client's stack does not look at it; we do not know the right one and leave it at 0, which connection tracking on
//! the way takes for "none" (`tcp_in_window` in `net/netfilter/nf_conntrack_proto_tcp.c`).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    libc, setsockopt_impl, sockopt_impl,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt::{IpFreebind, Linger, ReuseAddr, TcpRepair},
    },
};

/// Repair mode on; the values are those of `include/uapi/linux/tcp.h`.
const REPAIR_ON: u32 = 1;
/// Repair mode off, without the packet that asks the other end for its window (Linux 4.18).
const REPAIR_OFF_SILENTLY: u32 = -1i32 as u32;
/// `TCP_SEND_QUEUE`, for `TCP_REPAIR_QUEUE`.
const SEND_QUEUE: u32 = 2;

sockopt_impl!(
    /// The queue that other repair options are about.
    RepairQueue,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_REPAIR_QUEUE,
    u32
);
sockopt_impl!(
    /// The sequence number of the next byte in that queue.
    QueueSequence,
    SetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_QUEUE_SEQ,
    u32
);

/// Tells `client` that its connection to `service` is over; `sequence` is what it expects next.
///
/// # Errors
/// If the kernel refuses: without CAP_NET_ADMIN, without a route, or if this host has that very connection.
pub fn send(service: SocketAddr, client: SocketAddr, sequence: u32) -> io::Result<()> {
    let family = if client.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    repaired(&socket, service, client, sequence)?;
    // Closing it, which dropping does, sends the RST: in state ESTABLISHED with a linger time of 0 (`__tcp_close` and
    // `tcp_disconnect` in `net/ipv4/tcp.c`).
    setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    setsockopt(&socket, TcpRepair, &REPAIR_OFF_SILENTLY)?;
    Ok(())
}

/// Makes the socket that connection. One that is dropped on the way is still in repair mode and says nothing.
fn repaired(socket: &OwnedFd, service: SocketAddr, client: SocketAddr, sequence: u32) -> io::Result<()> {
    // Before repair mode, which would undo it; without it a gateway that listens there would be in the way.
    setsockopt(socket, ReuseAddr, &true)?;
    // An edge need not have the virtual address.
    setsockopt(socket, IpFreebind, &true)?;
    setsockopt(socket, TcpRepair, &REPAIR_ON)?;
    setsockopt(socket, RepairQueue, &SEND_QUEUE)?;
    setsockopt(socket, QueueSequence, &sequence)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(service))?;
    // Complete at once, and nothing is sent.
    connect(socket.as_raw_fd(), &SockaddrStorage::from(client))?;
    Ok(())
}
