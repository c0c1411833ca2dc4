//! One connection: reading requests, writing responses, and ending without losing the last of them.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{timeout, timeout_at},
};

use super::{Body, BodyError, Response};
use crate::websocket::{
    proxy::{self, Header},
    request::{BadHead, Head, parse_head},
};

/// How much is read at once, in bytes.
const READ: usize = 4096;

/// A client's connection, with what was read from it but not yet consumed.
#[derive(Debug)]
pub(in crate::gateway) struct Connection {
    /// The socket.
    pub(in crate::gateway) stream: TcpStream,
    /// Bytes read and not consumed.
    pub(in crate::gateway) unread: BytesMut,
    /// The other end.
    pub(in crate::gateway) peer: SocketAddr,
}

/// The head of a request, as it arrived.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct WholeHead(Bytes);

/// Why there is no request.
#[derive(Debug)]
pub(in crate::gateway) enum Unreadable {
    /// Nobody waits for an answer: the connection was closed or lost, or said nothing at all.
    Gone,
    /// The client should hear why; the connection cannot go on after it.
    Refused(Response),
}

impl WholeHead {
    /// What it says.
    pub(in crate::gateway) fn head(&self) -> Head<'_> {
        match parse_head(&self.0) {
            Ok(Some((head, _))) => head,
            _ => unreachable!("made of bytes that have been parsed"),
        }
    }

    /// Its bytes.
    pub(in crate::gateway) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Connection {
    /// A connection just accepted.
    pub(in crate::gateway) fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        Self { stream, unread: BytesMut::new(), peer }
    }

    /// Reads what a proxy says about its client in front of the first request, within `deadline`. The other end is that
    /// client from then on.
    pub(in crate::gateway) async fn proxied(&mut self, deadline: Duration) -> Result<(), Unreadable> {
        let header = async {
            loop {
                match proxy::read(&self.unread) {
                    Ok(Header::Whole(length, client)) => return Ok::<_, Unreadable>((length, client)),
                    Ok(Header::None) if !self.unread.is_empty() => return Ok((0, None)),
                    Ok(_) => self.read().await?,
                    Err(error) => return Err(Unreadable::Refused(Response::error(400, error))),
                }
            }
        };
        let (length, client) = timeout(deadline, header).await.map_err(|_| Unreadable::Gone)??;
        self.unread.advance(length);
        self.peer = client.unwrap_or(self.peer);
        Ok(())
    }

    /// Reads the head of the next request. For its first byte the client has `first_byte`, from then on `deadline`.
    pub(in crate::gateway) async fn head(
        &mut self,
        first_byte: Duration,
        deadline: Duration,
    ) -> Result<WholeHead, Unreadable> {
        if self.unread.is_empty() {
            timeout(first_byte, self.read()).await.map_err(|_| Unreadable::Gone)??;
        }
        let complete = async {
            loop {
                match parse_head(&self.unread) {
                    Ok(Some((_, length))) => return Ok::<usize, Unreadable>(length),
                    Ok(None) => self.read().await?,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let length = timeout(deadline, complete).await.map_err(|_| too_slow("the request head"))??;
        Ok(WholeHead(self.unread.split_to(length).freeze()))
    }

    /// Reads the body that follows `head`: at most `max` bytes, within `deadline`.
    pub(in crate::gateway) async fn body(
        &mut self,
        head: &Head<'_>,
        max: usize,
        deadline: Duration,
    ) -> Result<Bytes, Unreadable> {
        let deadline = tokio::time::Instant::now() + deadline;
        let mut body = Body::after(head, max)?;
        let mut complete = body.advance(&mut self.unread)?;
        if !complete && head.minor_version >= 1 && head.header_has_token("Expect", "100-continue") {
            let go_on = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            timeout_at(deadline, go_on).await.map_err(|_| Unreadable::Gone)??;
        }
        while !complete {
            timeout_at(deadline, self.read()).await.map_err(|_| too_slow("the body"))??;
            complete = body.advance(&mut self.unread)?;
        }
        Ok(body.into_bytes())
    }

    /// Sends a response, within `deadline`.
    pub(in crate::gateway) async fn respond(
        &mut self,
        response: &Response,
        keep_alive: bool,
        deadline: Duration,
    ) -> io::Result<()> {
        tracing::debug!("{}: answered with {}", self.peer, response.status());
        timeout(deadline, self.stream.write_all(&response.encode(keep_alive))).await?
    }

    /// Ends the connection after its last response: bytes that nobody reads would turn the end into a reset, which may
    /// overtake the response. So they are read until the client ends, too, or `deadline` has passed.
    pub(in crate::gateway) async fn linger(mut self, deadline: Duration) {
        let ended = async {
            self.stream.shutdown().await?;
            loop {
                self.unread.clear();
                self.unread.reserve(READ);
                if self.stream.read_buf(&mut self.unread).await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        match timeout(deadline, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("{}: lost at its end: {error}", self.peer),
            Err(_) => tracing::debug!("{}: did not end in time", self.peer),
        }
    }

    /// Sends a last response, and ends.
    pub(in crate::gateway) async fn refuse(mut self, response: &Response, deadline: Duration) {
        match self.respond(response, false, deadline).await {
            Ok(()) => self.linger(deadline).await,
            Err(error) => tracing::debug!("{}: lost before it was answered: {error}", self.peer),
        }
    }

    /// Sends these last bytes, and ends.
    pub(in crate::gateway) async fn end_with(mut self, bytes: &[u8], deadline: Duration) {
        match timeout(deadline, self.stream.write_all(bytes)).await {
            Ok(Ok(())) => self.linger(deadline).await,
            _ => tracing::debug!("{}: lost before it was answered", self.peer),
        }
    }

    /// Reads some bytes.
    async fn read(&mut self) -> Result<(), Unreadable> {
        self.unread.reserve(READ);
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(Unreadable::Gone),
            _ => Ok(()),
        }
    }
}

// === impl Unreadable ===

impl From<io::Error> for Unreadable {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<BadHead> for Unreadable {
    fn from(error: BadHead) -> Self {
        Self::Refused(Response::error(error.status(), error))
    }
}

impl From<BodyError> for Unreadable {
    fn from(error: BodyError) -> Self {
        Self::Refused(Response::error(error.status(), error))
    }
}

fn too_slow(what: &str) -> Unreadable {
    Unreadable::Refused(Response::error(408, format!("{what} did not arrive in time")))
}
