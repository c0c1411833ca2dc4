//! Taking a connection out.
//!
//! A socket in repair mode still receives and acknowledges, and what it acknowledged after it was read would be lost.
//! So it is shut off first. It also still sends what waits for its turn, which the new socket would not know to have been
//! sent; so the other end's window is closed for it. What was past these points by then shows in sequence numbers and
//! windows, which are read again at the end, and once more before the socket is given up: a segment that another processor
//! was just taking in may come that late, and may open the window again.
//!
//! A socket that was given up stays where it is for a while, deaf. What had arrived before its packets were kept back may
//! still lie in a queue of the host (GRO, a softirq that has to wait for its processor), and without a socket the host
//! would answer it with a RST.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use libc::{IPPROTO_TCP, SOL_SOCKET, c_int};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, SockaddrStorage, getpeername, getsockname, recv},
};

use crate::{
    dump::{Dump, Options, ReceiveQueue, SendQueue, Settings, Window, within},
    error::{Error, at},
    sys::{self, queue, repair},
};

/// How often a connection is read again because something had still arrived.
const ATTEMPTS: u32 = 8;

/// TCP_ESTABLISHED (`net/tcp_states.h`).
const ESTABLISHED: u8 = 1;

/// What the kernel may show of the send queue beyond what is not acknowledged: a segment that is acknowledged in part
/// stays whole, and no segment is longer.
const SEGMENT_MAX: usize = 1 << 16;

/// A connection that was taken out: the socket is silent and deaf, and can be resumed or given up.
///
/// Merely dropping this gives the connection up at once, as silently as [`give_up`](Self::give_up), without the check.
#[derive(Debug)]
pub struct Taken {
    socket: OwnedFd,
    /// How it was when it was read.
    position: Position,
    before: Before,
    first_acknowledged: u32,
}

/// A connection that could not be taken out, or not be taken up again. It is as it was, as far as that could be done.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The connection.
    pub socket: OwnedFd,
    /// Why.
    pub error: Error,
}

/// What is left of a connection that was given up: a socket that ignores what still arrives for it, which this host would
/// answer with a RST otherwise. Kept until nothing can be on its way through the host any more, and dropped silently then.
///
/// While it is there the connection cannot be put in again on this host. What had been sent and was not acknowledged may
/// be sent again by the kernel meanwhile, after its timeout; the other end takes that for the duplicate that it is.
#[derive(Debug)]
pub struct GivenUp {
    socket: OwnedFd,
}

/// A connection that was not given up.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Kept {
    /// The connection, still taken out.
    pub taken: Box<Taken>,
    /// Why.
    pub error: Error,
}

/// What has to be as it was if the connection is taken up again.
#[derive(Debug)]
struct Before {
    /// `SO_REUSEADDR`, which repair mode overwrites.
    reuse: c_int,
    /// `TCP_REPAIR_WINDOW`, once the window is closed.
    windows: Option<Windows>,
}

/// `struct tcp_repair_window`, taken as five numbers.
type Windows = [u32; 5];

/// Where a connection is. It has moved on if and only if this has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    state: u8,
    /// Sequence number of the next byte to be received, and bytes received but not read.
    receive: (u32, usize),
    /// Sequence number of the next byte to be written, bytes not acknowledged, bytes never sent.
    send: (u32, usize, usize),
    /// The other end's window, which is closed; anything that is taken in would open it. Not ours: that is told anew with
    /// everything that is sent, and a retransmission may still be.
    window: [u32; 3],
}

/// Takes a connection out: it falls silent, and what it is stands in the dump. Its packets must be kept back already,
/// for nothing answers them from here on.
///
/// Any filter that the application had attached to the socket is gone afterwards.
///
/// # Errors
/// If it cannot be taken out; the connection goes on then.
pub fn take_out(socket: OwnedFd) -> Result<(Taken, Dump), Refused> {
    let mut before = match movable(socket.as_fd()) {
        Ok(reuse) => Before { reuse, windows: None },
        Err(error) => return Err(Refused { socket, error }),
    };
    let read = |before: &mut Before| {
        silenced(socket.as_fd())?;
        let (position, dump) = read(socket.as_fd(), before)?;
        Ok((first_acknowledged(socket.as_fd(), &position)?, position, dump))
    };
    match read(&mut before) {
        Ok((first_acknowledged, position, dump)) => Ok((Taken { socket, position, before, first_acknowledged }, dump)),
        Err(error) => {
            // What failed is worth more than what might fail now.
            let _ = revived(socket.as_fd(), &before);
            Err(Refused { socket, error })
        }
    }
}

