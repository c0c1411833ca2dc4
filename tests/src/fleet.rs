//! A fleet on the lab's nodes: an agent and a gateway on each, as an operator would run them.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use ringsteer::{
    control::{self, Status},
    ring::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};

use crate::lab::{Family, Host, Lab, Process};

/// TCP port of the websocket service.
pub const WEBSOCKET_PORT: u16 = 10_001;

/// TCP port of the push service.
pub const PUSH_PORT: u16 = 10_002;

/// TCP port on which a gateway takes pushes past the steering, at its node's own address, as OpenIM's pusher sends
/// them.
pub const DIRECT_PUSH_PORT: u16 = 10_003;

/// TCP port on which a gateway takes websockets past the steering, at its node's own address.
pub const DIRECT_WEBSOCKET_PORT: u16 = 10_004;

/// How long a process may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// What a fleet is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The family of the virtual address, and so of the clients and of what is inside the tunnel.
    pub clients: Family,
    /// The family of the node addresses, and so of the tunnel itself.
    pub nodes: Family,
    /// log2 of the nanoseconds a cookie slot lasts.
    pub slot_shift: u8,
    /// Most flows an edge can hold.
    pub max_flows: u32,
    /// Lines added to the configuration, such as another service.
    pub extra: String,
    /// Whether gateways are started.
    pub gateways: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: Family::V4,
            nodes: Family::V4,
            slot_shift: 36,
            max_flows: 16_384,
            extra: String::new(),
            gateways: true,
        }
    }
}

impl Options {
    /// Everything in one family.
    pub fn all(family: Family) -> Self {
        Self { clients: family, nodes: family, ..Self::default() }
    }
}

/// Agents and gateways, running.
pub struct Fleet<'lab> {
    /// The lab they run in.
    pub lab: &'lab Lab,
    /// The ring they steer by.
    pub ring: Ring,
    /// The agents, by node.
    pub agents: Vec<Process>,
    /// The gateways, by node.
    pub gateways: Vec<Process>,
    clients: Family,
}

/// The names of OpenIM's gateways, without port.
pub fn host_names(count: usize) -> Vec<String> {
    let name =
        |index| format!("openim-openim-msggateway-{index}.openim-openim-msggateway-headless.default.svc.cluster.local");
    (0..count).map(name).collect()
}

/// A ring of the lab's nodes under these names, at their addresses of this family.
pub fn ring_of(lab: &Lab, family: Family, names: &[String], identity: impl Fn(&str) -> Identity) -> Result<Ring> {
    let member = |(index, name): (usize, &String)| -> Result<Member> {
        Ok(Member {
            number: MemberNumber::new(index as u16 + 1)?,
            identity: identity(name),
            address: NodeAddress::new(lab.node(index).address(family))?,
            state: MemberState::Active,
        })
    };
    let members = names.iter().enumerate().map(member).collect::<Result<_>>()?;
    Ok(Ring::new(Epoch(1), Algorithm::OpenIm, members)?)
}

/// The `ringsteer` binary under test.
fn binary() -> Result<PathBuf> {
    let path = std::env::var_os("RINGSTEER_BIN").context("RINGSTEER_BIN is not set: run this through `cargo xtask`")?;
    Ok(path.into())
}

/// The command `ringsteer <role> --config …` of a node.
pub fn command(host: &Host, role: &str) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.env("NO_COLOR", "1").arg(role).arg("--config").arg(host.run_dir().join(format!("{role}.toml")));
    Ok(command)
}

