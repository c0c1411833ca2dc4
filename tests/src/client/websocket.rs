//! A websocket, opened with a request of the caller's making.

use super::{Answer, Pace, leave, within_limit, write_chunks};
use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

/// What a request for a websocket led to.
#[derive(Debug)]
pub enum Opening {
    /// 101.
    Open(Box<Connection>),
    /// Anything else.
    Refused(Answer),
}

/// An open websocket.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
}

/// Sends a request, whole or in pieces that have a segment each, and reads the answer.
///
/// # Errors
/// If the connection breaks, there is no answer within [`LIMIT`](super::LIMIT), or a 101 does not fit the request.
pub async fn open(stream: TcpStream, request: &[&[u8]]) -> Result<Opening> {
    open_paced(stream, request, Pace::Sent).await
}

/// As [`open`], with a choice of what to wait for between two pieces.
///
/// # Errors
/// As [`open`].
pub async fn open_paced(mut stream: TcpStream, request: &[&[u8]], pace: Pace) -> Result<Opening> {
    write_chunks(&mut stream, request, pace).await?;
    let (answer, rest) =
        within_limit(Answer::read(&mut stream), || "waiting for the answer to a handshake".into()).await?;
    if answer.status != 101 {
        return Ok(Opening::Refused(answer));
    }
    if let Some(key) = key_of(&request.concat()) {
        let accept = answer.header("sec-websocket-accept");
        ensure!(accept == Some(&derive_accept_key(&key)), "Sec-WebSocket-Accept is {accept:?}, wrong for our key");
    }
    let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
    Ok(Opening::Open(Box::new(Connection { socket })))
}

/// The value of `Sec-WebSocket-Key` in a request.
fn key_of(request: &[u8]) -> Option<Vec<u8>> {
    let mut lines = request.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.eq_ignore_ascii_case(b"sec-websocket-key").then(|| value.trim_ascii().to_vec())
    })
}

// === impl Opening ===

impl Opening {
    /// The connection.
    ///
    /// # Errors
    /// If there is none; the message carries the answer.
    pub fn connection(self) -> Result<Connection> {
        match self {
            Self::Open(connection) => Ok(*connection),
            Self::Refused(answer) => {
                bail!("refused with {}: {:?}", answer.status, String::from_utf8_lossy(&answer.body))
            }
        }
    }

    /// The answer to a refused request.
    ///
    /// # Errors
    /// If it was not refused.
    pub fn refusal(self) -> Result<Answer> {
        match self {
            Self::Open(_) => bail!("opened, not refused"),
            Self::Refused(answer) => Ok(answer),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is broken, or its buffers stay full for [`LIMIT`](super::LIMIT).
    pub async fn send(&mut self, message: Message) -> Result<()> {
        within_limit(self.socket.send(message), || "sending a message".into()).await
    }

    /// Receives the next message, pings and pongs included.
    ///
    /// # Errors
    /// If the connection is closed or broken, or there is none within [`LIMIT`](super::LIMIT).
    pub async fn receive(&mut self) -> Result<Message> {
        let step = async { self.socket.next().await.context("closed")?.context("broken") };
        within_limit(step, || "waiting for a message".into()).await
    }

    /// Sends a message and waits for the same one to come back.
    ///
    /// # Errors
    /// As [`send`](Self::send) and [`receive`](Self::receive), or if another one comes.
    pub async fn echo(&mut self, message: Message) -> Result<()> {
        self.send(message.clone()).await?;
        let answer = self.receive().await?;
        ensure!(answer == message, "sent {message:?}, received {answer:?}");
        Ok(())
    }

    /// Closes the websocket in order, waits for the other side to do so, and then [leaves](super::leave) the
    /// connection.
    ///
    /// # Errors
    /// If the other side sends no close frame within [`LIMIT`](super::LIMIT), or breaks the connection first.
    pub async fn close(mut self) -> Result<()> {
        let step = async {
            self.socket.close(None).await?;
            while let Some(message) = self.socket.next().await {
                message?;
            }
            anyhow::Ok(())
        };
        within_limit(step, || "closing a websocket".into()).await?;
        leave(self.into_stream()).await
    }

    /// The TCP connection under it.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// The TCP connection under it; frames half read are lost.
    pub fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }
}