// === impl Taken ===

impl Taken {
    /// Goes on with the connection as if nothing had been.
    ///
    /// # Errors
    /// If the kernel refuses, which it has no reason to.
    pub fn resume(self) -> Result<OwnedFd, Refused> {
        match revived(self.socket.as_fd(), &self.before) {
            Ok(()) => Ok(self.socket),
            Err(error) => Err(Refused { socket: self.socket, error }),
        }
    }

    /// The sequence number of the first byte that this socket sent, or would have sent: what the other end acknowledged
    /// first. It tells the connection from others between the same ends, as long as it is in the socket it began in; in one
    /// that it was put into later, this is where that one went on.
    pub fn first_acknowledged(&self) -> u32 {
        self.first_acknowledged
    }

    /// Whether it is still what was dumped: to be asked before somebody else is told that it is theirs.
    ///
    /// # Errors
    /// If it has moved on since.
    pub fn unchanged(&self) -> Result<(), Error> {
        if position(self.socket.as_fd())? == self.position { Ok(()) } else { Err(Error::Changed) }
    }

    /// Gives the connection up without a word to the other end.
    ///
    /// # Errors
    /// If it has moved on since the dump, which is then not true any more. Whoever has it must not use it.
    pub fn give_up(self) -> Result<GivenUp, Kept> {
        match self.unchanged() {
            Ok(()) => Ok(GivenUp { socket: self.socket }),
            Err(error) => Err(Kept { taken: Box::new(self), error }),
        }
    }
}

impl AsFd for Taken {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

// === impl GivenUp ===

impl Drop for GivenUp {
    fn drop(&mut self) {
        // Whoever else may have the descriptor: a child that is about to be another program, say. The kernel has no
        // reason to refuse, and closing the descriptor is as silent.
        let _ = sys::disconnect(self.socket.as_fd());
    }
}

/// Whether this is a connection that can be moved; gives its `SO_REUSEADDR`.
fn movable(socket: BorrowedFd<'_>) -> Result<c_int, Error> {
    let protocol: c_int = sys::get(socket, SOL_SOCKET, libc::SO_PROTOCOL).map_err(at("asking for the protocol"))?;
    let domain: c_int = sys::get(socket, SOL_SOCKET, libc::SO_DOMAIN).map_err(at("asking for the family"))?;
    if protocol != IPPROTO_TCP || !matches!(domain, libc::AF_INET | libc::AF_INET6) {
        return Err(Error::NotTcp);
    }
    established(socket)?;
    let (_, layered) = sys::get_bytes::<16>(socket, IPPROTO_TCP, sys::TCP_ULP).map_err(at("asking for a layer"))?;
    if layered > 0 {
        return Err(Error::Layered);
    }
    sys::get(socket, SOL_SOCKET, libc::SO_REUSEADDR).map_err(at("reading SO_REUSEADDR"))
}

/// The first bytes of `struct tcp_info`, of a connection that is established.
fn established(socket: BorrowedFd<'_>) -> Result<[u8; 8], Error> {
    let (info, _) = sys::get_bytes::<8>(socket, IPPROTO_TCP, libc::TCP_INFO).map_err(at("asking for the state"))?;
    if info[0] == ESTABLISHED { Ok(info) } else { Err(Error::NotEstablished { state: info[0] }) }
}

/// Deaf first, then in repair mode.
fn silenced(socket: BorrowedFd<'_>) -> Result<(), Error> {
    sys::shut_off(socket).map_err(at("shutting the socket off"))?;
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR, &[repair::ON]).map_err(no_right("entering repair mode"))
}

/// Nothing to send from here on: the other end's window is closed. Gives the windows as they were.
fn closed(socket: BorrowedFd<'_>) -> Result<Windows, Error> {
    let open = windows(socket)?;
    let mut closed = open;
    closed[sys::SEND_WINDOW] = 0;
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &[closed]).map_err(at("closing the window"))?;
    Ok(open)
}

fn windows(socket: BorrowedFd<'_>) -> Result<Windows, Error> {
    sys::get(socket, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW).map_err(at("reading the windows"))
}

/// Undoes that, however far it got.
fn revived(socket: BorrowedFd<'_>, before: &Before) -> Result<(), Error> {
    if let Some(open) = before.windows {
        let mut windows = windows(socket)?;
        // What was taken in meanwhile has opened it already.
        if windows[sys::SEND_WINDOW] == 0 {
            windows[sys::SEND_WINDOW] = open[sys::SEND_WINDOW];
            sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &[windows])
                .map_err(at("opening the window again"))?;
        }
    }
    match sys::let_in(socket) {
        // There was none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => other.map_err(at("opening the socket again"))?,
    }
    // Its probe has the other end tell how far it is: what was dropped meanwhile is made good sooner.
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR, &[repair::OFF]).map_err(no_right("leaving repair mode"))?;
    sys::set(socket, SOL_SOCKET, libc::SO_REUSEADDR, &[before.reuse]).map_err(at("restoring SO_REUSEADDR"))
}

