//! Writing a request in pieces, each in a segment of its own.

use super::within_limit;
use anyhow::{Result, ensure};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Between two questions to the kernel, which has no event for the answer.
const ASK_AGAIN: Duration = Duration::from_micros(200);

/// What to wait for between two pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The piece has left as a segment; it may still be lost and sent again together with the next one.
    Sent,
    /// The piece has been acknowledged. Slow for many pieces: the other side may wait 40 ms for each.
    Acknowledged,
}

nix::ioctl_read_bad!(
    /// Bytes not acknowledged.
    unacknowledged,
    libc::TIOCOUTQ,
    libc::c_int
);

nix::ioctl_read_bad!(
    /// Bytes not sent (SIOCOUTQNSD, from linux/sockios.h).
    unsent,
    0x894B,
    libc::c_int
);

/// Writes the pieces; none shares a segment with another, unless one is lost. The stream must have TCP_NODELAY set.
///
/// # Errors
/// If the connection breaks, or a piece takes longer than [`LIMIT`](super::LIMIT).
pub async fn write_chunks(stream: &mut TcpStream, chunks: &[&[u8]], pace: Pace) -> Result<()> {
    ensure!(stream.nodelay()?, "the pieces need TCP_NODELAY to stay apart");
    for (number, chunk) in chunks.iter().enumerate() {
        let step = async {
            stream.write_all(chunk).await?;
            while waiting(stream, pace)? > 0 {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            io::Result::Ok(())
        };
        within_limit(step, || format!("writing piece {number} of {}", chunks.len())).await?;
    }
    Ok(())
}

/// The bytes that the kernel still has to send, or to hear of.
fn waiting(stream: &TcpStream, pace: Pace) -> io::Result<libc::c_int> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open while the stream is borrowed, and both requests write one int.
    unsafe {
        match pace {
            Pace::Sent => unsent(stream.as_raw_fd(), &mut bytes),
            Pace::Acknowledged => unacknowledged(stream.as_raw_fd(), &mut bytes),
        }
    }?;
    // A broken connection keeps its bytes for ever.
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(bytes),
    }
}