impl<'lab> Fleet<'lab> {
    /// Starts agents and gateways on all nodes and waits until they are ready.
    pub fn start(lab: &'lab Lab, options: &Options) -> Result<Self> {
        let names = host_names(lab.nodes().len());
        let qualified = |name: &str| Identity::new(format!("{name}:88")).expect("a name with a port");
        let ring = ring_of(lab, options.nodes, &names, qualified)?;
        let mut agents = Vec::new();
        let mut gateways = Vec::new();
        for (index, host) in lab.nodes().iter().enumerate() {
            let text = configuration(lab, &ring, index, options);
            fs::write(host.run_dir().join("agent.toml"), &text)?;
            // Two services that the agents do not know, and so do not steer.
            let direct: String = [("push", DIRECT_PUSH_PORT, "recvID"), ("websocket", DIRECT_WEBSOCKET_PORT, "sendID")]
                .iter()
                .map(|(serve, port, parameter)| {
                    service(&format!("direct-{serve}"), host.address(options.nodes), *port, parameter, serve)
                })
                .collect();
            fs::write(host.run_dir().join("gateway.toml"), text + &direct)?;
            agents.push(host.spawn_command("agent", command(host, "agent")?)?);
        }
        for agent in &agents {
            agent.wait_for_log_line("steering", READY)?;
        }
        if options.gateways {
            for host in lab.nodes() {
                gateways.push(host.spawn_command("gateway", command(host, "gateway")?)?);
            }
            for gateway in &gateways {
                gateway.wait_for_log_line("following ring", READY)?;
            }
        }
        Ok(Self { lab, ring, agents, gateways, clients: options.clients })
    }

    /// The websocket service's address.
    pub fn websocket(&self) -> SocketAddr {
        (self.lab.virtual_address(self.clients), WEBSOCKET_PORT).into()
    }

    /// The push service's address.
    pub fn push(&self) -> SocketAddr {
        (self.lab.virtual_address(self.clients), PUSH_PORT).into()
    }

    /// What the agent of a node says.
    pub async fn status(&self, node: usize) -> Result<Status> {
        Ok(control::status(&socket(self.lab.node(node))).await?)
    }

    /// A counter of a node.
    pub async fn counter(&self, node: usize, name: &str) -> Result<u64> {
        let status = self.status(node).await?;
        status.counters.get(name).copied().with_context(|| format!("there is no counter {name}"))
    }
}

/// The agent's socket on a node.
fn socket(host: &Host) -> PathBuf {
    host.run_dir().join("agent.sock")
}

/// The configuration of node `index`.
fn configuration(lab: &Lab, ring: &Ring, index: usize, options: &Options) -> String {
    let host = lab.node(index);
    let address = lab.virtual_address(options.clients);
    let mut text = format!(
        r#"[node]
name = "node-{number}"
identity = "{identity}"
interfaces = ["eth0"]
pin_dir = "{pin_dir}"
socket = "{socket}"
max_flows = {max_flows}
handshake_slot_shift = {slot_shift}

[secrets]
current = "6c6162206f6e6c792c206e6f74207365"

[ring]
epoch = {epoch}
"#,
        number = index + 1,
        identity = ring.members()[index].identity,
        pin_dir = host.pin_dir().display(),
        socket = socket(host).display(),
        max_flows = options.max_flows,
        slot_shift = options.slot_shift,
        epoch = ring.epoch().0,
    );
    for member in ring.members() {
        text += &format!(
            "\n[[ring.members]]\nnumber = {}\nidentity = \"{}\"\naddress = \"{}\"\n",
            member.number.get(),
            member.identity.as_str(),
            member.address.ip()
        );
    }
    for (name, port, parameter) in [("websocket", WEBSOCKET_PORT, "sendID"), ("push", PUSH_PORT, "recvID")] {
        text += &service(name, address, port, parameter, name);
    }
    text + "\n" + &options.extra + "\n"
}

/// A service of a configuration.
fn service(name: &str, address: IpAddr, port: u16, parameter: &str, serve: &str) -> String {
    let address = SocketAddr::new(address, port);
    format!(
        "\n[[services]]\nname = \"{name}\"\naddress = \"{address}\"\nparameter = \"{parameter}\"\nserve = \"{serve}\"\n"
    )
}