pub(crate) fn no_right(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.raw_os_error() {
        Some(libc::EPERM) => Error::NoRight,
        _ => Error::Kernel { step, source },
    }
}

/// Closes the window and reads the connection, and that until it has not moved meanwhile.
fn read(socket: BorrowedFd<'_>, before: &mut Before) -> Result<(Position, Dump), Error> {
    for _ in 0..ATTEMPTS {
        let open = match before.windows {
            // Nothing has been taken in that would have opened it.
            Some(open) if windows(socket)?[sys::SEND_WINDOW] == 0 => open,
            _ => *before.windows.insert(closed(socket)?),
        };
        let position = self::position(socket)?;
        let dump = dump(socket, &position, open);
        if self::position(socket)? == position && position.window[sys::SEND_WINDOW] == 0 {
            return Ok((position, dump?));
        }
    }
    Err(Error::Changed)
}

/// Where the connection is.
pub(crate) fn sequence(socket: BorrowedFd<'_>, queue: c_int) -> Result<u32, Error> {
    select(socket, queue)?;
    let sequence = sys::get(socket, IPPROTO_TCP, libc::TCP_QUEUE_SEQ).map_err(at("reading a sequence number"))?;
    select(socket, queue::NONE)?;
    Ok(sequence)
}

/// Which queue the next calls are about.
pub(crate) fn select(socket: BorrowedFd<'_>, queue: c_int) -> Result<(), Error> {
    sys::set(socket, IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &[queue]).map_err(at("selecting a queue"))
}

fn position(socket: BorrowedFd<'_>) -> Result<Position, Error> {
    let [told_at, window, largest, ..] = windows(socket)?;
    let queued = |question| sys::queued(socket, question).map_err(at("asking for the length of a queue"));
    Ok(Position {
        state: established(socket)?[0],
        receive: (sequence(socket, queue::RECEIVE)?, queued(sys::SIOCINQ)?),
        send: (sequence(socket, queue::SEND)?, queued(sys::SIOCOUTQ)?, queued(sys::SIOCOUTQNSD)?),
        window: [told_at, window, largest],
    })
}

/// See [`Taken::first_acknowledged`].
fn first_acknowledged(socket: BorrowedFd<'_>, position: &Position) -> Result<u32, Error> {
    /// Where `tcpi_bytes_acked` stands in `struct tcp_info`, a 64-bit number.
    const BYTES_ACKED: usize = 120;
    let (info, length) = sys::get_bytes::<{ BYTES_ACKED + 8 }>(socket, IPPROTO_TCP, libc::TCP_INFO)
        .map_err(at("asking for what was acknowledged"))?;
    // Modulo the sequence space, so half of it is enough. (Kernels before 4.1 say nothing, and are no others' here.)
    let acknowledged = match info.get(BYTES_ACKED..BYTES_ACKED + 4) {
        Some(&[a, b, c, d]) if length == info.len() && cfg!(target_endian = "little") => {
            u32::from_le_bytes([a, b, c, d])
        }
        _ => return Err(Error::Changed),
    };
    let (next, unacknowledged, _) = position.send;
    Ok(next.wrapping_sub(unacknowledged as u32).wrapping_sub(acknowledged))
}

fn dump(socket: BorrowedFd<'_>, position: &Position, windows: Windows) -> Result<Dump, Error> {
    let Position { receive: (receive_next, unread), send: (send_next, unacknowledged, unsent), .. } = *position;
    within("receive", unread)?;
    within("send", unacknowledged)?;
    let end = |address: nix::Result<SockaddrStorage>| -> Result<SocketAddr, Error> {
        canonical(&address.map_err(at("asking for an address"))?).ok_or(Error::NotTcp)
    };
    let local = end(getsockname(socket.as_raw_fd()))?;
    let received = peek(socket, queue::RECEIVE, unread)?;
    let sent = peek(socket, queue::SEND, unacknowledged)?;
    let value = |name, step| sys::get(socket, IPPROTO_TCP, name).map_err(at(step));
    let [send_told_at, send, send_largest, receive, receive_told_at] = windows;
    Ok(Dump {
        local,
        peer: end(getpeername(socket.as_raw_fd()))?,
        // In repair mode it is what the other end named, not what the path allows.
        options: options(established(socket)?, value(libc::TCP_MAXSEG, "reading the MSS")?),
        timestamp: value(libc::TCP_TIMESTAMP, "reading the timestamp clock")?,
        receive: ReceiveQueue { next: receive_next, bytes: received },
        send: SendQueue { next: send_next, bytes: sent, unsent: unsent as u32 },
        window: Window { send_told_at, send, send_largest, receive, receive_told_at },
        settings: settings(socket, local.is_ipv4())?,
    })
}

