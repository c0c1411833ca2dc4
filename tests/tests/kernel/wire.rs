//! The other end of the node's link, where its clients and the other nodes are; and what the kernel knows of a socket.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::{
        socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};
use ringsteer_tests::{
    kernel::WIRE,
    packet::{Frame, Segment},
};

use crate::node::frame;

/// How long a test waits for what must happen. Not a measure of speed: whoever needs longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The other end of the link.
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens it: what the node sends from now on is seen.
    pub fn open() -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
        // SAFETY: all bytes zero is a valid value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = if_nametoindex(WIRE).unwrap() as i32;
        // SAFETY: the address is as long as we say, and the kernel only reads it.
        let result = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
        };
        Errno::result(result).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200)).unwrap();
        Self(socket)
    }

    /// Sends a packet to the node.
    pub fn send(&self, packet: &[u8]) {
        let frame = frame(packet);
        assert_eq!(send(self.0.as_raw_fd(), &frame, MsgFlags::empty()).unwrap(), frame.len());
    }

    /// The next segment from the node that `wanted` takes. Sums are not looked at: the kernel leaves its own to a device
    /// that does not exist.
    #[track_caller]
    pub fn segment(&self, wanted: impl Fn(&Segment) -> bool) -> Segment {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        loop {
            assert!(Instant::now() < deadline, "the node does not answer");
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(errno) => panic!("{errno}"),
            };
            let packet = Frame::parse(&buffer[..length]).map(|frame| frame.payload);
            if let Some(segment) = packet.and_then(|packet| Segment::parse(&packet)).filter(&wanted) {
                return segment;
            }
        }
    }
}

/// Waits until a condition holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::yield_now();
    }
}

/// What a socket has agreed on with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Timestamps are on every segment.
    pub timestamps: bool,
    /// Selective acknowledgements are understood.
    pub sack: bool,
    /// The peer's window scale and ours, if there are any.
    pub scales: Option<(u8, u8)>,
    /// Most bytes of data in a segment to the peer.
    pub segment: u32,
}

impl Agreed {
    /// What `socket` has agreed on.
    pub fn of(socket: &impl AsFd) -> Self {
        /// TCPI_OPT_TIMESTAMPS, TCPI_OPT_SACK, TCPI_OPT_WSCALE, from linux/tcp.h.
        const BITS: [u8; 3] = [1, 2, 4];
        // SAFETY: all bytes zero is a valid value of this struct of integers.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        option(socket, libc::TCP_INFO, &mut info).unwrap();
        let [timestamps, sack, scaled] = BITS.map(|bit| info.tcpi_options & bit != 0);
        let scales = scaled.then_some((info.tcpi_snd_rcv_wscale & 0xf, info.tcpi_snd_rcv_wscale >> 4));
        Self { timestamps, sack, scales, segment: info.tcpi_snd_mss }
    }
}

/// The sequence number that a socket expects next. Leaves the socket in repair mode: it is silent from now on.
pub fn expects(socket: &impl AsFd) -> u32 {
    queue_end(socket, Queue::Receive)
}

/// The sequence number of what a socket, which has had everything acknowledged, sends next. Leaves it in repair mode, too.
pub fn sends(socket: &impl AsFd) -> u32 {
    queue_end(socket, Queue::Send)
}

/// The queues of a socket, as linux/tcp.h numbers them.
#[derive(Clone, Copy)]
enum Queue {
    Receive = 1,
    Send = 2,
}

fn queue_end(socket: &impl AsFd, queue: Queue) -> u32 {
    setsockopt(socket, sockopt::TcpRepair, &1).unwrap();
    let queue = queue as libc::c_int;
    // SAFETY: the option's value is an int, and as long as we say.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR_QUEUE,
            (&raw const queue).cast(),
            size_of_val(&queue) as libc::socklen_t,
        )
    };
    Errno::result(result).unwrap();
    let mut number = 0u32;
    option(socket, libc::TCP_QUEUE_SEQ, &mut number).unwrap();
    number
}

/// Reads an option of TCP whose value is a `T`, a plain struct of integers.
fn option<T>(socket: &impl AsFd, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to the value, which takes any.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), libc::IPPROTO_TCP, name, (&raw mut *value).cast(), &raw mut size)
    };
    Ok(Errno::result(result).map(drop)?)
}
