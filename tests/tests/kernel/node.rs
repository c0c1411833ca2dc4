//! The fixture: a [`kernel::Node`] with a ring in force, and how tests talk to it. It panics where the library gives an
//! error.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use ringsteer::ring::{Algorithm, Ring};
use ringsteer_ebpf::{
    cookie::DEFAULT_SLOT_SHIFT,
    layout::{
        Address,
        flow::{Flow, FlowKey},
        mapped,
        secret::Secrets,
    },
};
use ringsteer_tests::{
    kernel::{
        self, Setup, addresses,
        run::{Arrival, Outcome},
    },
    lab::Family,
    packet::{Flags, Frame, IpPacket, Segment},
};

pub use kernel::run::{Action, Admission};

/// The parameter that holds the key.
pub const PARAMETER: &[u8] = b"sendID";
/// The tunnel's UDP port.
pub const TUNNEL_PORT: u16 = 6080;
/// Flows the table holds.
pub const MAX_FLOWS: u32 = 1024;
/// Nodes whose link-layer addresses are known.
pub const NEIGHBOURS: u16 = 50;
/// The secret unless a test has another.
pub const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0f1e_2d3c_4b5a_6978];
/// The secrets unless a test has others.
pub const SECRETS: Secrets = Secrets { current: SECRET, previous: SECRET };
/// The initial sequence number of clients; half way through its first data it wraps.
pub const ISN: u32 = u32::MAX - 20;
/// The reserved bit that asks for admission.
pub const MARK: u8 = 0x08;

/// The families a test is about: that of the nodes among each other, and that of clients and service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    pub outer: Family,
    pub inner: Family,
}

/// A client, at this port.
pub fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(addresses::client(family, kernel::CLIENT), port)
}

/// Clients of many networks.
pub fn networks(family: Family) -> impl Iterator<Item = IpAddr> {
    (1..=50u16).map(move |network| match addresses::client(family, kernel::CLIENT) {
        // There are no more than three for documentation (RFC 5737).
        IpAddr::V4(_) => {
            let [a, b, c] = [[192, 0, 2], [198, 51, 100], [203, 0, 113]][usize::from(network % 3)];
            [a, b, c, 100 + network as u8].into()
        }
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            // They differ in nothing but the network, in turn in either half of what is below the provider's.
            segments[2 + usize::from(network % 2)] = 0x1000 + network;
            segments.into()
        }
    })
}

/// The service.
pub fn server(family: Family) -> SocketAddr {
    addresses::virtual_address(family)
}

/// What the service offers its clients.
pub fn offered_mss(family: Family) -> u16 {
    kernel::service(family).mss
}

/// A ring of so many members.
pub fn ring_among(outer: Family, members: usize) -> Ring {
    let identities: Vec<_> = (0..members).map(|index| format!("gateway-{index}.example:88")).collect();
    kernel::ring_of(Algorithm::OpenIm, &identities, outer).unwrap()
}

