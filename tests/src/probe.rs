//! One websocket connection, as a test makes it: an ordinary kernel TCP socket with the options the test wants, and the
//! request in the pieces the test wants.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use crate::lab::Family;

/// How long a test waits for an answer. Not a measure of speed: whoever needs longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What is special about a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The local port, also if an older connection still holds it in the kernel.
    pub source_port: Option<u16>,
    /// The largest segment, in bytes.
    pub mss: Option<u32>,
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
    stream: TcpStream,
}

/// The websocket request of a user, as the native SDK sends it.
pub fn request(user: &str) -> Vec<u8> {
    format!(
        "GET /?sendID={user}&token=t&platformID=1&operationID=o HTTP/1.1\r\nHost: im\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

impl Probe {
    /// Connects. Must run on the host that is to be the client.
    pub fn connect(address: SocketAddr, options: Options) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(port) = options.source_port {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(Family::of(address.ip()).unspecified(), port).into())?;
        }
        if let Some(mss) = options.mss {
            socket.set_tcp_mss(mss)?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Connects and upgrades as `user`; anything but 101 is an error.
    pub fn open(address: SocketAddr, user: &str, options: Options) -> Result<Self> {
        let mut probe = Self::connect(address, options).with_context(|| format!("{user} cannot connect"))?;
        match probe.ask(&[&request(user)])? {
            Outcome::Upgraded => Ok(probe),
            other => bail!("{user} was answered {other:?}"),
        }
    }

    /// Sends the pieces, each in a segment of its own, and reads the head of the answer.
    pub fn ask(&mut self, pieces: &[&[u8]]) -> Result<Outcome> {
        let exchange = |stream: &mut TcpStream| {
            for piece in pieces {
                stream.write_all(piece)?;
            }
            let mut head = Vec::new();
            // Byte by byte, so that nothing behind the head is taken along.
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte)? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                head.push(byte[0]);
            }
            Ok(head)
        };
        match exchange(&mut self.stream) {
            Ok(head) => match std::str::from_utf8(&head)?.split(' ').nth(1).and_then(|status| status.parse().ok()) {
                Some(101) => Ok(Outcome::Upgraded),
                Some(status) => Ok(Outcome::Refused(status)),
                None => bail!("not an HTTP answer: {}", head.escape_ascii()),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Ok(Outcome::Reset)
            }
            Err(error) => Err(error).context("no answer"),
        }
    }

    /// Sends a binary message of `length` bytes and checks that the very same comes back.
    pub fn echo(&mut self, length: usize) -> Result<()> {
        let payload: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => bail!("longer than this client sends"),
        }
        // A mask of zeros leaves the payload as it is.
        frame.extend([0; 4]);
        frame.extend(&payload);
        self.stream.write_all(&frame).context("sending a message")?;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).context("waiting for the echo")?;
        let answered = match head[1] {
            126 => {
                let mut extended = [0; 2];
                self.stream.read_exact(&mut extended)?;
                u16::from_be_bytes(extended) as usize
            }
            short => short as usize,
        };
        let mut echoed = vec![0; answered];
        self.stream.read_exact(&mut echoed).context("reading the echo")?;
        if head[0] != 0x82 || echoed != payload {
            bail!("{length} bytes came back as {answered} others");
        }
        Ok(())
    }

    /// Reads a short text message.
    pub fn text(&mut self) -> Result<String> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).context("waiting for a message")?;
        if head[0] != 0x81 || head[1] > 125 {
            bail!("not a short text message: {head:02x?}");
        }
        let mut text = vec![0; head[1].into()];
        self.stream.read_exact(&mut text)?;
        Ok(String::from_utf8(text)?)
    }

    /// Waits for the connection to end, without a word, and gives how it ended: none if in order.
    ///
    /// # Errors
    /// If something is said instead, or nothing happens.
    pub fn wait_for_end(&mut self) -> Result<Option<io::ErrorKind>> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(None),
            Ok(_) => bail!("the other side said something"),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                bail!("the connection did not end")
            }
            Err(error) => Ok(Some(error.kind())),
        }
    }

    /// The local port.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().map_or(0, |address| address.port())
    }

    /// Closes with RST.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Asks the gateway to close, and waits until it has: the gateway's end then stays in TIME_WAIT.
    pub fn close_by_server(mut self) -> io::Result<()> {
        self.stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])?;
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(drop)
    }

    /// Vanishes without a word to the other side: a socket in repair mode closes in silence.
    pub fn vanish(self) -> nix::Result<()> {
        let on: libc::c_int = 1;
        // SAFETY: the option's value is an int, and as long as we say.
        let result = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&self.stream),
                libc::IPPROTO_TCP,
                libc::TCP_REPAIR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        nix::errno::Errno::result(result).map(drop)
    }
}
