//! The system calls: socket options by number, two questions by ioctl, and nothing else. All `unsafe` of the package is
//! here.
//!
//! Numbers are those of `include/uapi/linux/tcp.h` and `include/uapi/asm-generic/socket.h`.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use libc::{c_int, c_ulong, c_void, socklen_t};

/// Values of `TCP_REPAIR`.
pub(crate) mod repair {
    /// Repair mode.
    pub(crate) const ON: c_int = 1;
    /// Normal mode again, and the other end is asked for its window.
    pub(crate) const OFF: c_int = 0;
    use libc::c_int;
}

/// Values of `TCP_REPAIR_QUEUE`.
pub(crate) mod queue {
    /// Neither.
    pub(crate) const NONE: c_int = 0;
    /// `TCP_RECV_QUEUE`.
    pub(crate) const RECEIVE: c_int = 1;
    /// `TCP_SEND_QUEUE`.
    pub(crate) const SEND: c_int = 2;
    use libc::c_int;
}

/// TCP options by their kind, for `TCP_REPAIR_OPTIONS`.
pub(crate) mod option {
    /// Window scale; the value holds ours in the high half, the other end's in the low one.
    pub(crate) const WINDOW: u32 = 3;
    /// SACK permitted.
    pub(crate) const SACK: u32 = 4;
    /// Timestamps.
    pub(crate) const TIMESTAMP: u32 = 8;
}

/// `SO_BUF_LOCK` (Linux 5.14).
pub(crate) const SO_BUF_LOCK: c_int = 72;
/// `TCP_NOTSENT_LOWAT`, `TCP_ULP`.
pub(crate) const TCP_NOTSENT_LOWAT: c_int = 25;
pub(crate) const TCP_ULP: c_int = 31;

/// Where the other end's window stands in `struct tcp_repair_window`, taken as five numbers.
pub(crate) const SEND_WINDOW: usize = 1;

/// `struct tcp_repair_opt`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct RepairOption {
    pub(crate) kind: u32,
    pub(crate) value: u32,
}

/// Values that socket options carry.
///
/// # Safety
/// No padding, no pointers, every bit pattern valid.
pub(crate) unsafe trait Plain: Copy + Default {}

// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers of one size.
unsafe impl Plain for [u32; 5] {}
// SAFETY: two integers of one size.
unsafe impl Plain for RepairOption {}

/// Sets an option to a value, or to several.
pub(crate) fn set<T: Plain>(socket: BorrowedFd<'_>, level: c_int, name: c_int, values: &[T]) -> io::Result<()> {
    // SAFETY: the values are as long as we say, and the kernel only reads them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            values.as_ptr().cast::<c_void>(),
            size_of_val(values) as socklen_t,
        )
    };
    done(result)
}

/// The value of an option.
pub(crate) fn get<T: Plain>(socket: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the value has room for as much as we say, and whatever is written there is one.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast::<c_void>(), &raw mut length)
    };
    done(result).map(|()| value)
}

/// An option that is text or a structure of bytes: as much of it as there is room for, and how much that is.
pub(crate) fn get_bytes<const ROOM: usize>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<([u8; ROOM], usize)> {
    let mut bytes = [0; ROOM];
    let mut length = ROOM as socklen_t;
    // SAFETY: the array has room for as much as we say.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, bytes.as_mut_ptr().cast::<c_void>(), &raw mut length)
    };
    done(result).map(|()| (bytes, (length as usize).min(ROOM)))
}

/// Sets an option to a text.
pub(crate) fn set_text(socket: BorrowedFd<'_>, level: c_int, name: c_int, text: &str) -> io::Result<()> {
    // SAFETY: the text is as long as we say, and the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, text.as_ptr().cast::<c_void>(), text.len() as socklen_t)
    };
    done(result)
}

/// Shuts the socket off: whatever arrives for it is dropped, neither taken in nor answered, as if it had been lost on
/// the way (`tcp_filter` in `net/ipv4/tcp_ipv4.c`).
pub(crate) fn shut_off(socket: BorrowedFd<'_>) -> io::Result<()> {
    // A filter of one instruction that keeps nothing of any packet: BPF_RET | BPF_K.
    let mut nothing = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    // SAFETY: the program is as long as it says, and the kernel copies it before the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast::<c_void>(),
            size_of_val(&program) as socklen_t,
        )
    };
    done(result)
}

/// Takes that back.
pub(crate) fn let_in(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &[0 as c_int])
}

/// Ends the connection, whoever else has the descriptor: a child that is about to be another program, say. In repair
/// mode that is silent (`tcp_disconnect`).
pub(crate) fn disconnect(socket: BorrowedFd<'_>) -> io::Result<()> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: the address is as long as we say, and the kernel only reads it.
    let result = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of_val(&nowhere) as socklen_t) };
    done(result)
}

/// Bytes in a queue, by one of `SIOCINQ`, `SIOCOUTQ` and `SIOCOUTQNSD`.
pub(crate) fn queued(socket: BorrowedFd<'_>, question: c_ulong) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: these questions are answered with an `int`.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), question, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Received and not read.
pub(crate) const SIOCINQ: c_ulong = 0x541b;
/// Written and not acknowledged.
pub(crate) const SIOCOUTQ: c_ulong = 0x5411;
/// Written and never sent.
pub(crate) const SIOCOUTQNSD: c_ulong = 0x894b;

fn done(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
