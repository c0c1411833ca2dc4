//! Putting a connection in.
//!
//! The order is the kernel's: reuse of the address before repair mode, which overwrites it; sequence numbers while the
//! socket is closed; the MSS before it connects, or segments stay small for good; options while nothing was sent;
//! windows when the queues are full. Connecting in repair mode sends nothing and is complete at once.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use libc::{IPPROTO_TCP, SOL_SOCKET, c_int};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, send, socket},
};

use crate::{
    dump::{Dump, Settings},
    error::{Error, at},
    sys::{self, RepairOption, option, queue, repair},
    take::{no_right, select, sequence},
};

/// Bytes that a queue's buffer has beyond twice what has to fit; the kernel counts what it needs for itself, too.
const BUFFER_SPARE: usize = 256 << 10;

/// Bytes given to a queue at once: what the kernel puts into one buffer of its own.
const CHUNK: usize = 32 << 10;

/// A connection that was put in: silent and deaf until it is activated. Dropping it drops it silently.
#[derive(Debug)]
pub struct Put {
    socket: OwnedFd,
    settings: Settings,
    unsent: Vec<u8>,
}

/// A connection that lives again.
#[derive(Debug)]
pub struct Live {
    /// The connection, not blocking.
    pub socket: OwnedFd,
    /// What must be written to it before anything else: the end of what had been written before and did not fit.
    /// Usually nothing.
    pub unsent: Vec<u8>,
}

/// Makes a socket that is the connection of a dump. Nothing is sent, and nothing is taken in.
///
/// # Errors
/// If the dump is none, or this host cannot have the connection. Nothing is left of it then.
pub fn put_in(dump: &Dump) -> Result<Put, Error> {
    dump.check()?;
    let family = if dump.local.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
        .map_err(at("making a socket"))?;
    let (sent, unsent) = dump.send.bytes.split_at(dump.send.bytes.len() - dump.send.unsent as usize);
    connected(socket.as_fd(), dump, sent.len())?;
    negotiated(socket.as_fd(), dump)?;
    fill(socket.as_fd(), queue::RECEIVE, &dump.receive.bytes)?;
    fill(socket.as_fd(), queue::SEND, sent)?;
    let window = &dump.window;
    let windows = [window.send_told_at, window.send, window.send_largest, window.receive, window.receive_told_at];
    sys::set(socket.as_fd(), IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &[windows]).map_err(at("setting the windows"))?;
    set(socket.as_fd(), &dump.settings, dump.local.is_ipv4())?;
    verified(socket.as_fd(), dump)?;
    Ok(Put { socket, settings: dump.settings.clone(), unsent: unsent.to_vec() })
}

// === impl Put ===

impl Put {
    /// The connection lives: it takes in and sends from here on. Nobody else may have it any more.
    ///
    /// # Errors
    /// If the kernel refuses, which it has no reason to. The connection is dropped silently then.
    pub fn activate(self) -> Result<Live, Error> {
        let Self { socket, settings, unsent } = self;
        sys::let_in(socket.as_fd()).map_err(at("opening the socket"))?;
        // It asks the other end for its window, whose answer also acknowledges what it has.
        sys::set(socket.as_fd(), IPPROTO_TCP, libc::TCP_REPAIR, &[repair::OFF])
            .map_err(no_right("leaving repair mode"))?;
        // Leaving repair mode took it away, and a socket without it would be in a listener's way that starts later.
        sys::set(socket.as_fd(), SOL_SOCKET, libc::SO_REUSEADDR, &[1 as c_int]).map_err(at("setting SO_REUSEADDR"))?;
        let sent = write(socket.as_fd(), &unsent);
        buffers(socket.as_fd(), &settings)?;
        Ok(Live { unsent: unsent[sent..].to_vec(), socket })
    }
}

impl AsFd for Put {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes the socket the connection, as far as addresses and sequence numbers go.
fn connected(socket: BorrowedFd<'_>, dump: &Dump, sent: usize) -> Result<(), Error> {
    let &Dump { local, peer, .. } = dump;
    sys::set(socket, SOL_SOCKET, libc::SO_REUSEADDR, &[1 as c_int]).map_err(at("setting SO_REUSEADDR"))?;
    sys::shut_off(socket).map_err(at("shutting the socket off"))?;
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR, &[repair::ON]).map_err(no_right("entering repair mode"))?;
    for (name, buffer, bytes) in [
        (libc::SO_SNDBUFFORCE, dump.settings.send_buffer, dump.send.bytes.len()),
        (libc::SO_RCVBUFFORCE, dump.settings.receive_buffer, dump.receive.bytes.len()),
    ] {
        force(socket, name, (buffer as usize).max(2 * bytes + BUFFER_SPARE))?;
    }
    for (queue, next, bytes) in [
        (queue::RECEIVE, dump.receive.next, dump.receive.bytes.len()),
        // What was never sent has no numbers yet.
        (queue::SEND, dump.send.next.wrapping_sub(dump.send.unsent), sent),
    ] {
        select(socket, queue)?;
        sys::set(socket, IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &[next.wrapping_sub(bytes as u32)])
            .map_err(at("setting a sequence number"))?;
    }
    select(socket, queue::NONE)?;
    sys::set(socket, IPPROTO_TCP, libc::TCP_MAXSEG, &[dump.options.mss]).map_err(at("setting the MSS"))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(local)).map_err(|errno| match errno {
        Errno::EADDRNOTAVAIL => Error::NoAddress(local),
        errno => taken(errno, local, peer, "binding the socket"),
    })?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(peer))
        .map_err(|errno| taken(errno, local, peer, "connecting the socket"))
}

