//! What can go wrong.

use std::{io, net::SocketAddr};

use nix::errno::Errno;

/// Why a connection could not be taken out or put in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Unix sockets, UDP, MPTCP.
    #[error("not a plain TCP socket")]
    NotTcp,
    /// TLS in the kernel, or another layer above TCP, whose state cannot be read.
    #[error("another protocol of the kernel sits on the socket")]
    Layered,
    /// Connecting, closing or closed. The number is the kernel's (`net/tcp_states.h`).
    #[error("the connection is not established (state {state})")]
    NotEstablished {
        /// Its state.
        state: u8,
    },
    /// More bytes wait in a queue than a dump may hold.
    #[error("{bytes} bytes in the {queue} queue, of which {limit} at most can be moved")]
    QueueTooLong {
        /// "send" or "receive".
        queue: &'static str,
        /// What is there.
        bytes: usize,
        /// What would be allowed.
        limit: usize,
    },
    /// Something arrived although the socket was shut off: a segment that was already past that point.
    #[error("the connection went on while it was being read")]
    Changed,
    /// Without CAP_NET_ADMIN.
    #[error("repairing connections takes CAP_NET_ADMIN in this network namespace")]
    NoRight,
    /// This host does not have the connection's address.
    #[error("{0} is not an address of this host")]
    NoAddress(SocketAddr),
    /// This host has that very connection, or the remains of an older one with the same addresses and ports.
    #[error("this host has a connection between {local} and {peer} already")]
    Taken {
        /// Our end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
    /// What should be put in cannot be a connection.
    #[error("the dump is not one of a connection: {0}")]
    BadDump(&'static str),
    /// The kernel refused something else.
    #[error("{step}: {source}")]
    Kernel {
        /// What was to be done.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
}

/// Where the reason lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// In the connection as it is: others can be moved.
    Connection,
    /// In this host: no connection can be moved from or to it.
    Host,
    /// In what was handed to us.
    Caller,
}

// === impl Error ===

impl Error {
    /// Where the reason lies.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotTcp | Self::BadDump(_) => Fault::Caller,
            Self::NoRight | Self::NoAddress(_) | Self::Kernel { .. } => Fault::Host,
            Self::Layered
            | Self::NotEstablished { .. }
            | Self::QueueTooLong { .. }
            | Self::Changed
            | Self::Taken { .. } => Fault::Connection,
        }
    }

    /// Whether the same may succeed a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            // Queues drain; remains of connections go.
            Self::QueueTooLong { .. } | Self::Changed | Self::Taken { .. } => true,
            Self::Kernel { source, .. } => matches!(
                source.raw_os_error().map(Errno::from_raw),
                Some(Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE)
            ),
            Self::NotTcp
            | Self::Layered
            | Self::NotEstablished { .. }
            | Self::NoRight
            | Self::NoAddress(_)
            | Self::BadDump(_) => false,
        }
    }
}

/// What the kernel said, and what we wanted of it.
pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Kernel { step, source: source.into() }
}
