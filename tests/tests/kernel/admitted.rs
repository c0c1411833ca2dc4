//! The socket that the kernel makes of a first segment is the one that was agreed on, and nothing less makes one.
//!
//! The programs are attached to the node's link, and the segments come over it: clients and other nodes are at its other
//! end.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use ringsteer::dataplane::moves::MoveMaps;
use ringsteer_ebpf::{cookie::RCV_WSCALE, layout::moves::Move};
use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_family, on_each_mix,
    packet::{Datagram, Flags, Segment, TcpOption},
};

use crate::{
    node::{ISN, MARK, Mix, Node, TUNNEL_PORT, client, flow_key, request_of, server, syn},
    wire::{Agreed, PATIENCE, Wire, until},
};

on_each_family!(
    a_half_open_handshake_leaves_nothing,
    a_client_of_this_node_is_served,
    what_was_offered_is_what_is_agreed,
    a_repeated_first_segment_makes_no_second_socket,
    a_listener_that_comes_late_is_found,
    a_new_connection_replaces_a_live_one_on_its_ports,
);
on_each_mix!(
    a_client_of_another_node_is_served,
    what_overtook_the_first_segment_makes_no_socket,
    a_new_connection_is_admitted_where_an_earlier_one_has_gone_away,
);

/// A node with its programs attached.
struct Live {
    node: Node,
    wire: Wire,
    listener: TcpListener,
    from: SocketAddr,
}

impl Live {
    /// A node among `members`, that listens for a service.
    fn new(mix: Mix, members: usize) -> Self {
        let mut node = Node::among(mix.outer, members);
        node.take_virtual_addresses().unwrap();
        node.attach().unwrap();
        let listener = TcpListener::bind(server(mix.inner)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { node, wire: Wire::open(), listener, from: client(mix.inner, 40_000) }
    }

    /// Sends a SYN over the link and gives the answer.
    fn dial(&self, isn: u32, options: Vec<TcpOption>) -> Segment {
        self.wire.send(&Segment { options, ..syn(self.from, isn) }.to_bytes());
        let acknowledged = isn.wrapping_add(1);
        let answer = self.wire.segment(|seen| seen.destination == self.from && seen.acknowledgement == acknowledged);
        assert_eq!(answer.flags, Flags::SYN | Flags::ACK);
        answer
    }

    /// The first segment that follows that answer, with the request of a user.
    fn first(&self, answer: &Segment) -> Segment {
        Segment { payload: request_of("u1"), ..Segment::acknowledging(answer) }
    }

    fn count(&self, counter: &str) -> u64 {
        let stats = self.node.dataplane.maps.stats().unwrap();
        stats.named().find(|(name, _)| *name == counter).expect("a counter of that name").1
    }

    #[track_caller]
    fn await_count(&self, counter: &str, count: u64) {
        until(counter, || self.count(counter) >= count);
        assert_eq!(self.count(counter), count, "{counter}");
    }

    /// The connection that has been admitted.
    #[track_caller]
    fn accept(&self) -> TcpStream {
        let mut accepted = None;
        until("a socket is there to accept", || {
            accepted = self.accept_now();
            accepted.is_some()
        });
        let stream = accepted.expect("that was waited for");
        assert_eq!(stream.peer_addr().unwrap(), self.from);
        assert_eq!(stream.local_addr().unwrap(), self.listener.local_addr().unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn accept_now(&self) -> Option<TcpStream> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asserts that the request of `segment` arrived, and that what is answered reaches the client in order.
    #[track_caller]
    fn assert_talks(&self, stream: &mut TcpStream, segment: &Segment) {
        let mut request = vec![0; segment.payload.len()];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, segment.payload);
        stream.write_all(b"hello").unwrap();
        let answer = self.wire.segment(|seen| seen.destination == self.from && seen.payload == b"hello");
        let acknowledged = segment.sequence.wrapping_add(segment.payload.len() as u32);
        assert_eq!(answer.source, segment.destination);
        assert_eq!((answer.sequence, answer.acknowledgement), (segment.acknowledgement, acknowledged));
        let echoed = answer.timestamps().map(|(_, echo)| echo);
        assert_eq!(echoed, segment.timestamps().map(|(value, _)| value));
    }

    /// The service's sockets in this network namespace: their states, as `/proc` has them.
    fn states(&self) -> Vec<String> {
        let table = if self.from.is_ipv4() { "tcp" } else { "tcp6" };
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned)).collect()
    }
}

/// The same family for all.
fn alike(family: Family) -> Mix {
    Mix { outer: family, inner: family }
}

