//! A real etcd on a host of the lab, for fleets that keep their members there.

use super::{Family, Host, Process};
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// The port for clients, the one that etcd has by default: each host has its own ports.
const PORT: u16 = 2379;

/// The port for other members, of which there are none.
const PEER_PORT: u16 = 2380;

/// How long it may take to be ready, or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// An etcd of one member, without authentication. Its data lie in the host's run directory. It ends with the lab, at the
/// latest.
pub struct Etcd {
    host: Host,
    process: Process,
}

// === impl Etcd ===

impl Etcd {
    /// Starts one on a host, with an empty store, and waits until it serves. It listens on both addresses of the host,
    /// and on loopback.
    ///
    /// # Errors
    /// If etcd is not installed, there is one on the host already, or it does not come up; the message carries its log.
    pub fn start(host: &Host) -> Result<Self> {
        let url = |address: SocketAddr| format!("http://{address}");
        let own = host.addresses().each().map(|address| url((address, PORT).into()));
        let peers = url(([127, 0, 0, 1], PEER_PORT).into());
        let mut command = Command::new("etcd");
        command
            .args(["--name", "lab", "--data-dir"])
            .arg(host.run_dir().join("etcd"))
            .arg("--listen-client-urls")
            .arg(format!("{},http://127.0.0.1:{PORT}", own.join(",")))
            .args(["--advertise-client-urls", &own.join(",")])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("lab={peers}")])
            // It elects itself soon, and grants leases of one second; by default two are the least.
            .args(["--heartbeat-interval", "20", "--election-timeout", "200"]);
        let process = host.spawn_command("etcd", command).context("etcd is in Debian's package etcd-server")?;
        let etcd = Self { host: host.clone(), process };
        etcd.ready()?;
        Ok(etcd)
    }

    /// Where clients on other hosts reach it, as a URL.
    pub fn endpoint(&self, family: Family) -> String {
        format!("http://{}", SocketAddr::new(self.host.address(family), PORT))
    }

    /// The process, to be frozen (SIGSTOP), say.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it in order (SIGTERM).
    ///
    /// # Errors
    /// If it takes longer than a minute.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.process.terminate(LIMIT)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// If it does not die.
    pub fn kill(&self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again with the data it has, after killing it where it runs, and waits until it serves.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<()> {
        self.process.restart()?;
        self.ready()
    }

    fn ready(&self) -> Result<()> {
        self.process.wait_for_log_line("ready to serve client requests", LIMIT).map(drop)
    }
}
