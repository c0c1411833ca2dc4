//! Sees what passes through a host.

use crate::lab::Host;
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Room for packets that wait to be looked at, in bytes; about 80 000 small ones.
const BUFFER: usize = 64 << 20;

/// How long packets that arrived in time are still looked at afterwards.
const OVERTIME: Duration = Duration::from_secs(1);

/// Sees every packet that the kernel of a host receives or sends, from the moment it is opened; a packet forwarded is
/// seen twice. What an XDP program answers, redirects or drops never reaches the kernel: look on the other end of the
/// link. Usable from any thread.
pub struct Sniffer {
    socket: OwnedFd,
}

// === impl Sniffer ===

impl Sniffer {
    /// Opens it on a host.
    ///
    /// # Errors
    /// If the process lacks CAP_NET_RAW.
    pub fn open(host: &Host) -> Result<Self> {
        host.run(|| {
            let socket =
                socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                    .with_context(|| format!("opening a packet socket on {}", host.name()))?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("enlarging a packet socket's buffer")?;
            Ok(Self { socket })
        })
    }

    /// The first packet that `read` makes something of; none if there is no such packet within `limit`. Packets start
    /// with their IP header: [`Segment::parse`](super::Segment::parse) makes a `read`.
    ///
    /// # Errors
    /// If the socket fails, or packets came faster than they were looked at and were missed.
    pub fn first<T>(&self, limit: Duration, read: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let found = self.look(limit, read)?;
        let missed = self.missed()?;
        // A test may rest on having seen all there was.
        ensure!(missed == 0, "{missed} packets were missed: look at them while they come");
        Ok(found)
    }

    fn look<T>(&self, limit: Duration, mut read: impl FnMut(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let deadline = Instant::now() + limit;
        let mut packet = vec![0; 1 << 16];
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).as_micros() as i64;
            // What has arrived before the deadline is looked at after it, too; a timeout of 0 would be none at all.
            let (timeout, flags) = if left > 0 { (left, MsgFlags::empty()) } else { (1, MsgFlags::MSG_DONTWAIT) };
            setsockopt(&self.socket, sockopt::ReceiveTimeout, &TimeVal::microseconds(timeout))
                .context("limiting the wait for a packet")?;
            match recv(self.socket.as_raw_fd(), &mut packet, flags) {
                Ok(_) if deadline.elapsed() > OVERTIME => return Ok(None),
                Ok(length) => {
                    if let Some(value) = read(&packet[..length]) {
                        return Ok(Some(value));
                    }
                }
                Err(Errno::EAGAIN) if left == 0 => return Ok(None),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("receiving from a packet socket"),
            }
        }
    }

    /// All packets, within the whole of `limit`, that `read` makes something of.
    ///
    /// # Errors
    /// As [`first`](Self::first).
    pub fn collect<T>(&self, limit: Duration, mut read: impl FnMut(&[u8]) -> Option<T>) -> Result<Vec<T>> {
        let mut values = Vec::new();
        self.first(limit, |packet| {
            values.extend(read(packet));
            None::<()>
        })?;
        Ok(values)
    }

    /// The packets since the last call that found no room.
    fn missed(&self) -> Result<u32> {
        // SAFETY: all bytes zero is a valid value of this struct of two integers.
        let mut counts: libc::tpacket_stats = unsafe { std::mem::zeroed() };
        let mut size = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel writes at most `size` bytes, the size of `counts`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counts).cast(),
                &mut size,
            )
        };
        Errno::result(result).context("asking how many packets were missed")?;
        Ok(counts.tp_drops)
    }
}
