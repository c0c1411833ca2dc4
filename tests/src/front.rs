//! `ringsteer push` on the lab's pusher: a host that has no virtual address itself, so that the nodes' kernels steer what
//! it sends.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{
    fleet::{self, Fleet, PUSH_TOKEN},
    lab::{Family, Lab, Process},
};

/// Where it takes batches over HTTP.
pub const HTTP_PORT: u16 = 10_010;

/// Where it takes pushes as OpenIM's services make them.
pub const RPC_PORT: u16 = 10_011;

/// Where it serves its metrics, unless configured otherwise.
pub const METRICS_PORT: u16 = 9602;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// Starts it, with these keys in its table `[front]` beside those that say where it is; waits until it takes pushes. It shows
/// the gateways [`PUSH_TOKEN`], and wants to be shown that.
///
/// # Errors
/// If it does not start.
pub fn start(lab: &Lab, fleet: &Fleet<'_>, family: Family, keys: &str) -> Result<Process> {
    let host = lab.pusher();
    let here = host.address(family);
    let text = format!(
        r#"
[node]
name = "front"
identity = "front:88"
interfaces = ["eth0"]
socket = "{}"
[secrets]
current = "6c6162206f6e6c792c206e6f74207365"
[ring]
epoch = 1
members = [{{ number = 1, identity = "front:88", address = "{here}" }}]
[push]
tokens = ["{PUSH_TOKEN}"]
[front]
http = "{}"
grpc = "{}"
{keys}
"#,
        fleet.socket(0).display(),
        SocketAddr::new(here, HTTP_PORT),
        SocketAddr::new(here, RPC_PORT),
    );
    fs::write(host.run_dir().join("push.toml"), text)?;
    let front = host.spawn_command("push", fleet::command(host, "push")?)?;
    front.wait_for_log_line("taking pushes over gRPC", READY)?;
    front.wait_for_log_line("following ring", READY)?;
    Ok(front)
}