/// SYN, the ACK of its answer, and nothing more: no flow, no socket, nothing half-open either.
fn a_half_open_handshake_leaves_nothing(family: Family) {
    let live = Live::new(alike(family), 1);
    let answer = live.dial(ISN, vec![TcpOption::MaximumSegmentSize(1_300), TcpOption::Timestamps(1, 0)]);
    live.wire.send(&Segment::acknowledging(&answer).to_bytes());
    live.await_count("handshake_acks", 1);
    assert_eq!((live.count("syn_answered"), live.count("admitted")), (1, 0));
    assert_eq!(live.node.flows(), 0);
    // The listener alone (TCP_LISTEN).
    assert_eq!(live.states(), ["0A"]);
    assert!(live.accept_now().is_none());
}

fn a_client_of_this_node_is_served(family: Family) {
    let live = Live::new(alike(family), 1);
    let answer = live.dial(ISN, Vec::new());
    let segment = live.first(&answer);
    live.wire.send(&segment.to_bytes());
    let mut stream = live.accept();
    live.assert_talks(&mut stream, &segment);
    assert_eq!((live.count("bound_by_key"), live.count("delivered"), live.count("admitted")), (1, 1, 1));
    // What follows is nothing special any more.
    let next = Segment {
        sequence: segment.sequence.wrapping_add(segment.payload.len() as u32),
        acknowledgement: segment.acknowledgement.wrapping_add(5),
        payload: b"more".to_vec(),
        ..segment
    };
    live.wire.send(&next.to_bytes());
    let mut more = [0; 4];
    stream.read_exact(&mut more).unwrap();
    assert_eq!((&more, live.count("admitted_before")), (b"more", 0));
}

/// The edge has marked the segment and put it into the tunnel; this node is the owner.
fn a_client_of_another_node_is_served(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let live = Live::new(mix, 2);
    // The edge's cookie is as good as ours: the fleet has one secret.
    let answer = live.dial(ISN, vec![TcpOption::MaximumSegmentSize(1_400), TcpOption::Timestamps(9, 0)]);
    let segment = live.first(&answer);
    let marked = Segment { reserved: MARK, ..segment.clone() };
    live.wire.send(&through_tunnel(mix, &marked));
    let mut stream = live.accept();
    live.assert_talks(&mut stream, &segment);
    assert_eq!((live.count("untunnelled"), live.count("admitted"), live.node.flows()), (1, 1, 0));
}

/// A segment as node 2 tunnels it to this one.
fn through_tunnel(mix: Mix, segment: &Segment) -> Vec<u8> {
    let [us, edge] = [1, 2].map(|number| addresses::node(mix.outer, number));
    Datagram { checksum: false, ..Datagram::new((edge, 0xC123), (us, TUNNEL_PORT), segment.to_bytes()) }.to_bytes()
}

fn what_was_offered_is_what_is_agreed(family: Family) {
    let stamps = TcpOption::Timestamps(5, 0);
    // The least there is (RFC 9293 section 3.7.1), and what 12 bytes of timestamps leave of 1300.
    let least = if family == Family::V4 { 536 } else { 1_220 };
    let cases = [
        (vec![], Agreed { timestamps: false, sack: false, scales: None, segment: least }),
        (
            // Without timestamps there is nothing to remember them by.
            vec![TcpOption::MaximumSegmentSize(1_300), TcpOption::SackPermitted, TcpOption::WindowScale(9)],
            Agreed { timestamps: false, sack: false, scales: None, segment: 1_300 },
        ),
        (
            vec![TcpOption::MaximumSegmentSize(1_300), stamps.clone()],
            Agreed { timestamps: true, sack: false, scales: None, segment: 1_288 },
        ),
        (
            vec![TcpOption::MaximumSegmentSize(1_300), stamps.clone(), TcpOption::SackPermitted],
            Agreed { timestamps: true, sack: true, scales: None, segment: 1_288 },
        ),
        (
            vec![TcpOption::MaximumSegmentSize(1_300), stamps.clone(), TcpOption::WindowScale(0)],
            Agreed { timestamps: true, sack: false, scales: Some((0, RCV_WSCALE)), segment: 1_288 },
        ),
        (
            vec![TcpOption::MaximumSegmentSize(1_300), stamps, TcpOption::SackPermitted, TcpOption::WindowScale(9)],
            Agreed { timestamps: true, sack: true, scales: Some((9, RCV_WSCALE)), segment: 1_288 },
        ),
    ];
    let mut live = Live::new(alike(family), 1);
    for (port, (options, agreed)) in (41_000..).zip(cases) {
        live.from = client(family, port);
        let answer = live.dial(ISN, options.clone());
        let segment = live.first(&answer);
        live.wire.send(&segment.to_bytes());
        let mut stream = live.accept();
        assert_eq!(Agreed::of(&stream), agreed, "{options:?}");
        live.assert_talks(&mut stream, &segment);
    }
}

