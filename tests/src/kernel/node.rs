//! The node: number 1 of its ring, with one interface, and neighbours behind it.

use std::{
    fs, io,
    net::{IpAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount},
    net::if_::if_nametoindex,
    sched::{CloneFlags, unshare},
};
use ringsteer::{
    dataplane::{
        Dataplane, Settings,
        attach::Mode,
        publish::{Service, State, This, publish},
    },
    ring::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};
use ringsteer_ebpf::{
    layout::{mapped, secret::Secrets},
    tunnel::DEFAULT_PORT,
};

use super::{addresses, older};
use crate::lab::{Family, command, xdp_pass};

/// The node's interface.
pub const EDGE: &str = "edge0";
/// The other end of its link.
pub const WIRE: &str = "wire0";

/// The client that this node's stack can answer, as [`addresses::client`] counts them.
pub const CLIENT: u8 = 77;

/// How long the kernel may take for what it does later.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a segment may take within this node.
const ONE_TRY: Duration = Duration::from_millis(200);

/// Where the BPF file system is mounted, for this thread alone.
const BPF: &str = "/sys/fs/bpf";

/// What is particular about a node.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The family that nodes speak among each other.
    pub outer: Family,
    /// Flows the table holds.
    pub max_flows: u32,
    /// log2 of the nanoseconds that a cookie slot lasts.
    pub slot_shift: u8,
    /// Whether nodes accept connections themselves. Then the kernel seems to be an older one.
    pub accept: bool,
    /// Neighbours the node knows, itself included: their numbers run from 1 to this.
    pub neighbours: u16,
    /// Other kernel programs than those built in.
    pub object: Option<PathBuf>,
}

/// A node whose programs are loaded. It lives in namespaces of the thread that made it and must not leave that thread;
/// nothing of it remains when the thread has ended.
pub struct Node {
    /// Programs and maps.
    pub dataplane: Dataplane,
    settings: Settings,
    pub(super) interface: u32,
    /// Holds the programs that make a veth's receive queues ready for XDP, on [`WIRE`] and on [`EDGE`].
    _wire_pass: Vec<OwnedFd>,
    edge_pass: Vec<OwnedFd>,
}

/// A ring of these identities, in this order, numbered from 1, whose nodes speak `outer` among each other.
///
/// # Errors
/// As [`Ring::new`].
pub fn ring_of<S: AsRef<str>>(algorithm: Algorithm, identities: &[S], outer: Family) -> Result<Ring> {
    let member = |(number, identity): (u16, &S)| {
        anyhow::Ok(Member {
            number: MemberNumber::new(number)?,
            identity: Identity::port_optional(identity.as_ref())?,
            address: NodeAddress::new(addresses::node(outer, number))?,
            state: MemberState::Active,
        })
    };
    let members = (1..).zip(identities).map(member).collect::<Result<_>>()?;
    Ok(Ring::new(Epoch(1), algorithm, members)?)
}

/// The service of a family: key in `sendID`, the segment size that the agent offers on a link of 1500 bytes.
pub fn service(family: Family) -> Service {
    let at = addresses::virtual_address(family);
    let (address, mss) = match at.ip() {
        IpAddr::V4(address) => (mapped(address.octets()), 1412),
        IpAddr::V6(address) => (address.octets(), 1392),
    };
    Service { address, port: at.port(), parameter: b"sendID".to_vec(), mss }
}

// === impl Node ===

impl Node {
    /// Moves this thread into new namespaces and loads the programs there. Nothing is published yet.
    ///
    /// # Errors
    /// If the process is not root, a tool is missing or the kernel refuses the programs.
    pub fn new(setup: &Setup) -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .context("cannot make namespaces; run it as root")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .context("cannot keep our mounts to ourselves")?;
        mount(Some("bpf"), BPF, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("cannot mount a BPF file system")?;
        make_link(setup)?;
        if setup.accept {
            older::show()?;
        }
        let settings = Settings {
            pin_dir: PathBuf::from(BPF).join("ringsteer"),
            max_flows: setup.max_flows,
            slot_shift: setup.slot_shift,
            accept: setup.accept,
            object: setup.object.clone(),
        };
        let dataplane = Dataplane::load(&settings)?;
        // A veth's receive queue is ready for XDP, and fit to be named in a test run, once a program is on it.
        let pass = |interface| xdp_pass::attach([interface].into_iter());
        let (wire, edge) = (pass(WIRE)?, pass(EDGE)?);
        Ok(Self { dataplane, settings, interface: if_nametoindex(EDGE)?, _wire_pass: wire, edge_pass: edge })
    }