/// A user that the member `number` owns.
pub fn user_of(ring: &Ring, number: u16) -> String {
    (0..).map(|index| format!("user{index}")).find(|user| ring.owner(user.as_bytes()).number.get() == number).unwrap()
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

/// A SYN without options.
pub fn syn(from: SocketAddr, isn: u32) -> Segment {
    let server = server(Family::of(from.ip()));
    Segment { sequence: isn, ..Segment::new(from, server, Flags::SYN) }
}

/// The segment that follows a SYN answered with `cookie`.
pub fn first(from: SocketAddr, isn: u32, cookie: u32, payload: &[u8]) -> Segment {
    let server = server(Family::of(from.ip()));
    let flags = if payload.is_empty() { Flags::ACK } else { Flags::ACK | Flags::PSH };
    Segment {
        sequence: isn.wrapping_add(1),
        acknowledgement: cookie.wrapping_add(1),
        payload: payload.to_vec(),
        ..Segment::new(from, server, flags)
    }
}

/// What a sender makes of a packet on its way to this node.
pub fn frame(packet: &[u8]) -> Vec<u8> {
    let ether_type = match packet.first().map(|byte| byte >> 4) {
        Some(6) => Family::V6.ether_type(),
        _ => Family::V4.ether_type(),
    };
    let (destination, source) = (addresses::link(1), addresses::link(addresses::CLIENTS));
    Frame { destination, source, ether_type, payload: packet.to_vec() }.to_bytes()
}

/// Reads the packet in a frame, which must be an IP packet whose family the frame says.
#[track_caller]
pub fn packet_in(frame: &[u8]) -> Vec<u8> {
    let frame = Frame::parse(frame).expect("a frame");
    let packet = IpPacket::parse(&frame.payload).expect("an IP packet");
    assert_eq!(frame.ether_type, packet.family().ether_type());
    frame.payload
}

/// Reads the segment in a frame; all its lengths and sums must be right.
#[track_caller]
pub fn segment_in(frame: &[u8]) -> Segment {
    Segment::verified(&packet_in(frame)).unwrap()
}

/// Asserts that a segment was answered by RST, counted as `counter`, and gives that.
#[track_caller]
pub fn reset_in(outcome: &Outcome<Action>, counter: &'static str) -> Segment {
    outcome.assert(Action::Transmit, &[counter]);
    let reset = segment_in(&outcome.frame);
    assert!(reset.options.is_empty() && reset.payload.is_empty() && reset.reserved == 0);
    reset
}

/// A node under test: the first member of its ring.
pub struct Node(kernel::Node);

impl Deref for Node {
    type Target = kernel::Node;

    fn deref(&self) -> &kernel::Node {
        &self.0
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut kernel::Node {
        &mut self.0
    }
}

impl Node {
    /// A node of a ring with `members` members that speak `outer` among each other.
    pub fn among(outer: Family, members: usize) -> Self {
        Self::in_ring(&ring_among(outer, members))
    }

    /// A node of `ring`.
    pub fn in_ring(ring: &Ring) -> Self {
        Self::with(ring, |_| {})
    }

    /// A node of `ring` that is not as all others.
    pub fn with(ring: &Ring, change: impl FnOnce(&mut Setup)) -> Self {
        let outer = Family::of(ring.members()[0].address.ip());
        // Other programs than those built in, to see which tests they fail.
        let object = std::env::var_os("RINGSTEER_KERNEL_OBJECT").map(Into::into);
        let mut setup = Setup {
            outer,
            max_flows: MAX_FLOWS,
            slot_shift: DEFAULT_SLOT_SHIFT,
            accept: false,
            neighbours: NEIGHBOURS,
            object,
        };
        change(&mut setup);
        let mut node = Self(kernel::Node::new(&setup).unwrap());
        node.publish(ring, SECRETS);
        node
    }

    /// Puts `ring` in force.
    pub fn publish(&mut self, ring: &Ring, secrets: Secrets) {
        self.0.publish(ring, secrets).unwrap();
    }

    /// Runs `steer` on a frame.
    #[track_caller]
    pub fn run(&mut self, frame: &[u8]) -> Outcome<Action> {
        self.steer(frame, Arrival::Edge).unwrap()
    }

    /// Runs `steer` on a packet.
    #[track_caller]
    pub fn packet(&mut self, packet: &[u8]) -> Outcome<Action> {
        self.run(&frame(packet))
    }

    /// Runs `steer` on a segment.
    #[track_caller]
    pub fn segment(&mut self, segment: &Segment) -> Outcome<Action> {
        self.packet(&segment.to_bytes())
    }

    /// Has `from` dial, and gives the cookie it is answered with.
    #[track_caller]
    pub fn dial(&mut self, from: SocketAddr, isn: u32) -> u32 {
        let answer = self.segment(&syn(from, isn));
        answer.assert(Action::Transmit, &["syn_answered"]);
        let answer = segment_in(&answer.frame);
        assert_eq!((answer.flags, answer.acknowledgement), (Flags::SYN | Flags::ACK, isn.wrapping_add(1)));
        answer.sequence
    }

    /// Has `from` dial and send `payload` in its first segment.
    #[track_caller]
    pub fn open(&mut self, from: SocketAddr, payload: &[u8]) -> Outcome<Action> {
        let cookie = self.dial(from, ISN);
        self.segment(&first(from, ISN, cookie, payload))
    }

    /// The flow of `from`, if there is one.
    pub fn flow(&self, from: SocketAddr) -> Option<Flow> {
        match self.dataplane.maps.flows.get(&flow_key(from), 0) {
            Ok(flow) => Some(flow),
            Err(aya::maps::MapError::KeyNotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Removes the flow of `from`, and gives it.
    #[track_caller]
    pub fn take_flow(&mut self, from: SocketAddr) -> Flow {
        let flow = self.flow(from).expect("no flow was bound");
        self.dataplane.maps.flows.remove(&flow_key(from)).unwrap();
        flow
    }

    /// How many flows there are.
    pub fn flows(&self) -> usize {
        self.dataplane.maps.flows.keys().count()
    }
}

/// What the maps call the connection of `from`. Services are published in the order of the families, and numbered from 1.
pub fn flow_key(from: SocketAddr) -> FlowKey {
    let (client, service) = match from.ip() {
        IpAddr::V4(address) => (mapped(address.octets()), 1),
        IpAddr::V6(address) => (Address::from(address.octets()), 2),
    };
    FlowKey { client, client_port: from.port(), service }
}

/// A cookie slot of 17 ms, for tests that see cookies expire.
pub const SHORT_SLOT: u8 = 24;

/// Keeps this thread on the CPU it is on: what programs remember they remember on each CPU for itself.
pub fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    // SAFETY: no arguments, no preconditions.
    let cpu = unsafe { libc::sched_getcpu() };
    cpus.set(usize::try_from(cpu).expect("a CPU has a number")).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
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