fn taken(errno: Errno, local: SocketAddr, peer: SocketAddr, step: &'static str) -> Error {
    match errno {
        Errno::EADDRINUSE | Errno::EADDRNOTAVAIL => Error::Taken { local, peer },
        errno => Error::Kernel { step, source: errno.into() },
    }
}

/// What the two ends agreed on.
fn negotiated(socket: BorrowedFd<'_>, dump: &Dump) -> Result<(), Error> {
    let options = &dump.options;
    let of = |kind, value| RepairOption { kind, value };
    // The scales always: what the kernel has chosen for a new connection would be used otherwise, though the other end
    // never heard of it. Scales of 0 are the same as none.
    let mut list = vec![of(option::WINDOW, u32::from(options.receive_scale) << 16 | u32::from(options.send_scale))];
    if options.sack {
        list.push(of(option::SACK, 0));
    }
    if options.timestamps {
        list.push(of(option::TIMESTAMP, 0));
    }
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &list).map_err(at("setting the options"))?;
    sys::set(socket, IPPROTO_TCP, libc::TCP_TIMESTAMP, &[clock(dump.timestamp)])
        .map_err(at("setting the timestamp clock"))
}

/// Where the timestamp clock goes on.
///
/// The kernel gives a clock of milliseconds without its lowest bit, which tells it from one of microseconds. A segment
/// sent in the same millisecond may have had that bit, and one that carries less is dropped as old (RFC 7323 section
/// 5.2). So it goes on a little later.
fn clock(dumped: u32) -> u32 {
    if dumped & 1 == 0 { dumped.wrapping_add(2) } else { dumped }
}

/// Puts bytes into a queue.
fn fill(socket: BorrowedFd<'_>, queue: c_int, bytes: &[u8]) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    select(socket, queue)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match send(socket.as_raw_fd(), &rest[..rest.len().min(CHUNK)], MsgFlags::MSG_DONTWAIT) {
            Ok(taken) => rest = &rest[taken..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Kernel { step: "filling a queue", source: errno.into() }),
        }
    }
    select(socket, queue::NONE)
}

/// Writes as much as goes, and gives its length. An error of the connection shows to whoever writes next.
fn write(socket: BorrowedFd<'_>, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match send(socket.as_raw_fd(), &bytes[written..], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(taken) => written += taken,
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    written
}

/// The socket options.
fn set(socket: BorrowedFd<'_>, settings: &Settings, ipv4: bool) -> Result<(), Error> {
    let class = if ipv4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
    for (level, name, value) in [
        (IPPROTO_TCP, libc::TCP_NODELAY, settings.no_delay.into()),
        (IPPROTO_TCP, libc::TCP_KEEPIDLE, settings.keepalive_idle_s),
        (IPPROTO_TCP, libc::TCP_KEEPINTVL, settings.keepalive_interval_s),
        (IPPROTO_TCP, libc::TCP_KEEPCNT, settings.keepalive_probes),
        (IPPROTO_TCP, libc::TCP_USER_TIMEOUT, settings.user_timeout_ms),
        (IPPROTO_TCP, sys::TCP_NOTSENT_LOWAT, settings.unsent_low_water),
        (SOL_SOCKET, libc::SO_KEEPALIVE, settings.keepalive.into()),
        (class.0, class.1, settings.traffic_class),
    ] {
        sys::set(socket, level, name, &[value]).map_err(at("setting the socket's options"))?;
    }
    match sys::set_text(socket, IPPROTO_TCP, libc::TCP_CONGESTION, &settings.congestion_control) {
        // Another kernel may be built without it, and the connection is worth more.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(at("setting the socket's congestion control")),
    }
}

/// Brings the buffers back from what filling them took, if they were fixed; otherwise the kernel goes on adapting them.
fn buffers(socket: BorrowedFd<'_>, settings: &Settings) -> Result<(), Error> {
    for (bit, name, buffer) in
        [(1, libc::SO_SNDBUFFORCE, settings.send_buffer), (2, libc::SO_RCVBUFFORCE, settings.receive_buffer)]
    {
        if settings.buffers_fixed & bit != 0 {
            force(socket, name, buffer as usize)?;
        }
    }
    sys::set(socket, SOL_SOCKET, sys::SO_BUF_LOCK, &[settings.buffers_fixed & 3])
        .map_err(at("letting the kernel adapt the buffers"))
}

/// Sets a buffer to so many bytes, as the kernel counts them: twice what it is told.
fn force(socket: BorrowedFd<'_>, name: c_int, bytes: usize) -> Result<(), Error> {
    let half = c_int::try_from(bytes / 2).unwrap_or(c_int::MAX);
    sys::set(socket, SOL_SOCKET, name, &[half]).map_err(no_right("setting a buffer"))
}

/// Whether the kernel has the connection that it was given.
fn verified(socket: BorrowedFd<'_>, dump: &Dump) -> Result<(), Error> {
    let queued = |question| sys::queued(socket, question).map_err(at("asking for the length of a queue"));
    let sent = dump.send.bytes.len() - dump.send.unsent as usize;
    let right = sequence(socket, queue::RECEIVE)? == dump.receive.next
        && sequence(socket, queue::SEND)? == dump.send.next.wrapping_sub(dump.send.unsent)
        && queued(sys::SIOCINQ)? == dump.receive.bytes.len()
        && queued(sys::SIOCOUTQ)? == sent
        && queued(sys::SIOCOUTQNSD)? == 0;
    if right { Ok(()) } else { Err(Error::BadDump("the kernel made another connection of it")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_clock_never_goes_back() {
        // The last segment may have carried 4713; a clock of microseconds has the bit set.
        assert!(clock(4712) > 4713);
        assert_eq!(clock(4712) & 1, 0);
        assert_eq!(clock(4713), 4713);
        assert_eq!(clock(u32::MAX - 1), 0);
    }
}
