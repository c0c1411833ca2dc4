//! Third-party websocket clients that talk to an echo without a pause, each in a process on a host of the lab:
//! `tests/ws/echo.py` with Debian's python3-websockets, `tests/ws/echo.mjs` with npm's ws. They compare what comes back
//! with what they have sent.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{lab::Host, puppet::Puppet};

/// How many messages a client has under way.
const AHEAD: usize = 2;

/// Whose client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// Python's websockets.
    Python,
    /// ws for Node.
    Node,
}

/// A client that talks.
pub struct Echoing(Puppet);

impl Echoing {
    /// Starts a client as `user`, by whose name its log goes; returns when it is connected. With `deflate` it insists on
    /// compressing its messages, and hearing them compressed.
    ///
    /// # Errors
    /// If it cannot be started, or does not get in.
    pub fn start(
        host: &Host,
        library: Library,
        user: &str,
        gateway: SocketAddr,
        seed: u64,
        deflate: bool,
    ) -> Result<Self> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("ws");
        let mut command = match library {
            Library::Python => {
                // Debian's interpreter: the package belongs to it.
                let mut command = Command::new("/usr/bin/python3");
                command.arg(scripts.join("echo.py"));
                command
            }
            Library::Node => {
                let packages = std::env::var_os("RINGSTEER_WS")
                    .context("RINGSTEER_WS is not set: run this through `cargo xtask`, which installs ws")?;
                let mut command = Command::new("node");
                command.arg(scripts.join("echo.mjs")).arg(packages);
                command
            }
        };
        command.arg(format!("ws://{gateway}/?sendID={user}")).arg(seed.to_string());
        command.arg(if deflate { "deflate" } else { "plain" });
        let mut client = Self(Puppet::start(host, user, command)?);
        client.wait_for("that it is connected", |event| !event["open"].is_null())?;
        Ok(client)
    }

    /// Waits until a message has come back that was sent after this was called.
    ///
    /// # Errors
    /// If none does, or something else happens.
    pub fn wait_for_echo(&mut self) -> Result<()> {
        self.0.forget_unread_but(|event| !event["failed"].is_null());
        (0..=AHEAD).try_for_each(|_| self.wait_for("an echo", |event| !event["heard"].is_null()).map(drop))
    }

    /// Has it end, once everything is back; gives how many messages that were.
    ///
    /// # Errors
    /// If something did not come back, or not as it was, or the connection ended before, or not in order.
    pub fn end(mut self) -> Result<u64> {
        self.0.end_input();
        let end = self.wait_for("the end", |event| !event["closed"].is_null())?;
        ensure!(end["closed"] == 1000, "{end}");
        end["heard"].as_u64().with_context(|| format!("{end} does not say how many"))
    }

    fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let event = self.0.wait_for(what, |event| is_it(event) || !event["failed"].is_null())?;
        if !event["failed"].is_null() {
            bail!("{event} instead of {what}; {}", self.0.end_of_log());
        }
        Ok(event)
    }
}
