//! A connection as plain data.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Bytes that either queue of a dump may hold.
pub const QUEUE_MAX: usize = 16 << 20;

/// Smallest MSS that the kernel takes (`TCP_MIN_MSS`).
const MSS_MIN: u32 = 88;

/// Largest one.
const MSS_MAX: u32 = 65_535;

/// Largest window scale (RFC 7323 section 2.3).
const SCALE_MAX: u8 = 14;

/// All that makes a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Our end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// What was negotiated.
    pub options: Options,
    /// The clock of our timestamps, as the kernel calls it; an opaque value that goes on from there.
    pub timestamp: u32,
    /// What has come and was not read.
    pub receive: ReceiveQueue,
    /// What was written and is not acknowledged.
    pub send: SendQueue,
    /// How much either end may send.
    pub window: Window,
    /// Socket options.
    pub settings: Settings,
}

/// What the two ends agreed on in their handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Largest segment the other end takes, in bytes of data.
    pub mss: u32,
    /// Timestamps (RFC 7323).
    pub timestamps: bool,
    /// Selective acknowledgements (RFC 2018).
    pub sack: bool,
    /// By what the other end's windows are shifted; 0 without window scaling.
    pub send_scale: u8,
    /// By what ours are.
    pub receive_scale: u8,
}

/// Bytes for the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveQueue {
    /// Sequence number of the byte after them, which the other end is to send next.
    pub next: u32,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Bytes for the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendQueue {
    /// Sequence number of the byte after them, which the application is to write next.
    pub next: u32,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// How many of them, at the end, were never sent.
    pub unsent: u32,
}

/// The kernel's `struct tcp_repair_window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Sequence number of the segment that last told us the other end's window.
    pub send_told_at: u32,
    /// The other end's window, in bytes.
    pub send: u32,
    /// The largest it ever was.
    pub send_largest: u32,
    /// Ours, in bytes.
    pub receive: u32,
    /// Sequence number at which we told it last.
    pub receive_told_at: u32,
}

/// Options of the socket that the application set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `TCP_NODELAY`.
    pub no_delay: bool,
    /// `SO_KEEPALIVE`.
    pub keepalive: bool,
    /// `TCP_KEEPIDLE`, in seconds.
    pub keepalive_idle_s: u32,
    /// `TCP_KEEPINTVL`, in seconds.
    pub keepalive_interval_s: u32,
    /// `TCP_KEEPCNT`.
    pub keepalive_probes: u32,
    /// `TCP_USER_TIMEOUT`, in milliseconds; 0 for the system's.
    pub user_timeout_ms: u32,
    /// `TCP_NOTSENT_LOWAT`, in bytes; 0 for the system's.
    pub unsent_low_water: u32,
    /// `IP_TOS` or `IPV6_TCLASS`.
    pub traffic_class: u32,
    /// `TCP_CONGESTION`. A host that does not have it uses its own.
    pub congestion_control: String,
    /// The send buffer, in bytes as the kernel counts them.
    pub send_buffer: u32,
    /// The receive buffer, likewise.
    pub receive_buffer: u32,
    /// `SO_BUF_LOCK`: which of the two the kernel must not adapt; 1 for the send buffer, 2 for the receive buffer.
    pub buffers_fixed: u32,
}

// === impl Dump ===

impl Dump {
    /// Puts bytes back in front of the receive queue: read by the application, but not used. Whoever has the
    /// connection next reads them first.
    ///
    /// # Errors
    /// If that is more than a dump may hold.
    pub fn put_back(&mut self, read: &[u8]) -> Result<(), Error> {
        within("receive", self.receive.bytes.len() + read.len())?;
        self.receive.bytes.splice(..0, read.iter().copied());
        Ok(())
    }

    /// Checks what came from elsewhere.
    pub(crate) fn check(&self) -> Result<(), Error> {
        within("receive", self.receive.bytes.len())?;
        within("send", self.send.bytes.len())?;
        let Options { mss, send_scale, receive_scale, .. } = self.options;
        let bad = |what| Err(Error::BadDump(what));
        match () {
            () if self.local.is_ipv4() != self.peer.is_ipv4() => bad("its ends are of two families"),
            () if self.local.port() == 0 || self.peer.port() == 0 => bad("it has no ports"),
            () if !(MSS_MIN..=MSS_MAX).contains(&mss) => bad("the MSS is out of range"),
            () if send_scale > SCALE_MAX || receive_scale > SCALE_MAX => bad("a window scale is out of range"),
            () if self.send.unsent as usize > self.send.bytes.len() => bad("more is unsent than there is"),
            () => Ok(()),
        }
    }
}

/// Whether a queue of so many bytes may be moved.
pub(crate) fn within(queue: &'static str, bytes: usize) -> Result<(), Error> {
    if bytes > QUEUE_MAX { Err(Error::QueueTooLong { queue, bytes, limit: QUEUE_MAX }) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection that could be.
    pub(crate) fn example() -> Dump {
        Dump {
            local: "192.0.2.1:443".parse().unwrap(),
            peer: "203.0.113.7:50000".parse().unwrap(),
            options: Options { mss: 1460, timestamps: true, sack: true, send_scale: 7, receive_scale: 7 },
            timestamp: 4712,
            receive: ReceiveQueue { next: 5, bytes: b"world".to_vec() },
            send: SendQueue { next: 100, bytes: b"abc".to_vec(), unsent: 1 },
            window: Window { send_told_at: 4, send: 65_535, send_largest: 65_535, receive: 65_535, receive_told_at: 5 },
            settings: Settings::default(),
        }
    }

    #[test]
    fn what_was_read_too_early_comes_first_again() {
        let mut dump = example();
        dump.put_back(b"hello ").unwrap();
        assert_eq!(dump.receive, ReceiveQueue { next: 5, bytes: b"hello world".to_vec() });
        let full = vec![0; QUEUE_MAX - 10];
        assert!(matches!(dump.put_back(&full), Err(Error::QueueTooLong { queue: "receive", limit: QUEUE_MAX, .. })));
        assert_eq!(dump.receive.bytes, b"hello world");
    }

    #[test]
    fn it_is_the_same_after_a_journey() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Dump>(&text).unwrap(), example());
    }

    #[test]
    fn what_cannot_be_a_connection_is_told() {
        assert!(example().check().is_ok());
        let spoil: [fn(&mut Dump); 6] = [
            |dump| dump.peer = "[2001:db8::1]:1".parse().unwrap(),
            |dump| dump.peer.set_port(0),
            |dump| dump.options.mss = 10,
            |dump| dump.options.mss = 70_000,
            |dump| dump.options.receive_scale = 15,
            |dump| dump.send.unsent = 4,
        ];
        for spoil in spoil {
            let mut dump = example();
            spoil(&mut dump);
            assert!(matches!(dump.check(), Err(Error::BadDump(_))), "{dump:?}");
        }
    }
}