    /// Where its maps are pinned; for this thread alone.
    pub fn pin_dir(&self) -> &Path {
        &self.settings.pin_dir
    }

    /// Loads the programs once more, on the same maps, as an agent does that has been restarted.
    ///
    /// # Errors
    /// If the kernel refuses the programs.
    pub fn again(&self) -> Result<Dataplane> {
        Dataplane::load(&self.settings)
    }

    /// The same as an agent does whose mode has changed.
    ///
    /// # Errors
    /// If the kernel refuses the programs.
    pub fn again_as(&self, accept: bool) -> Result<Dataplane> {
        Dataplane::load(&Settings { accept, ..self.settings.clone() })
    }

    /// Puts `ring` in force, of which this node is the first member, and both services.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn publish(&mut self, ring: &Ring, secrets: Secrets) -> Result<()> {
        let services = Family::ALL.map(service);
        let this = This::of(&ring.members()[0]);
        let state = State { ring, previous: None, this, tunnel_port: DEFAULT_PORT, secrets, services: &services };
        publish(&mut self.dataplane.maps, &state)
    }

    /// Gives this node's network namespace the virtual addresses, as an operator does.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn take_virtual_addresses(&self) -> Result<()> {
        let batch = Family::ALL.map(|family| {
            let address = addresses::virtual_address(family).ip();
            let (bits, flag) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
            format!("addr add {address}/{bits} dev lo {flag}\n")
        });
        command::ip_batch(None, &batch.concat())?;
        // The kernel puts an IPv6 address into force later, in work of its own, and has no event for it.
        let deadline = Instant::now() + PATIENCE;
        let address = addresses::virtual_address(Family::V6);
        // A socket can have it, one that has none yet finds a way to it, and what it sends arrives: none of these means the
        // others.
        let in_force = || {
            UdpSocket::bind((address.ip(), 0))?;
            match TcpStream::connect_timeout(&address, ONE_TRY) {
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Err(error),
                _ => Ok(()),
            }
        };
        while let Err(error) = in_force() {
            ensure!(Instant::now() < deadline, "{address} is not in force: {error}");
            thread::yield_now();
        }
        Ok(())
    }

    /// Attaches both programs to [`EDGE`], so that they see what arrives there, as an agent does.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach(&mut self) -> Result<()> {
        self.edge_pass.clear();
        let attached = self.dataplane.attach(&[EDGE.to_owned()], &[Mode::Native])?;
        ensure!(attached.len() == 1, "attached to {attached:?}");
        Ok(())
    }
}

fn make_link(setup: &Setup) -> Result<()> {
    let us = addresses::node(setup.outer, 1);
    let flag = if setup.outer == Family::V6 { "nodad" } else { "" };
    let link = |number| addresses::shown(addresses::link(number));
    let mut batch = format!(
        "link set lo up\n\
         link add {EDGE} address {} type veth peer name {WIRE}\n\
         link set {EDGE} addrgenmode none\nlink set {WIRE} addrgenmode none\n\
         addr add {us}/{} dev {EDGE} {flag}\n\
         link set {EDGE} up\nlink set {WIRE} up\n",
        link(1),
        addresses::link_prefix(setup.outer),
    );
    let mut neighbour = |address: IpAddr, number: u16| {
        batch += &format!("neigh add {address} lladdr {} dev {EDGE} nud permanent\n", link(number));
    };
    (2..=setup.neighbours).for_each(|number| neighbour(addresses::node(setup.outer, number), number));
    for family in Family::ALL {
        neighbour(addresses::client(family, CLIENT), addresses::CLIENTS);
    }
    for family in Family::ALL {
        let (network, bits) = (addresses::client(family, 0), addresses::link_prefix(family));
        batch += &format!("route add {network}/{bits} dev {EDGE}\n");
    }
    command::ip_batch(None, &batch)?;
    // The kernel routes for XDP only where it forwards: for IPv4 where the packet came in, for IPv6 where its own packets
    // come from. `/proc/sys/net` shows the network of whoever opens it.
    for (path, value) in [
        (format!("ipv4/conf/{EDGE}/forwarding"), "1"),
        ("ipv4/conf/lo/forwarding".to_owned(), "1"),
        ("ipv6/conf/lo/forwarding".to_owned(), "1"),
        // Silence on the link but for what a test sends.
        (format!("ipv6/conf/{WIRE}/disable_ipv6"), "1"),
    ] {
        fs::write(format!("/proc/sys/net/{path}"), value).with_context(|| format!("cannot set net/{path}"))?;
    }
    Ok(())
}
