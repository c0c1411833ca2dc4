//! Hosts as network namespaces: clients and a pusher, a router, a fleet of nodes on a bridge, the virtual addresses. All
//! of it is dual stack.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use ringsteer_tests::lab::{Family, Lab};
//!
//! let lab = Lab::builder().nodes(5).clients(2).build()?;
//! let server = lab.node(0).spawn_command("server", std::process::Command::new("some-server"))?;
//! lab.client(0).block_on(tokio::net::TcpStream::connect((lab.virtual_address(Family::V6), 80)))?;
//! # Ok(()) }
//! ```
//!
//! Everything a lab makes carries its name and goes when it is dropped; after a crash the next lab removes it. Labs of
//! one or of many processes do not meet. See [`state`] for what lies where.

pub mod addresses;
pub mod command;
mod detour;
mod etcd;
mod family;
pub mod hardware;
mod host;
mod interrupt;
mod namespace;
mod nursery;
mod partition;
mod process;
pub mod rough;
mod runtime;
pub mod state;
pub mod temper;
mod topology;
pub mod xdp_pass;

pub use detour::Detour;
pub use etcd::Etcd;
pub use family::Family;
pub use host::Host;
pub use interrupt::clean_up_on_interrupt;
pub use partition::Partition;
pub use process::{LogMark, Process};
pub use rustix::process::Signal;
pub use topology::INTERFACE;

use self::addresses::Addresses;
use self::hardware::Hardware;
use self::nursery::Nursery;
use self::state::State;
use self::topology::{BRIDGE, Link, Place};
use anyhow::{Context, Result, bail, ensure};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the kernel may take to deliver to an address it was given; a work queue has to come round.
const SETTLED_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at its routes.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// One set of hosts. Dropping it kills what runs in it and removes it.
pub struct Lab {
    estate: Arc<Estate>,
    router: Host,
    pusher: Host,
    nodes: Vec<Host>,
    stores: Vec<Host>,
    clients: Vec<Host>,
    edge: AtomicUsize,
    /// Attached as long as they are open.
    _xdp_pass: Vec<OwnedFd>,
    /// Instead of these, if asked for.
    _hardware: Option<Hardware>,
}

/// How many hosts of each kind a lab shall have.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    nodes: usize,
    stores: usize,
    clients: usize,
    hardware: bool,
}

/// What has to be cleared away at the end, by whoever comes first: the lab's drop or an interrupt.
struct Estate {
    /// None once cleared away.
    state: Mutex<Option<State>>,
    name: String,
    processes: Arc<Mutex<Vec<Process>>>,
}

// === impl Builder ===

impl Builder {
    /// Nodes, 1 to 100; 5 unless told otherwise.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// Client hosts, 1 to 50, the pusher not counted; 1 unless told otherwise.
    pub fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    /// Hosts beside the nodes for what a fleet shares, at most 8; none unless told otherwise.
    pub fn stores(self, stores: usize) -> Self {
        Self { stores, ..self }
    }

    /// Links nearer to hardware, for benchmarks: see [`hardware`]. Partitions do not hold on them between nodes.
    pub fn hardware(self) -> Self {
        Self { hardware: true, ..self }
    }

    /// Builds the lab, after removing those whose owner is dead. The virtual addresses are routed to node 0.
    ///
    /// # Errors
    /// If a number is out of range, the process is not root, or a tool is missing.
    pub fn build(self) -> Result<Lab> {
        let Self { nodes, stores, clients, .. } = self;
        for (what, number, least, most) in [
            ("nodes", nodes, 1, addresses::NODES_MAX),
            ("stores", stores, 0, addresses::STORES_MAX),
            ("clients", clients, 1, addresses::CLIENTS_MAX),
        ] {
            ensure!((least..=most).contains(&number), "a lab has {least} to {most} {what}, not {number}");
        }
        if !rustix::process::geteuid().is_root() {
            bail!("the lab makes network namespaces and needs root; run it with sudo");
        }
        if let Err(error) = Lab::sweep() {
            eprintln!("lab: leaving the remains of a dead lab where they are: {error:#}");
        }

        let state = State::claim()?;
        let estate =
            Arc::new(Estate { name: state.name.clone(), state: Mutex::new(Some(state)), processes: Arc::default() });
        interrupt::register(&estate);
        let lab = estate.furnish(self);
        if lab.is_err() {
            estate.clear_away();
        }
        lab
    }
}