/// An address; one of IPv4 that an IPv6 socket shows is one of IPv4.
fn canonical(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    let v6: std::net::SocketAddrV6 = (*address.as_sockaddr_in6()?).into();
    Some(match v6.ip().to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), v6.port()),
        None => SocketAddr::V6(v6),
    })
}

/// What `struct tcp_info` says about options.
fn options(info: [u8; 8], mss: u32) -> Options {
    // TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK and TCPI_OPT_WSCALE; then two scales of four bits, the other end's first.
    let (flags, scales) = (info[5], info[6]);
    let scaled = flags & 4 != 0;
    Options {
        mss,
        timestamps: flags & 1 != 0,
        sack: flags & 2 != 0,
        send_scale: if scaled { scales & 0xf } else { 0 },
        receive_scale: if scaled { scales >> 4 } else { 0 },
    }
}

fn settings(socket: BorrowedFd<'_>, ipv4: bool) -> Result<Settings, Error> {
    let one = |level, name| sys::get::<u32>(socket, level, name).map_err(at("reading the socket's options"));
    let (name, length) = sys::get_bytes::<16>(socket, IPPROTO_TCP, libc::TCP_CONGESTION)
        .map_err(at("reading the socket's congestion control"))?;
    let name = name[..length].split(|&byte| byte == 0).next().unwrap_or_default();
    let class = if ipv4 { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
    Ok(Settings {
        no_delay: one(IPPROTO_TCP, libc::TCP_NODELAY)? != 0,
        keepalive: one(SOL_SOCKET, libc::SO_KEEPALIVE)? != 0,
        keepalive_idle_s: one(IPPROTO_TCP, libc::TCP_KEEPIDLE)?,
        keepalive_interval_s: one(IPPROTO_TCP, libc::TCP_KEEPINTVL)?,
        keepalive_probes: one(IPPROTO_TCP, libc::TCP_KEEPCNT)?,
        user_timeout_ms: one(IPPROTO_TCP, libc::TCP_USER_TIMEOUT)?,
        unsent_low_water: one(IPPROTO_TCP, sys::TCP_NOTSENT_LOWAT)?,
        traffic_class: one(class.0, class.1)?,
        congestion_control: String::from_utf8_lossy(name).into_owned(),
        send_buffer: one(SOL_SOCKET, libc::SO_SNDBUF)?,
        receive_buffer: one(SOL_SOCKET, libc::SO_RCVBUF)?,
        buffers_fixed: one(SOL_SOCKET, sys::SO_BUF_LOCK)?,
    })
}

/// The last `bytes` bytes of a queue, which it keeps.
fn peek(socket: BorrowedFd<'_>, queue: c_int, bytes: usize) -> Result<Vec<u8>, Error> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let room = if queue == queue::SEND { bytes + SEGMENT_MAX } else { bytes };
    let mut buffer = vec![0; room];
    select(socket, queue)?;
    let read = loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EINTR) => {}
            read => break read,
        }
    };
    select(socket, queue::NONE)?;
    buffer.truncate(read.map_err(at("reading a queue"))?);
    // In front of what is not acknowledged there may be the rest of a segment that is.
    let surplus = buffer.len().checked_sub(bytes).ok_or(Error::Changed)?;
    buffer.drain(..surplus);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn what_is_no_established_connection_is_refused_as_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = take_out(listener.into()).unwrap_err();
        assert!(matches!(refused.error, Error::NotEstablished { state: 10 }), "{refused:?}");
        let refused = take_out(UdpSocket::bind("127.0.0.1:0").unwrap().into()).unwrap_err();
        assert!(matches!(refused.error, Error::NotTcp), "{refused:?}");
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(take_out(one.into()).unwrap_err().error, Error::NotTcp));

        // A connection whose other end has closed.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop(server);
        assert_eq!(io::Read::read(&mut client, &mut [0]).unwrap(), 0);
        assert!(matches!(take_out(client.into()).unwrap_err().error, Error::NotEstablished { state: 8 }));
    }
}
