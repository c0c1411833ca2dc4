//! The ways to one gateway, and what has to be set up for each.

use anyhow::{Context as _, Result};
use std::{fmt, fs, net::SocketAddr, process::Command, time::Duration};

use crate::{
    fleet::{DIRECT_WEBSOCKET_PORT, Fleet},
    lab::{Detour, Lab, Process},
};

/// Every way ends at this node's gateway.
pub const OWNER: usize = 1;

/// The edge that the owner is reached through.
const EDGE: usize = 0;

/// HAProxy's port, on the edge.
const PROXY_PORT: u16 = 10_080;

/// How a message gets to the gateway. The answer takes the shortest way back, but through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the gateway's own address: client, router, owner.
    Direct,
    /// To the virtual address, with the owner for an edge: the same hosts, the kernel program, no tunnel.
    SteeredHere,
    /// To the gateway's own address, through one more host that forwards by its routing table: client, router, that
    /// host, owner. What the way costs by itself.
    Routed,
    /// To the virtual address: client, router, edge, the tunnel, owner.
    Steered,
    /// Through HAProxy on the edge's node, which picks the backend by `url_param sendID`.
    Proxied,
}

/// A way while it can be taken.
pub struct Open {
    /// Where the client connects to.
    pub address: SocketAddr,
    /// Gone, and the shortest way is taken again.
    _detour: Option<Detour>,
}

// === impl Way ===

impl Way {
    /// In the order of the table.
    pub const ALL: [Self; 5] = [Self::Direct, Self::SteeredHere, Self::Routed, Self::Steered, Self::Proxied];

    /// Makes it passable, until what is returned is dropped.
    pub fn open(self, fleet: &Fleet<'_>) -> Result<Open> {
        let lab = fleet.lab;
        let owner = lab.node(OWNER);
        let direct = (owner.v4(), DIRECT_WEBSOCKET_PORT).into();
        let straight = |address| Ok(Open { address, _detour: None });
        match self {
            Self::Direct => straight(direct),
            Self::Routed => Ok(Open { address: direct, _detour: Some(lab.detour(owner, lab.store(0))?) }),
            Self::SteeredHere | Self::Steered => {
                lab.route_virtual_to(if self == Self::Steered { EDGE } else { OWNER })?;
                straight(fleet.websocket())
            }
            Self::Proxied => straight(proxy(lab)),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::SteeredHere => "steered, edge = owner",
            Self::Routed => "routed",
            Self::Steered => "steered",
            Self::Proxied => "HAProxy",
        })
    }
}

/// Where HAProxy listens.
pub fn proxy(lab: &Lab) -> SocketAddr {
    (lab.node(EDGE).v4(), PROXY_PORT).into()
}

/// Starts HAProxy in front of all gateways, as one would place it for OpenIM, and waits until it listens.
pub fn start_proxy(lab: &Lab) -> Result<Process> {
    let edge = lab.node(EDGE);
    let servers: String = lab
        .nodes()
        .iter()
        .map(|node| format!("    server {} {}:{DIRECT_WEBSOCKET_PORT}\n", node.name(), node.v4()))
        .collect();
    let configuration = format!(
        "global\n    log stderr format raw local0 notice\n    stats timeout 10s\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    timeout tunnel 1h\n\
         listen websockets\n    bind {}\n    balance url_param sendID\n    hash-type consistent\n{servers}",
        proxy(lab)
    );
    let path = edge.run_dir().join("haproxy.cfg");
    fs::write(&path, configuration)?;
    let mut haproxy = Command::new("haproxy");
    haproxy.arg("-db").arg("-f").arg(&path);
    let process = edge.spawn_command("haproxy", haproxy)?;
    listening(lab)?;
    Ok(process)
}

/// Waits until HAProxy listens: it says nothing when it does.
fn listening(lab: &Lab) -> Result<()> {
    let address = proxy(lab);
    lab.client(0).block_on(async {
        let dialling = async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), dialling)
            .await
            .with_context(|| format!("HAProxy does not listen on {address}"))
    })
}