// === impl Lab ===

impl Lab {
    /// A lab with five nodes and one client host, unless told otherwise.
    pub fn builder() -> Builder {
        Builder { nodes: 5, stores: 0, clients: 1, hardware: false }
    }

    /// Removes what labs left behind whose owner is dead, and gives their names.
    ///
    /// # Errors
    /// If one cannot be removed; the others are, all the same.
    pub fn sweep() -> Result<Vec<String>> {
        state::sweep()
    }

    /// `rsl<pid>-<n>`; the namespaces are called `<name>-<host>`.
    pub fn name(&self) -> &str {
        &self.estate.name
    }

    /// Where clients of this family connect to.
    pub fn virtual_address(&self, family: Family) -> IpAddr {
        addresses::VIRTUAL.of(family)
    }

    /// Node `index`, counted from 0.
    ///
    /// # Panics
    /// If there is none; the same holds for [`client`](Self::client) and [`store`](Self::store).
    pub fn node(&self, index: usize) -> &Host {
        &self.nodes[index]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Host] {
        &self.nodes
    }

    /// Store host `index`, counted from 0: on the fleet's network like a node, but none of the fleet.
    pub fn store(&self, index: usize) -> &Host {
        &self.stores[index]
    }

    /// Client host `index`, counted from 0.
    pub fn client(&self, index: usize) -> &Host {
        &self.clients[index]
    }

    /// All client hosts, without the pusher.
    pub fn clients(&self) -> &[Host] {
        &self.clients
    }

    /// The host between clients and nodes.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// The host that pushes come from: a client host like the others.
    pub fn pusher(&self) -> &Host {
        &self.pusher
    }

    /// The node that the virtual addresses are routed to.
    pub fn edge(&self) -> usize {
        self.edge.load(Ordering::Relaxed)
    }

    /// Routes the virtual addresses to a node, at once and for all connections.
    ///
    /// # Errors
    /// If the routes cannot be set.
    pub fn route_virtual_to(&self, node: usize) -> Result<()> {
        let route = |family: Family| {
            let (to, via) = (self.virtual_address(family), self.node(node).address(family));
            format!("route replace {to}/{} via {via} dev {BRIDGE}\n", family.bits())
        };
        let batch: String = Family::ALL.into_iter().map(route).collect();
        command::ip_batch(Some(self.router.namespace()), &batch)?;
        self.edge.store(node, Ordering::Relaxed);
        Ok(())
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.router].into_iter().chain(self.links())
    }

    /// All hosts but the router, which is at the other end of their links.
    fn links(&self) -> impl Iterator<Item = &Host> {
        [&self.pusher].into_iter().chain(&self.nodes).chain(&self.stores).chain(&self.clients)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.estate.processes() {
                eprintln!("--- {}: {}", process.name(), process.log_tail());
            }
        }
        for host in self.hosts() {
            host.stop_runtime();
        }
        self.estate.clear_away();
    }
}

// === impl Estate ===

