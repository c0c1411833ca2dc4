//! Connecting, with the freedoms that a test wants.

use super::within_limit;
use crate::lab::Family;
use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    target: SocketAddr,
    source_port: Option<u16>,
    max_segment: Option<u16>,
    nodelay: bool,
}

// === impl Dial ===

impl Dial {
    /// To this address and port, everything else as a kernel does by itself, except that small writes are not held
    /// back (TCP_NODELAY; all SDKs do that).
    pub fn new(target: impl Into<SocketAddr>) -> Self {
        Self { target: target.into(), source_port: None, max_segment: None, nodelay: true }
    }

    /// From this port, even one that an earlier connection has just left (wholly: see [`leave`](super::leave)).
    pub fn source_port(self, port: u16) -> Self {
        Self { source_port: Some(port), ..self }
    }

    /// Offers this segment size (MSS) and sends no larger ones, if there is one.
    pub fn max_segment(self, bytes: impl Into<Option<u16>>) -> Self {
        Self { max_segment: bytes.into(), ..self }
    }

    /// Whether small writes are sent at once.
    pub fn nodelay(self, nodelay: bool) -> Self {
        Self { nodelay, ..self }
    }

    /// Connects.
    ///
    /// # Errors
    /// As connect(2) and bind(2); or if it takes longer than [`LIMIT`](super::LIMIT).
    pub async fn connect(self) -> Result<TcpStream> {
        let family = Family::of(self.target.ip());
        let socket = match family {
            Family::V4 => TcpSocket::new_v4(),
            Family::V6 => TcpSocket::new_v6(),
        }
        .context("opening a socket")?;
        socket.set_nodelay(self.nodelay).context("setting TCP_NODELAY")?;
        if let Some(bytes) = self.max_segment {
            setsockopt(&socket, sockopt::TcpMaxSeg, &u32::from(bytes))
                .with_context(|| format!("setting TCP_MAXSEG to {bytes}"))?;
        }
        if let Some(port) = self.source_port {
            socket.set_reuseaddr(true).context("setting SO_REUSEADDR")?;
            socket
                .bind(SocketAddr::new(family.unspecified(), port))
                .with_context(|| format!("binding to port {port}"))?;
        }
        within_limit(socket.connect(self.target), || format!("connecting to {}", self.target)).await
    }
}
