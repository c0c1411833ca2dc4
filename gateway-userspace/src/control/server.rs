//! The agent's side: takes connections, and sends whoever asks to the one place that answers.

use std::{any::Any, future::Future, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWrite, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    gateways::{Gateways, Place},
    line::{self, LineError, MAX_REPORT_BYTES, MAX_REQUEST_BYTES},
    message::{Answer, Introduction, Publication, Question, Request, Told},
};

/// Most connections at once. A gateway holds one, a CLI one for a moment.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take for its request, or for taking an answer off the socket.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to leave a listener alone that cannot accept, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers that may wait for a client to take them off the socket.
const ANSWERS_AHEAD: usize = 2;

/// What is published, once something is.
pub type Publications = watch::Receiver<Option<Arc<Publication>>>;

/// Where answers go. Sending fails once nobody waits for them any more.
pub type Answers = mpsc::Sender<Answer>;

/// The one place that answers everything but `follow` and `attach`.
pub trait Desk: Send + Sync + 'static {
    /// Answers `request` into `answers`, one or several times. The connection ends when `answers` is dropped.
    fn answer(self: Arc<Self>, request: Request, answers: Answers) -> BoxFuture<'static, ()>;
}

/// What the server hands out.
pub struct Served<D> {
    /// To followers: the present publication and then each new one, though not necessarily every one in between.
    pub publications: Publications,
    /// Answers.
    pub desk: Arc<D>,
    /// Knows the gateways that have attached.
    pub gateways: Arc<Gateways>,
}

// === impl Served ===

impl<D> Clone for Served<D> {
    fn clone(&self) -> Self {
        Self {
            publications: self.publications.clone(),
            desk: Arc::clone(&self.desk),
            gateways: Arc::clone(&self.gateways),
        }
    }
}

/// Answers requests on `listener` until `shutdown` completes.
pub async fn serve<D: Desk>(listener: UnixListener, served: Served<D>, shutdown: impl Future<Output = ()>) {
    // Dropped at the end, which ends the connections.
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(connection(stream, served.clone()));
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

async fn connection<D: Desk>(stream: UnixStream, served: Served<D>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let outcome = loop {
        break match next_request(&mut reader).await {
            Ok(None) => Ok(()),
            Ok(Some(Request::Follow {})) => follow(reader, writer, served.publications).await,
            Ok(Some(Request::Attach(introduction))) => attach(reader, writer, served, introduction).await,
            Ok(Some(request)) => {
                // Who moves connections has more to ask, and is in a hurry.
                let more = matches!(request, Request::Moves(_));
                match ask(&mut writer, Arc::clone(&served.desk), request).await {
                    Ok(()) if more => continue,
                    outcome => outcome,
                }
            }
            Err(LineError::Io(error)) => Err(error.into()),
            Err(error) => {
                let message = format!("{error}; requests look like {{\"status\":{{}}}}");
                answer(&mut writer, &Answer::Error { message }).await
            }
        };
    };
    if let Err(error) = outcome {
        tracing::debug!("a client of the agent's socket went away: {error}");
    }
}

async fn next_request(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, LineError> {
    timeout(CLIENT_TIMEOUT, line::read(reader, MAX_REQUEST_BYTES)).await.unwrap_or_else(|_| Err(too_slow()))
}

/// Has the desk answer. That the client has gone is found out when it is sent something: one that has only ended its
/// own side still listens.
async fn ask<D: Desk>(writer: &mut OwnedWriteHalf, desk: Arc<D>, request: Request) -> Result<(), LineError> {
    let (answers, answered) = mpsc::channel(ANSWERS_AHEAD);
    // In this task, that a short answer waits for no other; one that panics is still answered.
    let at_work = AssertUnwindSafe(desk.answer(request, answers)).catch_unwind();
    let written = async {
        // Whoever answers hears that nobody listens any more.
        let mut answered = answered;
        while let Some(next) = answered.recv().await {
            answer(writer, &next).await?;
        }
        Ok::<_, LineError>(())
    };
    let (worked, written) = tokio::join!(at_work, written);
    written?;
    match worked {
        Ok(()) => Ok(()),
        Err(panic) => {
            let message = format!("the agent failed to answer: {}", what(&*panic));
            answer(writer, &Answer::Error { message }).await
        }
    }
}

/// What a panic says.
fn what(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason is given")
}

async fn follow(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    publications: Publications,
) -> Result<(), LineError> {
    tokio::select! {
        ended = publish(&mut writer, publications, None) => ended,
        // A follower has nothing more to say: whatever arrives, the end or a byte, ends it.
        read = reader.fill_buf() => read.map(|_| ()).map_err(Into::into),
    }
}

/// Publishes to a gateway, asks it, and hears what it reports.
async fn attach<D>(
    reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    served: Served<D>,
    introduction: Introduction,
) -> Result<(), LineError> {
    let (place, questions) = served.gateways.admit(introduction);
    tokio::select! {
        ended = publish(&mut writer, served.publications, Some(questions)) => ended,
        ended = hear(reader, &place) => ended,
    }
}

/// Takes down what a gateway says, until it hangs up.
async fn hear(mut reader: BufReader<OwnedReadHalf>, place: &Place) -> Result<(), LineError> {
    while let Some(told) = line::read::<Told>(&mut reader, MAX_REPORT_BYTES).await? {
        place.hear(told);
    }
    Ok(())
}

/// Sends each publication, and questions where there are any, until one of the senders is gone.
async fn publish(
    writer: &mut (impl AsyncWrite + Unpin),
    mut publications: Publications,
    mut questions: Option<mpsc::Receiver<Question>>,
) -> Result<(), LineError> {
    publications.mark_changed();
    loop {
        tokio::select! {
            changed = publications.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let publication = publications.borrow_and_update().clone();
                if let Some(publication) = publication {
                    answer(writer, &Answer::Publication(Publication::clone(&publication))).await?;
                }
            }
            Some(question) = next_question(&mut questions) => answer(writer, &Answer::Question(question)).await?,
        }
    }
}

async fn next_question(questions: &mut Option<mpsc::Receiver<Question>>) -> Option<Question> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

async fn answer(writer: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> Result<(), LineError> {
    timeout(CLIENT_TIMEOUT, line::write(writer, answer)).await.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> LineError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
