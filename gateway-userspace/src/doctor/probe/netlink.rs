//! Netlink by hand: one request, all answers. For sock_diag and generic netlink; see `linux/netlink.h`.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// `NLMSG_ERROR`; an error of 0 acknowledges.
const ERROR: u16 = 2;
/// `NLMSG_DONE`.
const DONE: u16 = 3;

/// `NLM_F_REQUEST | NLM_F_ACK`: the answers, and then the word that there are no more.
pub const ONE: u16 = 0x1 | 0x4;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
pub const DUMP: u16 = 0x1 | 0x300;

/// The kernel answers with at most 32 KiB at a time (`netlink_recvmsg`).
const BUFFER: usize = 64 << 10;

/// Sends a request of that kind and gives the bodies of all answers.
///
/// # Errors
/// What the kernel answered, or the system call did.
pub fn request(protocol: SockProtocol, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and sender: there is one request on this socket.
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    answers(&socket)
}

fn answers(socket: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let received = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..received]) {
            match kind {
                DONE => return Ok(bodies),
                ERROR => match word(body, 0).map_or(0, u32::cast_signed) {
                    0 => return Ok(bodies),
                    error => return Err(io::Error::from_raw_os_error(-error)),
                },
                _ => bodies.push(body.to_vec()),
            }
        }
    }
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The 32-bit number at `at`, in the machine's order.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An attribute, padded.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in `bytes`.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
        let (length, kind) = (u16::from_ne_bytes([head[0], head[1]]) as usize, u16::from_ne_bytes([head[2], head[3]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The highest two bits say how the value is encoded.
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_go_there_and_back() {
        let bytes = [attribute(1, b"netdev\0"), attribute(3, &7u64.to_ne_bytes()), attribute(2, b"")].concat();
        let back: Vec<_> = attributes(&bytes).collect();
        assert_eq!(back, [(1, &b"netdev\0"[..]), (3, &7u64.to_ne_bytes()[..]), (2, b"")]);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let bytes = attribute(1, &[1, 2, 3, 4]);
        for cut in 0..bytes.len() {
            assert_eq!(attributes(&bytes[..cut]).count(), 0);
            assert_eq!(messages(&bytes[..cut]).count(), 0);
        }
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0);
        assert_eq!(messages(&[0; 16]).count(), 0);
    }
}
