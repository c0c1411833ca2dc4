//! A fleet on the lab's nodes: an agent and a gateway on each, as an operator would run them.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ringsteer::{
    config::Mode,
    control::{self, Status},
    ring::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};

use crate::{
    kernel::older,
    lab::{Family, Host, Lab, Process},
    scrape::{GATEWAY, Scrape},
};

/// TCP port of the websocket service.
pub const WEBSOCKET_PORT: u16 = 10_001;

/// TCP port of the push service.
pub const PUSH_PORT: u16 = 10_002;

/// TCP port on which a gateway takes pushes past the steering, at its node's own address, as OpenIM's pusher sends
/// them.
pub const DIRECT_PUSH_PORT: u16 = 10_003;

/// TCP port on which a gateway takes websockets past the steering, at its node's own address.
pub const DIRECT_WEBSOCKET_PORT: u16 = 10_004;

/// TCP port at which OpenIM's services call a gateway, at its node's own address.
pub const RPC_PORT: u16 = 10_005;

/// The token that the fleet takes pushes with.
pub const PUSH_TOKEN: &str = "for-pushes-in-the-lab";

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
    /// How connections come to their owners. Where nodes accept them themselves, their kernels seem to be older ones to the
    /// agents.
    pub mode: Mode,
    /// Lines added to the configuration, such as another service.
    pub extra: String,
    /// What the websocket services serve: "websocket", or "openim".
    pub serve: &'static str,
    /// Where gateways take OpenIM's own pushes, if they do, the same on each.
    pub grpc: Option<SocketAddr>,
    /// Whether gateways are started.
    pub gateways: bool,
    /// Whether each node's ring stands in a file of its own, instead of in its configuration.
    pub ring_file: bool,
    /// The `[membership]` table, if nodes announce themselves: who is a member is then not the test's to say.
    pub membership: Option<String>,
    /// What the agents find in their environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// What agents and gateways write down, as `--log` takes it; what they do by themselves unless said.
    pub log: Option<&'static str>,
    /// How many nodes are started with the fleet, the first ones; all of them unless said.
    pub first: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clients: Family::V4,
            nodes: Family::V4,
            slot_shift: 36,
            max_flows: 16_384,
            mode: Mode::LateBinding,
            extra: String::new(),
            serve: "websocket",
            grpc: None,
            gateways: true,
            ring_file: false,
            membership: None,
            environment: Vec::new(),
            log: None,
            first: None,
        }
    }
}

impl Options {
    /// Everything in one family.
    pub fn all(family: Family) -> Self {
        Self::mixed(family, family)
    }

    /// The same in that mode.
    pub fn in_mode(family: Family, mode: Mode) -> Self {
        Self { mode, ..Self::all(family) }
    }

