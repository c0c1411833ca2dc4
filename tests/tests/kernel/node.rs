//! The fixture: a node whose programs are loaded and published to, but attached nowhere.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

use aya::programs::{TestRun as _, TestRunOptions};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use ringsteer::{
    dataplane::{
        Dataplane, Settings,
        publish::{Service, State, This, publish},
    },
    ring::{Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};
use ringsteer_ebpf::{
    cookie::DEFAULT_SLOT_SHIFT,
    layout::{
        flow::{Flow, FlowKey},
        mapped,
        secret::Secrets,
        stats::Stats,
    },
};
use tempfile::TempDir;

use crate::packet::{ACK, End, PSH, Received, SYN, Segment, receive};

/// The service.
pub const SERVER: End = End { address: Ipv4Addr::new(203, 0, 113, 10), port: 88 };
/// What it offers clients.
pub const MSS: u16 = 1412;
/// The parameter that holds the key.
pub const PARAMETER: &[u8] = b"sendID";
/// The tunnel's UDP port.
pub const TUNNEL_PORT: u16 = 6080;
/// Flows the table holds.
pub const MAX_FLOWS: u32 = 1024;
/// The secret unless a test has another.
pub const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0f1e_2d3c_4b5a_6978];
/// The initial sequence number of clients; half way through its first data it wraps.
pub const ISN: u32 = u32::MAX - 20;

/// The client with this port.
pub fn client(port: u16) -> End {
    End { address: Ipv4Addr::new(192, 0, 2, 77), port }
}

/// The address of the member with this number.
pub fn node_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    assert_eq!(high, 0);
    Ipv4Addr::new(198, 51, 100, low)
}

/// A ring of these identities, in this order, numbered from 1.
pub fn ring_of<S: AsRef<str>>(identities: &[S]) -> Ring {
    let members = (1u16..)
        .zip(identities)
        .map(|(number, identity)| Member {
            number: MemberNumber::new(number).unwrap(),
            identity: Identity::port_optional(identity.as_ref()).unwrap(),
            address: NodeAddress::new(IpAddr::V4(node_address(number))).unwrap(),
            state: MemberState::Active,
        })
        .collect();
    Ring::new(Epoch(1), Algorithm::OpenIm, members).unwrap()
}

/// A ring of so many members.
pub fn ring_among(members: usize) -> Ring {
    let identities: Vec<_> = (0..members).map(|index| format!("gateway-{index}.example:88")).collect();
    ring_of(&identities)
}

/// A request whose target is `target`.
pub fn request(target: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET ", target.as_ref(), b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat()
}

/// A request of `user`, with everything escaped that can be.
pub fn request_of(user: &str) -> Vec<u8> {
    let escaped: String = user.bytes().map(|byte| format!("%{byte:02x}")).collect();
    request(format!("/?token=t&sendID={escaped}&platformID=5"))
}

/// What the kernel did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Drop,
    Pass,
    Transmit,
    Redirect,
}

/// Verdict, packet and counters after a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub action: Action,
    pub frame: Vec<u8>,
    /// The counters that rose, and by how much.
    pub counted: BTreeMap<&'static str, u64>,
}

impl Outcome {
    /// Asserts the verdict, and that exactly these counters rose, by one.
    #[track_caller]
    pub fn assert(&self, action: Action, counters: &[&'static str]) {
        let expected: BTreeMap<_, _> = counters.iter().map(|&name| (name, 1)).collect();
        assert_eq!((self.action, &self.counted), (action, &expected));
    }

    /// Asserts that it is answered by an RST, counted as `counter`, and gives that.
    #[track_caller]
    pub fn reset(&self, counter: &'static str) -> Received {
        self.assert(Action::Transmit, &[counter]);
        let reset = receive(&self.frame);
        assert_eq!((reset.options.len(), reset.payload.len()), (0, 0));
        reset
    }
}

/// A node under test.
pub struct Node {
    pub dataplane: Dataplane,
    _bpffs: Bpffs,
}

impl Node {
    /// A node of a ring with `members` members, the first of which it is.
    pub fn among(members: usize) -> Self {
        Self::in_ring(&ring_among(members))
    }

    /// A node that is the first member of `ring`.
    pub fn in_ring(ring: &Ring) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root: run them with sudo");
        let bpffs = Bpffs::mount();
        let settings = Settings {
            pin_dir: bpffs.0.path().join("ringsteer"),
            max_flows: MAX_FLOWS,
            slot_shift: DEFAULT_SLOT_SHIFT,
            object: None,
        };
        let dataplane = Dataplane::load(&settings).unwrap();
        let mut node = Self { dataplane, _bpffs: bpffs };
        node.publish(ring, Secrets { current: SECRET, previous: SECRET });
        node
    }

