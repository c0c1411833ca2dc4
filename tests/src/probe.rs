//! One websocket connection, as a test makes it that waits for each step: a [`client`](crate::client) behind calls that
//! block.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{net::TcpStream, runtime, time::timeout};

use crate::client::{Connection, Dial, LIMIT, Message, Opening, open, vanish};

/// What is special about a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The local port, also if an older connection still holds it in the kernel.
    pub source_port: Option<u16>,
    /// The largest segment, in bytes.
    pub mss: Option<u16>,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 101 from the named node: the gateway says in its answer to a push which one it is; here the status is enough.
    Upgraded,
    /// Another status.
    Refused(u16),
    /// The connection was reset.
    Reset,
}

/// A websocket connection.
pub struct Probe {
    /// Each has its own, so that a probe can be made on one host of the lab and used wherever the test is.
    runtime: runtime::Runtime,
    local: SocketAddr,
    state: State,
}

enum State {
    /// Nothing asked yet.
    Dialled(TcpStream),
    Open(Box<Connection>),
    /// Refused or reset.
    Over,
}

/// The websocket request of a user, as short as can be: tests cut it at every byte.
pub fn request(user: &str) -> Vec<u8> {
    format!(
        "GET /?sendID={user}&token=t&platformID=1&operationID=o HTTP/1.1\r\nHost: im\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

impl Probe {
    /// Connects. Must run on the host that is to be the client.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    pub fn connect(address: SocketAddr, options: Options) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("making a runtime")?;
        let mut dial = Dial::new(address).max_segment(options.mss);
        if let Some(port) = options.source_port {
            dial = dial.source_port(port);
        }
        let stream = runtime.block_on(dial.connect())?;
        let local = stream.local_addr().context("asking for the local address")?;
        Ok(Self { runtime, local, state: State::Dialled(stream) })
    }

    /// Connects and upgrades as `user`; anything but 101 is an error.
    ///
    /// # Errors
    /// As [`connect`](Self::connect) and [`ask`](Self::ask), or if the answer is another one.
    pub fn open(address: SocketAddr, user: &str, options: Options) -> Result<Self> {
        let mut probe = Self::connect(address, options).with_context(|| format!("{user} cannot connect"))?;
        match probe.ask(&[&request(user)])? {
            Outcome::Upgraded => Ok(probe),
            other => bail!("{user} was answered {other:?}"),
        }
    }

    /// Sends the pieces, each in a segment of its own, and reads the answer. A connection is asked once.
    ///
    /// # Errors
    /// If there is no answer, or none that is HTTP.
    pub fn ask(&mut self, pieces: &[&[u8]]) -> Result<Outcome> {
        let State::Dialled(stream) = std::mem::replace(&mut self.state, State::Over) else {
            bail!("this connection has had its answer");
        };
        match self.runtime.block_on(open(stream, pieces)) {
            Ok(Opening::Open(connection)) => {
                self.state = State::Open(connection);
                Ok(Outcome::Upgraded)
            }
            Ok(Opening::Refused(answer)) => Ok(Outcome::Refused(answer.status)),
            Err(error) if is_reset(&error) => Ok(Outcome::Reset),
            Err(error) => Err(error).context("no answer"),
        }
    }

    /// Sends a binary message of `length` bytes and checks that the very same comes back.
    ///
    /// # Errors
    /// If another one comes, or none.
    pub fn echo(&mut self, length: usize) -> Result<()> {
        let payload: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        let connection = connection(&mut self.state)?;
        let echo = connection.echo(Message::binary(payload));
        self.runtime.block_on(echo).with_context(|| format!("a message of {length} bytes"))
    }

    /// Reads a text message.
    ///
    /// # Errors
    /// If another one comes, or none.
    pub fn text(&mut self) -> Result<String> {
        let connection = connection(&mut self.state)?;
        match self.runtime.block_on(connection.receive())? {
            Message::Text(text) => Ok(text.to_string()),
            other => bail!("not a text message: {other:?}"),
        }
    }

    /// Waits for the connection to end, without a word, and gives how it ended: none if in order.
    ///
    /// # Errors
    /// If something is said instead, or nothing happens.
    pub fn wait_for_end(&mut self) -> Result<Option<io::ErrorKind>> {
        let stream = connection(&mut self.state)?.stream();
        let end = async {
            loop {
                stream.readable().await?;
                match stream.try_read(&mut [0]) {
                    Ok(0) => return Ok(None),
                    Ok(_) => bail!("the other side said something"),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Ok(Some(error.kind())),
                }
            }
        };
        self.runtime.block_on(async { timeout(LIMIT, end).await.context("the connection did not end")? })
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Closes with RST.
    ///
    /// # Errors
    /// If there is no connection any more, or the kernel refuses.
    pub fn reset(self) -> Result<()> {
        let stream = self.into_stream()?;
        Ok(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?)
    }

    /// Asks the gateway to close, and waits until it has: the gateway's end then stays in TIME_WAIT.
    ///
    /// # Errors
    /// If there is no websocket, or the gateway does not close it.
    pub fn close_by_server(self) -> Result<()> {
        let State::Open(connection) = self.state else { bail!("there is no websocket to close") };
        self.runtime.block_on(connection.close())
    }

    /// Vanishes without a word to the other side.
    ///
    /// # Errors
    /// If there is no connection any more, or the kernel refuses.
    pub fn vanish(self) -> Result<()> {
        let stream = self.into_stream()?;
        vanish(stream)
    }

    fn into_stream(self) -> Result<std::net::TcpStream> {
        let stream = match self.state {
            State::Dialled(stream) => stream,
            State::Open(connection) => connection.into_stream(),
            State::Over => bail!("the connection is over"),
        };
        Ok(stream.into_std()?)
    }
}

fn connection(state: &mut State) -> Result<&mut Connection> {
    let State::Open(connection) = state else { bail!("there is no websocket") };
    Ok(connection)
}

/// Whether the other side, or somebody in its name, has reset the connection.
fn is_reset(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}
