//! The agent's side: answers requests until told to stop.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};

use super::{
    line::{self, LineError, MAX_REQUEST_BYTES},
    message::{Answer, Publication, Request, Status},
};

/// Most connections at once. A gateway holds one, a CLI one for a moment.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take for its request, or for taking an answer off the socket.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to leave a listener alone that cannot accept, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests on `listener` until `shutdown` completes: followers get the present publication and then each
/// new one, though not necessarily every one in between; `status` is asked when a client asks, on a thread where it may
/// block.
pub async fn serve(
    listener: UnixListener,
    publications: watch::Receiver<Arc<Publication>>,
    status: impl Fn() -> Status + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let status = Arc::new(status);
    // Dropped at the end, which ends the connections.
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(connection(stream, publications.clone(), Arc::clone(&status)));
                }
                // Hanging up is the answer: to send one, too, we would have to wait for the client.
                Ok(_) => tracing::warn!("more than {MAX_CONNECTIONS} clients on the agent's socket; one turned away"),
                Err(error) => {
                    tracing::warn!("cannot accept on the agent's socket: {error}");
                    tokio::select! {
                        () = &mut shutdown => return,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("serving a client of the agent's socket failed: {error}");
                }
            }
        }
    }
}

async fn connection<F>(stream: UnixStream, publications: watch::Receiver<Arc<Publication>>, status: Arc<F>)
where
    F: Fn() -> Status + Send + Sync + 'static,
{
    let mut stream = BufReader::new(stream);
    let outcome = match next_request(&mut stream).await {
        Ok(None) => Ok(()),
        Ok(Some(Request::Follow {})) => follow(&mut stream, publications).await,
        Ok(Some(Request::Status {})) => match spawn_blocking(move || status()).await {
            Ok(status) => answer(&mut stream, &Answer::Status(status)).await,
            Err(error) => refuse(&mut stream, format!("the agent failed to tell its status: {error}")).await,
        },
        Err(LineError::Io(error)) => Err(error.into()),
        Err(error) => {
            refuse(&mut stream, format!("{error}; requests are {{\"follow\":{{}}}} and {{\"status\":{{}}}}")).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("a client of the agent's socket went away: {error}");
    }
}

async fn next_request(stream: &mut BufReader<UnixStream>) -> Result<Option<Request>, LineError> {
    timeout(CLIENT_TIMEOUT, line::read(stream, MAX_REQUEST_BYTES)).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn follow(
    stream: &mut BufReader<UnixStream>,
    mut publications: watch::Receiver<Arc<Publication>>,
) -> Result<(), LineError> {
    loop {
        let publication = Publication::clone(&publications.borrow_and_update());
        answer(stream, &Answer::Publication(publication)).await?;
        tokio::select! {
            changed = publications.changed() => if changed.is_err() {
                return Ok(());
            },
            // A follower has nothing more to say: whatever arrives, the end or a byte, ends it.
            read = stream.fill_buf() => return read.map(|_| ()).map_err(Into::into),
        }
    }
}

async fn answer(stream: &mut BufReader<UnixStream>, answer: &Answer) -> Result<(), LineError> {
    timeout(CLIENT_TIMEOUT, line::write(stream, answer)).await.unwrap_or_else(|_| Err(too_slow()))
}

async fn refuse(stream: &mut BufReader<UnixStream>, message: String) -> Result<(), LineError> {
    answer(stream, &Answer::Error { message }).await
}

fn too_slow() -> LineError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
