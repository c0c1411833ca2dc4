//! Looking at the host. Each probe gives what it found, or says why it could not look; none changes anything.
//!
//! | file | subject | by |
//! |---|---|---|
//! | `kernel` | version, types, options | `/proc`, BTF |
//! | `network` | interfaces, addresses, routes, neighbours | rtnetlink |
//! | `driver` | what a network card's driver tells | ethtool, netdev netlink |
//! | `sockets` | listeners and whose they are | sock_diag netlink, `/proc` |
//! | `peers` | the other agents | TCP |
//! | `system` | settings, clock, capabilities, files | `/proc`, system calls |
//! | `firewall` | rules | `nft`, `iptables-save` |
//! | `netlink` | the wire format of the two netlink families that have no library here | |
//!
//! Nothing is read from `/sys/class/net`: what is mounted there may belong to another network namespace.

mod driver;
mod firewall;
mod kernel;
mod netlink;
mod network;
mod peers;
mod sockets;
pub(super) mod system;

use std::path::Path;

use super::{
    checks,
    facts::{Agent, Configuration, Fact, Facts, NodePath, PeerAnswer, PeerView, Pins, Running, Unknown},
    subject::{Node, Subject},
};
use crate::{
    control::{self, ClientError},
    dataplane::inspect,
    ring::Ring,
};

/// All facts about this host that matter to `subject`.
pub async fn all(subject: &Subject, configuration: Configuration, agent: Agent) -> Facts {
    let node = subject.node.as_ref();
    // First, for it makes the kernel ask for the next hops.
    let answers = match node {
        Some(node) => peers::ask(node.others().map(|member| member.address), node.peer_port).await,
        None => Vec::new(),
    };
    let mut network = network::Network::read().await;
    if let (Some(node), Ok(interfaces)) = (node, &mut network.interfaces) {
        for one in interfaces.iter_mut().filter(|one| node.interfaces.contains(&one.name)) {
            one.driver = Some(driver::read(&one.name, one.index));
        }
    }
    let names = settings(&network);
    let (pin_dir, ports) = (subject.pin_dir.clone(), ports(node));
    // Reading the kernel's types, walking /proc and running tools takes a while: on a thread where it may.
    let slow = tokio::task::spawn_blocking(move || {
        (kernel::read(), pins(&pin_dir), sockets::listeners(), firewall::dangers(&ports))
    });
    let (kernel, pins, listeners, firewall) = slow.await.expect("a probe does not panic");
    let nodes = match node {
        Some(node) => nodes(node, answers, &network).await,
        None => Vec::new(),
    };
    Facts {
        configuration,
        kernel,
        capabilities: system::capabilities("self"),
        pins,
        learnt_routes: system::learnt_routes(),
        settings: system::settings(names),
        listeners,
        nodes,
        clock: system::clock(),
        private_files: node.map_or_else(Vec::new, |node| node.private_files.iter().map(system::readability).collect()),
        firewall,
        agent,
        interfaces: network.interfaces,
        addresses: network.addresses,
        routes: network.routes,
    }
}

/// The agent that listens there, if one does.
pub async fn agent(socket: &Path) -> Agent {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let mut agent = Agent { socket: socket.to_owned(), running: Ok(None), capabilities: None };
    match control::status(socket).await {
        Ok(status) => {
            agent.capabilities = Some(system::capabilities(&status.pid.to_string()));
            agent.running = Ok(Some(Running {
                version: status.version,
                pid: status.pid,
                programs: status.programs.iter().map(|program| program.id).collect(),
                not_ready: status.readiness.reasons,
                source: status.source.name,
                trouble: status.source.trouble,
                peers: peer_views(socket).await,
            }));
        }
        Err(ClientError::Connect { error, .. }) if matches!(error.kind(), NotFound | ConnectionRefused) => {}
        Err(error) => agent.running = Err(Unknown(error.to_string())),
    }
    agent
}

async fn peer_views(socket: &Path) -> Fact<Vec<PeerView>> {
    let peers = control::peers(socket).await.map_err(|error| Unknown(error.to_string()))?;
    let view = |peer: control::PeerStatus| PeerView {
        number: peer.number,
        standing: peer.standing,
        clock_ahead_ms: peer.clock_ahead_ms,
        trouble: peer.link.error.filter(|_| !peer.link.up),
    };
    Ok(peers.peers.into_iter().map(view).collect())
}

/// The ring that the agent has published, if it has and says so.
pub async fn ring_in_force(socket: &Path) -> Option<Ring> {
    let rings = control::ring(socket).await.ok()?;
    Ring::try_from(rings.current?.ring).ok()
}

/// The settings that the checks look at.
fn settings(network: &network::Network) -> Vec<String> {
    let interfaces = network.interfaces.as_deref().unwrap_or_default().iter().map(|one| one.name.as_str());
    let of_interfaces = checks::settings::settings(interfaces);
    [checks::kernel::settings(), checks::firewall::settings(), checks::nodes::settings(), of_interfaces].concat()
}

fn ports(node: Option<&Node>) -> std::collections::BTreeSet<u16> {
    node.iter().flat_map(|node| &node.services).map(|service| service.address.port()).collect()
}

/// What is pinned, and whether it can be.
pub(super) fn pins(directory: &Path) -> Pins {
    let place = directory.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let unknown = |error: anyhow::Error| Unknown(format!("{error:#}"));
    Pins {
        place: place.to_owned(),
        bpf_file_system: inspect::is_bpf_file_system(place).map_err(unknown),
        writable: system::is_writable(place),
        maps: inspect::maps(directory).map_err(unknown),
        links: inspect::links(directory).map_err(unknown),
    }
}

async fn nodes(node: &Node, answers: Vec<PeerAnswer>, network: &network::Network) -> Vec<NodePath> {
    let mut paths = Vec::new();
    for (member, answer) in node.others().zip(answers) {
        let route = network.way_to(member.address).await;
        paths.push(NodePath { number: member.number, address: member.address, route, peer: answer });
    }
    paths
}