fn a_repeated_first_segment_makes_no_second_socket(family: Family) {
    let live = Live::new(alike(family), 1);
    let answer = live.dial(ISN, vec![TcpOption::Timestamps(5, 0)]);
    let segment = live.first(&answer);
    live.wire.send(&segment.to_bytes());
    let mut stream = live.accept();
    for round in 1..=3 {
        live.wire.send(&segment.to_bytes());
        live.await_count("admitted_before", round);
    }
    live.assert_talks(&mut stream, &segment);
    assert!(live.accept_now().is_none());
    assert_eq!((live.count("admitted"), live.count("stale_socket_closed")), (1, 0));
    // The request was read once.
    stream.set_nonblocking(true).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

fn a_listener_that_comes_late_is_found(family: Family) {
    let mut live = Live::new(alike(family), 1);
    let address = live.listener.local_addr().unwrap();
    // Listens elsewhere for the time being.
    live.listener = TcpListener::bind((address.ip(), 0)).unwrap();
    let answer = live.dial(ISN, Vec::new());
    let segment = live.first(&answer);
    live.wire.send(&segment.to_bytes());
    live.await_count("drop_no_listener", 1);
    live.listener = TcpListener::bind(address).unwrap();
    live.listener.set_nonblocking(true).unwrap();
    live.wire.send(&segment.to_bytes());
    live.assert_talks(&mut live.accept(), &segment);
}

/// The client has vanished and dials again from the same port.
fn a_new_connection_replaces_a_live_one_on_its_ports(family: Family) {
    let live = Live::new(alike(family), 1);
    let first = live.first(&live.dial(ISN, vec![TcpOption::Timestamps(5, 0)]));
    live.wire.send(&first.to_bytes());
    let mut old = live.accept();
    live.assert_talks(&mut old, &first);

    let isn = ISN ^ 0x4000_0000;
    let second = live.first(&live.dial(isn, vec![TcpOption::Timestamps(700, 0)]));
    live.wire.send(&second.to_bytes());
    let mut new = live.accept();
    live.assert_talks(&mut new, &second);
    let counted = ["rebound", "stale_socket_closed", "admitted", "drop_stale_socket"].map(|name| live.count(name));
    assert_eq!(counted, [1, 1, 2, 0]);
    assert_eq!(old.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// An edge has bound it to this node, from which an earlier connection on the same addresses and ports has just moved.
fn a_new_connection_is_admitted_where_an_earlier_one_has_gone_away(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let live = Live::new(mix, 2);
    let key = flow_key(live.from);
    let answer = live.dial(ISN, vec![TcpOption::MaximumSegmentSize(1_400), TcpOption::Timestamps(9, 0)]);
    let segment = live.first(&answer);
    let earlier = Move {
        since_ns: 1,
        last_sent_ns: 0,
        held: 0,
        sent_on: 0,
        node: 2,
        count: 1,
        first_ack: segment.acknowledgement.wrapping_add(1),
        unused: 0,
    };
    let mut moves = MoveMaps::open(live.node.pin_dir()).unwrap();
    moves.set(&key, earlier).unwrap();
    let marked = Segment { reserved: MARK, ..segment.clone() };
    // What proves nothing changes nothing.
    live.wire.send(&through_tunnel(mix, &Segment { sequence: marked.sequence.wrapping_add(7), ..marked.clone() }));
    live.await_count("drop_admission_cookie", 1);
    assert_eq!(moves.get(&key).unwrap(), Some(earlier));
    live.wire.send(&through_tunnel(mix, &marked));
    let mut stream = live.accept();
    live.assert_talks(&mut stream, &segment);
    assert_eq!((live.count("admitted"), live.count("forwarded_moved")), (1, 0));
    assert_eq!(moves.get(&key).unwrap(), None);
}

fn what_overtook_the_first_segment_makes_no_socket(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let live = Live::new(mix, 2);
    let answer = live.dial(ISN, Vec::new());
    let segment = Segment { reserved: MARK, ..live.first(&answer) };
    let early = Segment { sequence: segment.sequence.wrapping_add(1_412), ..segment.clone() };
    live.wire.send(&through_tunnel(mix, &early));
    live.await_count("drop_admission_cookie", 1);
    assert!(live.accept_now().is_none());
    live.wire.send(&through_tunnel(mix, &segment));
    let stream = live.accept();
    assert_eq!(live.count("admitted"), 1);
    drop(stream);
}