    /// Clients of one family, nodes of another.
    pub fn mixed(clients: Family, nodes: Family) -> Self {
        Self { clients, nodes, ..Self::default() }
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
    options: Options,
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
///
/// # Errors
/// If nobody has told where it is.
pub fn binary() -> Result<PathBuf> {
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
        let clients = options.clients;
        let mut fleet = Self { lab, ring, agents: Vec::new(), gateways: Vec::new(), clients, options: options.clone() };
        let first = options.first.unwrap_or(lab.nodes().len());
        for node in 0..first {
            fleet.write_configuration(node)?;
            fleet.agents.push(fleet.spawn_agent(node)?);
        }
        for agent in &fleet.agents {
            agent.wait_for_log_line("steering", READY)?;
        }
        if options.gateways {
            for node in 0..first {
                fleet.gateways.push(fleet.spawn_gateway(node)?);
            }
            for gateway in &fleet.gateways {
                gateway.wait_for_log_line("following ring", READY)?;
            }
            // Most connections go from one gateway to another before they are answered.
            if options.mode == Mode::Accept && first == lab.nodes().len() {
                fleet.wait_for_links()?;
            }
        }
        Ok(fleet)
    }

    /// Starts agent and gateway on the next node of those that were not started with the fleet, and waits until they are
    /// ready.
    pub fn start_next(&mut self) -> Result<()> {
        let node = self.agents.len();
        self.write_configuration(node)?;
        self.agents.push(self.spawn_agent(node)?);
        self.agents[node].wait_for_log_line("steering", READY)?;
        if self.options.gateways {
            self.gateways.push(self.spawn_gateway(node)?);
            self.gateways[node].wait_for_log_line("following ring", READY)?;
        }
        Ok(())
    }

    fn write_configuration(&self, node: usize) -> Result<()> {
        let (host, options) = (self.lab.node(node), &self.options);
        let identity = &self.ring.members()[node].identity;
        let text = configuration(self.lab, &self.ring, node, identity, options);
        if options.ring_file {
            replace(&ring_file(host), &ring_table(&self.ring))?;
        }
        fs::write(host.run_dir().join("agent.toml"), &text)?;
        // Two services that the agents do not know, and so do not steer.
        let direct: String = [
            ("push", DIRECT_PUSH_PORT, "recvID", "push"),
            ("websocket", DIRECT_WEBSOCKET_PORT, "sendID", options.serve),
        ]
        .iter()
        .map(|(name, port, parameter, serve)| {
            service(&format!("direct-{name}"), host.address(options.nodes), *port, parameter, serve)
        })
        .collect();
        Ok(fs::write(host.run_dir().join("gateway.toml"), text + &direct)?)
    }

    fn spawn_agent(&self, node: usize) -> Result<Process> {
        let host = self.lab.node(node);
        let mut command = self.command(host, "agent")?;
        if self.options.mode == Mode::Accept {
            command = older::command(command, &host.run_dir().join("types"))?;
        }
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        host.spawn_command("agent", command)
    }

    fn spawn_gateway(&self, node: usize) -> Result<Process> {
        let host = self.lab.node(node);
        host.spawn_command("gateway", self.command(host, "gateway")?)
    }

    fn command(&self, host: &Host, role: &str) -> Result<Command> {
        let mut command = command(host, role)?;
        command.envs(self.options.log.map(|log| ("RUST_LOG", log)));
        Ok(command)
    }

    /// Gives a node another ring: writes it where the node's agent follows it.
    pub fn give_ring(&self, node: usize, ring: &Ring) -> Result<()> {
        let host = self.lab.node(node);
        let (path, text) = if self.options.ring_file {
            (ring_file(host), ring_table(ring))
        } else {
            let identity = &self.ring.members()[node].identity;
            (host.run_dir().join("agent.toml"), configuration(self.lab, ring, node, identity, &self.options))
        };
        replace(&path, &text)
    }

    /// Gives all nodes another ring.
    pub fn give_ring_to_all(&self, ring: &Ring) -> Result<()> {
        (0..self.lab.nodes().len()).try_for_each(|node| self.give_ring(node, ring))
    }

    /// The ring that a node has.
    ///
    /// # Errors
    /// If its agent does not answer, or has none.
    pub async fn ring_of(&self, node: usize) -> Result<Ring> {
        let rings = control::ring(&self.socket(node)).await?;
        Ok(rings.current.context("the agent has no ring")?.verified()?)
    }

    /// The control socket of a node's agent.
    pub fn socket(&self, node: usize) -> PathBuf {
        socket(self.lab.node(node))
    }

    /// Asks the agent of a node for its status until `wanted` likes it.
    ///
    /// # Errors
    /// If that takes too long; the message has the last status.
    pub async fn wait_for_status(&self, node: usize, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let since = Instant::now();
        loop {
            let status = self.status(node).await;
            match status {
                Ok(status) if wanted(&status) => return Ok(status),
                _ if since.elapsed() < READY => tokio::time::sleep(Duration::from_millis(5)).await,
                last => bail!("node {node} never had the status waited for; the last was {last:?}"),
            }
        }
    }

    /// Waits until every gateway has a link to every other one: from then on clients that come to the wrong node go to the
    /// right one. The lab's hosts must not be in use by the caller's thread.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_for_links(&self) -> Result<()> {
        let nodes = self.lab.nodes();
        let since = Instant::now();
        for node in nodes {
            loop {
                let links = Scrape::of(node, GATEWAY).and_then(|scrape| scrape.value("ringsteer_gateway_links"));
                match links {
                    Ok(links) if links as usize + 1 == nodes.len() => break,
                    last if since.elapsed() > READY => bail!("{} has not linked with all: {last:?}", node.name()),
                    _ => thread::sleep(Duration::from_millis(20)),
                }
            }
        }
        Ok(())
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

/// The file with a node's ring, where it is apart from the configuration.
fn ring_file(host: &Host) -> PathBuf {
    host.run_dir().join("ring.toml")
}

/// Writes a file in one step, as a careful operator does.
fn replace(path: &Path, text: &str) -> Result<()> {
    let preparing = path.with_extension("new");
    fs::write(&preparing, text)?;
    fs::rename(&preparing, path).with_context(|| format!("replacing {}", path.display()))
}

/// The ring as a configuration has it.
fn ring_table(ring: &Ring) -> String {
    let mut text = format!("[ring]\nepoch = {}\n", ring.epoch());
    for Member { number, identity, address, state } in ring.members() {
        text += &format!(
            "\n[[ring.members]]\nnumber = {number}\nidentity = \"{identity}\"\naddress = \"{address}\"\nstate = \"{state}\"\n"
        );
    }
    text
}

/// The configuration of node `index`, which goes by `identity`.
fn configuration(lab: &Lab, ring: &Ring, index: usize, identity: &Identity, options: &Options) -> String {
    let host = lab.node(index);
    let address = lab.virtual_address(options.clients);
    let mut text = format!(
        r#"[node]
name = "node-{number}"
identity = "{identity}"
address = "{own}"
interfaces = ["eth0"]
pin_dir = "{pin_dir}"
socket = "{socket}"
max_flows = {max_flows}
handshake_slot_shift = {slot_shift}
mode = "{mode}"

[secrets]
current = "6c6162206f6e6c792c206e6f74207365"

[push]
tokens = ["{PUSH_TOKEN}"]
grpc = "{grpc}"

"#,
        // Where the test does not say, each node's gateway is called at its own address.
        grpc = options.grpc.unwrap_or_else(|| SocketAddr::new(host.address(options.nodes), RPC_PORT)),
        number = index + 1,
        own = host.address(options.nodes),
        pin_dir = host.pin_dir().display(),
        socket = socket(host).display(),
        max_flows = options.max_flows,
        slot_shift = options.slot_shift,
        mode = match options.mode {
            Mode::LateBinding => "late-binding",
            Mode::Accept => "accept",
        },
    );
    text += &if let Some(membership) = &options.membership {
        membership.clone()
    } else if options.ring_file {
        format!("[membership]\nsource = \"file\"\npath = \"{}\"\n", ring_file(host).display())
    } else {
        ring_table(ring)
    };
    for (name, port, parameter, serve) in
        [("websocket", WEBSOCKET_PORT, "sendID", options.serve), ("push", PUSH_PORT, "recvID", "push")]
    {
        text += &service(name, address, port, parameter, serve);
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