    /// Gives this node's network namespace the service's address, on a loopback interface that is up.
    pub fn bring_up(&mut self) {
        for arguments in [format!("address add {}/32 dev lo", SERVER.address), "link set lo up".to_owned()] {
            // A child starts in the namespaces of the thread that starts it.
            let status = Command::new("ip").args(arguments.split(' ')).status().expect("cannot run `ip`");
            assert!(status.success(), "ip {arguments}: {status}");
        }
    }

    /// Publishes `ring`, of which this node is the first member.
    pub fn publish(&mut self, ring: &Ring, secrets: Secrets) {
        let service = Service {
            address: mapped(SERVER.address.octets()),
            port: SERVER.port,
            parameter: PARAMETER.to_vec(),
            mss: MSS,
        };
        let this = This::of(&ring.members()[0]);
        let state = State { ring, previous: None, this, tunnel_port: TUNNEL_PORT, secrets, services: &[service] };
        publish(&mut self.dataplane.maps, &state).unwrap();
    }

    /// Runs `steer` on a frame.
    pub fn run(&mut self, frame: &[u8]) -> Outcome {
        let before = self.stats();
        let (action, frame) = self.run_uncounted(frame);
        let counted = self.stats().since(&before).named().filter(|(_, count)| *count != 0).collect();
        Outcome { action, frame, counted }
    }

    /// Runs `steer` on a frame without a look at the counters, which takes longer than the run.
    pub fn run_uncounted(&mut self, frame: &[u8]) -> (Action, Vec<u8>) {
        let mut output = [0; 3_000];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut output), ..TestRunOptions::default() };
        let result = self.dataplane.steer().test_run(options).unwrap();
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            4 => Action::Redirect,
            other => panic!("XDP action {other} for {frame:02x?}"),
        };
        (action, output[..result.data_size_out as usize].to_vec())
    }

    fn stats(&self) -> Stats {
        self.dataplane.maps.stats().unwrap()
    }

    /// Has `from` dial, and gives the cookie it is answered with.
    #[track_caller]
    pub fn dial(&mut self, from: End, isn: u32) -> u32 {
        let answer = self.run(&syn(from, isn, &[]).frame());
        answer.assert(Action::Transmit, &["syn_answered"]);
        let answer = receive(&answer.frame);
        assert_eq!((answer.flags, answer.acknowledgement), (SYN | ACK, isn.wrapping_add(1)));
        answer.sequence
    }

    /// Has `from` dial and send `payload` in its first segment.
    #[track_caller]
    pub fn open(&mut self, from: End, payload: &[u8]) -> Outcome {
        let cookie = self.dial(from, ISN);
        self.run(&first(from, ISN, cookie, payload).frame())
    }

    /// The flow of `from`, if there is one.
    pub fn flow(&self, from: End) -> Option<Flow> {
        match self.dataplane.maps.flows.get(&flow_key(from), 0) {
            Ok(flow) => Some(flow),
            Err(aya::maps::MapError::KeyNotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Removes the flow of `from`, and gives it.
    #[track_caller]
    pub fn take_flow(&mut self, from: End) -> Flow {
        let flow = self.flow(from).expect("no flow was bound");
        self.dataplane.maps.flows.remove(&flow_key(from)).unwrap();
        flow
    }

    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.dataplane.maps.flows.keys().count()
    }
}

fn flow_key(from: End) -> FlowKey {
    // The only service has the number 1.
    FlowKey { client: mapped(from.address.octets()), client_port: from.port, service: 1 }
}

/// A SYN.
pub fn syn(from: End, isn: u32, options: &[u8]) -> Segment {
    Segment {
        from,
        to: SERVER,
        flags: SYN,
        sequence: isn,
        acknowledgement: 0,
        options: options.to_vec(),
        payload: Vec::new(),
    }
}

/// The segment that follows a SYN answered with `cookie`.
pub fn first(from: End, isn: u32, cookie: u32, payload: &[u8]) -> Segment {
    Segment {
        from,
        to: SERVER,
        flags: ACK | if payload.is_empty() { 0 } else { PSH },
        sequence: isn.wrapping_add(1),
        acknowledgement: cookie.wrapping_add(1),
        options: Vec::new(),
        payload: payload.to_vec(),
    }
}

/// Runs a property on a node.
pub fn property<S: Strategy>(node: Node, cases: u32, strategy: S, check: impl Fn(&mut Node, S::Value)) {
    let node = RefCell::new(node);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |value| {
        check(&mut node.borrow_mut(), value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// A BPF file system, seen by this thread only.
struct Bpffs(TempDir);

impl Bpffs {
    fn mount() -> Self {
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let directory = tempfile::tempdir().unwrap();
        mount(Some("bpf"), directory.path(), Some("bpf"), MsFlags::empty(), nothing).unwrap();
        Self(directory)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.path().display());
        }
    }
}
