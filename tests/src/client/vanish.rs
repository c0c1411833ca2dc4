//! A client that is gone without a word, as when its battery is empty.

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::AsFd;

/// Closes a connection without FIN or RST. Whatever the other side sends to it afterwards is answered by RST, unless the
/// host is cut off, too.
///
/// # Errors
/// If the process lacks CAP_NET_ADMIN.
pub fn vanish(stream: impl AsFd) -> Result<()> {
    // A socket under repair closes silently.
    setsockopt(&stream, sockopt::TcpRepair, &1).context("setting TCP_REPAIR")?;
    drop(stream);
    Ok(())
}