impl Estate {
    /// Makes the namespaces and what is in them.
    fn furnish(self: &Arc<Self>, builder: Builder) -> Result<Lab> {
        let Builder { nodes, stores, clients, hardware } = builder;
        let state = self.state.lock().expect("no one panics with the lock");
        let Some(state) = state.as_ref() else { bail!("interrupted") };

        let mut links: Vec<(String, Link)> = Vec::new();
        let mut add = |name: String, router_interface: String, addresses, place| {
            let namespace = format!("{}-{name}", state.name);
            links.push((name, Link { namespace, router_interface, addresses, place }));
        };
        for index in 0..nodes {
            add(format!("node{index}"), format!("n{index}"), addresses::node(index), Place::Node);
        }
        for index in 0..stores {
            add(format!("store{index}"), format!("s{index}"), addresses::store(index), Place::Store);
        }
        for index in 0..clients {
            add(format!("client{index}"), format!("c{index}"), addresses::client(index), Place::Client);
        }
        add("pusher".into(), "pusher".into(), addresses::PUSHER, Place::Client);

        let router_namespace = format!("{}-router", state.name);
        namespace::create(links.iter().map(|(_, link)| link.namespace.as_str()).chain([router_namespace.as_str()]))?;
        let nursery = Nursery::start()?;
        let open = |name: &str, router_interface: &str, addresses| {
            let host = Host::open(state, name, router_interface, addresses, nursery.clone(), self.processes.clone())?;
            host.set_sysctls(topology::early_sysctls())?;
            Ok::<Host, anyhow::Error>(host)
        };
        let router = open("router", BRIDGE, addresses::ROUTER_FLEET)?;
        let hosts = links.iter().map(|(name, link)| open(name, &link.router_interface, link.addresses));
        let hosts = hosts.collect::<Result<Vec<Host>>>()?;
        let links: Vec<Link> = links.into_iter().map(|(_, link)| link).collect();

        router.set_sysctls(topology::router_sysctls())?;
        if Path::new("/proc/sys/net/bridge").exists() {
            router.set_sysctls(topology::bridge_sysctls())?;
        }
        command::ip_batch(Some(router.namespace()), &topology::router_batch(&links))?;
        for (host, link) in hosts.iter().zip(&links) {
            command::ip_batch(Some(host.namespace()), &topology::host_batch(link))?;
            if link.place == Place::Node {
                host.set_sysctls(topology::node_sysctls())?;
            }
            host.run(|| offloads_off(INTERFACE))?;
        }
        router.run(|| links.iter().try_for_each(|link| offloads_off(&link.router_interface)))?;
        let (hardware, xdp_pass) = if hardware {
            (Some(Hardware::install(&router, &hosts, &links)?), Vec::new())
        } else {
            let nodes = links.iter().filter(|link| link.place == Place::Node);
            (None, router.run(|| xdp_pass::attach(nodes.map(|link| link.router_interface.as_str())))?)
        };

        settle(&router, [addresses::ROUTER_FLEET, addresses::ROUTER_CLIENT].into_iter().flat_map(Addresses::each))?;
        for (host, link) in hosts.iter().zip(&links) {
            settle(host, topology::local_addresses(link))?;
        }

        let mut hosts = hosts.into_iter();
        let lab = Lab {
            nodes: hosts.by_ref().take(nodes).collect(),
            stores: hosts.by_ref().take(stores).collect(),
            clients: hosts.by_ref().take(clients).collect(),
            pusher: hosts.next().expect("the pusher was added last"),
            router,
            edge: AtomicUsize::new(0),
            _xdp_pass: xdp_pass,
            _hardware: hardware,
            estate: self.clone(),
        };
        lab.route_virtual_to(0)?;
        Ok(lab)
    }

    fn processes(&self) -> Vec<Process> {
        self.processes.lock().expect("no one panics with the lock").clone()
    }

    /// Kills the processes and removes the rest. Only the first call does anything.
    fn clear_away(&self) {
        let Some(state) = self.state.lock().expect("no one panics with the lock").take() else { return };
        let processes = self.processes();
        // All of them first, then wait: they die side by side.
        processes.iter().for_each(|process| process.signal(Signal::KILL));
        for process in processes {
            if let Err(error) = process.kill() {
                eprintln!("lab: {error:#}");
            }
        }
        if let Err(error) = state.remove() {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Waits until a host takes packets to its own IPv6 addresses: the kernel makes these routes at its leisure.
fn settle(host: &Host, addresses: impl Iterator<Item = IpAddr>) -> Result<()> {
    let wanted = |address: IpAddr| match address {
        IpAddr::V4(_) => None,
        // As /proc spells it: the address, and the length of its prefix.
        IpAddr::V6(address) => Some(format!("{:032x} 80", u128::from(address))),
    };
    let wanted: Vec<String> = addresses.filter_map(wanted).collect();
    let deadline = Instant::now() + SETTLED_LIMIT;
    host.run(|| {
        loop {
            let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").context("reading the routes")?;
            // Flags stand before the interface: RTF_LOCAL is 0x8000_0000.
            let local = |line: &&str| line.split_whitespace().nth(8).is_some_and(|flags| flags.starts_with('8'));
            let has = |wanted: &String| routes.lines().filter(local).any(|line| line.starts_with(wanted));
            if wanted.iter().all(has) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} has no route to its own {wanted:?}:\n{routes}", host.name());
            std::thread::sleep(LOOK_AGAIN);
        }
    })
}

/// Turns transmit checksums and segmentation off: a packet whose checksum is left to a device that does not exist
/// would leave an XDP program with a wrong one.
fn offloads_off(interface: &str) -> Result<()> {
    command::run("ethtool", &["-K", interface, "tx", "off"]).map(drop)
}
