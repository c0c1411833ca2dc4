//! Facts of hosts that do not exist, for the tests of the checks.

use super::{
    checks,
    facts::{
        Address, Agent, Attachment, Clock, Configuration, Driver, Facts, Interface, Kernel, Listener, Neighbour,
        NodePath, Owner, PeerAnswer, PeerView, PinState, PinnedLink, PinnedMap, Pins, Readability, Route, Running,
        Settings, Standing, Way, XdpFeatures,
    },
    subject::{Member, Node, PrivateFile, Service, Subject},
};
use crate::{
    config::{Mode, XdpMode},
    dataplane::maps::PINNED,
    ring::MemberNumber,
};

/// Node 1 of two, with one interface and one service.
pub fn node() -> Node {
    let member = |number: u16| Member {
        number: MemberNumber::new(number).unwrap(),
        identity: format!("gw-{number}.example:88"),
        address: format!("198.51.100.1{number}").parse().unwrap(),
    };
    Node {
        identity: "gw-1.example:88".into(),
        address: None,
        interfaces: vec!["eth0".into()],
        mode: Mode::LateBinding,
        xdp_mode: XdpMode::Auto,
        slot_shift: 36,
        peer_port: 6081,
        services: vec![Service { name: "websocket".into(), address: "192.0.2.1:10001".parse().unwrap() }],
        members: vec![member(1), member(2)],
        private_files: vec![PrivateFile { path: "/etc/ringsteer/secret".into(), what: "a fleet secret" }],
    }
}

/// What [`node`] is the node of.
pub fn subject() -> Subject {
    Subject { node: Some(node()), ..Subject::without_configuration() }
}

/// A good host without a configuration, on which no agent ever ran.
pub fn host() -> Facts {
    let mut facts = fresh();
    facts.configuration = Configuration::Absent("/etc/ringsteer/ringsteer.toml".into());
    facts.nodes.clear();
    facts.private_files.clear();
    facts
}

/// A host made ready for [`node`], on which no agent ever ran.
pub fn fresh() -> Facts {
    let mut facts = healthy();
    facts.agent.running = Ok(None);
    facts.agent.capabilities = None;
    facts.pins.maps.as_mut().unwrap().iter_mut().for_each(|map| map.state = PinState::Missing);
    facts.pins.links = Ok(vec![]);
    facts.interfaces.as_mut().unwrap()[1].xdp.clear();
    facts.listeners = Ok(vec![]);
    for path in &mut facts.nodes {
        path.peer = PeerAnswer::Failed("connection refused".into());
    }
    facts
}

/// [`node`] with its agent running and nothing wrong.
pub fn healthy() -> Facts {
    Facts {
        configuration: Configuration::Read("/etc/ringsteer/ringsteer.toml".into()),
        kernel: Kernel {
            release: "6.12.9".into(),
            lacking: Ok(vec![]),
            options: Ok(["BPF_SYSCALL", "BPF_JIT", "DEBUG_INFO_BTF", "SYN_COOKIES", "NET_CLS_ACT"]
                .map(|name| (name.to_owned(), "y".to_owned()))
                .into()),
        },
        capabilities: Ok(u64::MAX),
        pins: Pins {
            place: "/sys/fs/bpf/ringsteer".into(),
            bpf_file_system: Ok(true),
            writable: true,
            maps: Ok(PINNED.iter().map(|name| PinnedMap { name, state: PinState::Fits }).collect()),
            links: Ok([("steer-native-eth0", 17), ("admit-eth0", 18)]
                .map(|(name, program)| PinnedLink { name: name.into(), program })
                .into()),
        },
        interfaces: Ok(vec![interface("lo", 1), interface("eth0", 2), interface("eth1", 3)]),
        addresses: Ok([("192.0.2.1", 32, 1), ("198.51.100.11", 24, 2)]
            .map(|(address, prefix, interface)| Address { address: address.parse().unwrap(), prefix, interface })
            .into()),
        routes: Ok([None, Some(("198.51.100.0".parse().unwrap(), 24))]
            .map(|destination| Route { destination, ipv6: false, interfaces: vec![2] })
            .into()),
        learnt_routes: Ok(vec![]),
        settings: settings(),
        listeners: Ok(vec![Listener {
            address: "192.0.2.1:10001".parse().unwrap(),
            only_ipv6: false,
            mptcp: false,
            owner: Some(Owner { pid: 4712, name: "ringsteer".into() }),
        }]),
        nodes: vec![NodePath {
            number: MemberNumber::new(2).unwrap(),
            address: "198.51.100.12".parse().unwrap(),
            route: Ok(Some(Way { interface: 2, gateway: None, mtu: None, neighbour: Neighbour::Known })),
            peer: PeerAnswer::Connected { mtu: None },
        }],
        clock: Ok(Clock { synchronised: true, tai_offset_s: 37 }),
        private_files: vec![Readability {
            path: "/etc/ringsteer/secret".into(),
            what: "a fleet secret",
            mode: Ok(0o100_400),
        }],
        firewall: Ok(vec![]),
        agent: Agent {
            socket: "/run/ringsteer/agent.sock".into(),
            running: Ok(Some(Running {
                version: env!("CARGO_PKG_VERSION").into(),
                pid: 4711,
                programs: vec![17, 18],
                not_ready: vec![],
                source: "file".into(),
                trouble: None,
                peers: Ok(vec![PeerView {
                    number: MemberNumber::new(2).unwrap(),
                    standing: Standing::Agrees,
                    clock_ahead_ms: Some(-3),
                    trouble: None,
                }]),
            })),
            capabilities: Some(Ok(u64::MAX)),
        },
    }
}

fn interface(name: &str, index: u32) -> Interface {
    let steered = name == "eth0";
    Interface {
        name: name.into(),
        index,
        mtu: if name == "lo" { 65_536 } else { 1500 },
        up: true,
        carrier: true,
        arp: name != "lo",
        master: None,
        xdp: if steered { vec![(Attachment::Native, 17)] } else { vec![] },
        driver: steered.then(|| Driver {
            name: Ok("veth".into()),
            xdp: Ok(XdpFeatures { native: true, transmit: true }),
            lro: Ok(false),
            xdp_errors: vec![("tx_queue_0_xdp_xmit_errors".into(), 0)],
        }),
    }
}

/// As the kernel comes, and as the operator has set them.
fn settings() -> Settings {
    let ours = [
        ("net/core/bpf_jit_enable", "1"),
        ("kernel/unprivileged_bpf_disabled", "2"),
        ("net/ipv4/neigh/default/gc_thresh2", "512"),
        ("net/ipv4/neigh/default/gc_thresh3", "1024"),
        ("net/ipv4/tcp_syncookies", "1"),
        ("net/ipv4/tcp_timestamps", "1"),
        ("net/ipv4/tcp_window_scaling", "1"),
        ("net/ipv4/tcp_sack", "1"),
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
        ("net/ipv4/conf/eth0/forwarding", "1"),
        ("net/ipv6/conf/lo/forwarding", "1"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
    ];
    let others =
        checks::settings::settings(["lo", "eth0", "eth1"].into_iter()).into_iter().map(|name| (name, Ok("0".into())));
    let ours = ours.map(|(name, value)| (name.to_owned(), Ok(value.to_owned())));
    Settings(others.chain(ours).collect())
}
