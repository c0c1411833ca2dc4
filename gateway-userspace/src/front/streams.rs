//! Connections to the push service, owner by owner. The kernel steers a connection by the user in its first request; so
//! one is kept for each owner and used again for that owner's users.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::ring::Identity;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to one owner that are kept while nobody uses them.
const IDLE: usize = 8;

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 8 << 20;

type Stream = SendRequest<Full<Bytes>>;

/// The connections that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<BTreeMap<Identity, Vec<Stream>>>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The service cannot be reached.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// The connection broke, or what came over it is no HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long.
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// An answer, and the stream it came over.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) body: Bytes,
    stream: Stream,
    owner: Identity,
}

// === impl Streams ===

impl Streams {
    /// Sends a request over a stream of that owner's, a new one if there is none.
    ///
    /// # Errors
    /// If there is no answer.
    pub(super) async fn send(
        &self,
        owner: &Identity,
        address: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<Answered, StreamError> {
        let idle = self.take(owner);
        let fresh = idle.is_none();
        let mut stream = match idle {
            Some(stream) => stream,
            None => connect(address).await?,
        };
        let again = request.clone();
        let response = match stream.send_request(request).await {
            Ok(response) => response,
            // A stream that lay idle may have been closed by the other side at the same moment. The request has an id, so
            // sending it again does no harm.
            Err(_) if !fresh => {
                stream = connect(address).await?;
                stream.send_request(again).await?
            }
            Err(error) => return Err(error.into()),
        };
        let status = response.status().as_u16();
        let body =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(StreamError::Body)?.to_bytes();
        Ok(Answered { status, body, stream, owner: owner.clone() })
    }

    /// Keeps the stream of an answer for the next request.
    pub(super) fn keep(&self, answered: Answered) {
        let Answered { stream, owner, .. } = answered;
        let mut all = self.all();
        let streams = all.entry(owner).or_default();
        if !stream.is_closed() && streams.len() < IDLE {
            streams.push(stream);
        }
    }

    /// Forgets all streams: where they lead was decided by another ring.
    pub(super) fn clear(&self) {
        self.all().clear();
    }

    fn take(&self, owner: &Identity) -> Option<Stream> {
        let mut all = self.all();
        let streams = all.get_mut(owner)?;
        while let Some(stream) = streams.pop() {
            if stream.is_ready() {
                return Some(stream);
            }
        }
        None
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Identity, Vec<Stream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: SocketAddr) -> Result<Stream, StreamError> {
    let failed = |error| StreamError::Connect(address, error);
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender, or when the other side closes it.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a stream to {address} has ended: {error}");
        }
    });
    Ok(sender)
}
