//! A client that closes in order, to the very end.

use super::within_limit;
use anyhow::Result;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;

/// Closes a connection and waits until the kernel needs its port no longer for it: each side has acknowledged the
/// other's FIN. What still comes is read and forgotten.
///
/// Until then the port can't be bound to the same two addresses again: `__inet_check_established` of the kernel passes
/// over a connection in TIME_WAIT, but not over one whose FIN is still on its way, and connect(2) says EADDRNOTAVAIL.
///
/// # Errors
/// If the other side breaks the connection, or does not close within [`LIMIT`](super::LIMIT).
pub async fn leave(mut stream: TcpStream) -> Result<()> {
    let step = async {
        // A websocket library may have done that already.
        match stream.shutdown().await {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            outcome => outcome?,
        }
        copy(&mut stream, &mut sink()).await?;
        // Of the last acknowledgement a program hears nothing; but from then on there is no peer (`inet_getname`).
        while stream.peer_addr().is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok::<_, io::Error>(())
    };
    within_limit(step, || "closing a connection".into()).await
}
