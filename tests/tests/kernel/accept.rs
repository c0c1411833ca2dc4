//! Mode "accept": a connection stays at the node that its addresses hash to, whatever becomes of the ring, and strangers
//! make no entry that anybody else would miss. Nothing here needs the function that `admit` calls.

use std::{collections::BTreeMap, net::SocketAddr};

use proptest::prelude::*;
use ringsteer::{
    dataplane::{Dataplane, Settings, moves::MoveMaps, object as programs},
    ring::Ring,
};
use ringsteer_ebpf::{
    kfunc::ASSIGN_REQSK,
    layout::{
        flow::{Flow, MAX_DIALLING},
        moves::Move,
    },
};
use ringsteer_tests::{
    kernel::{
        addresses, older,
        run::{Arrival, Outcome},
    },
    lab::Family,
    on_each_family, on_each_mix,
    packet::{Datagram, Flags, Segment},
};

use crate::{
    node::{
        Action, ISN, Mix, Node, SECRETS, TUNNEL_PORT, client, first, flow_key, frame, packet_in, property, request_of,
        ring_among, server, syn,
    },
    wire::until,
};

on_each_mix!(
    a_connection_goes_where_its_addresses_hash_to,
    a_flow_decides_and_is_changed_by_no_syn,
    what_is_held_or_has_moved_is_not_given_to_anybody_else,
    a_syn_out_of_the_tunnel_is_for_our_own_stack,
);
on_each_family!(
    all_edges_agree_and_so_does_late_binding,
    a_ring_change_moves_no_connection_that_is_just_dialling,
    a_flood_of_syns_fills_nothing,
    a_flow_whose_node_is_gone_is_in_nobodys_way,
    what_this_node_has_a_socket_for_stays,
    no_packet_is_answered,
);

/// A node of `ring` in this mode.
fn node_in(ring: &Ring) -> Node {
    Node::with(ring, |setup| setup.accept = true)
}

fn node(outer: Family, members: usize) -> Node {
    node_in(&ring_among(outer, members))
}

/// What [`later`] acknowledges: a connection can be called so by chance, and nothing is to be marked for it.
const BIRTH: u32 = 0x5555_0001;

/// A segment after the handshake, as the client of a node's own stack sends it: we have seen none of the numbers.
fn later(from: SocketAddr, payload: &[u8]) -> Segment {
    first(from, ISN, BIRTH - 1, payload)
}

/// The node that a segment was given to; it must have been given to one as it is.
#[track_caller]
fn given_to(mix: Mix, outcome: &Outcome<Action>, sent: &Segment) -> u16 {
    match outcome.action {
        Action::Pass => {
            assert_eq!(outcome.frame, frame(&sent.to_bytes()));
            1
        }
        Action::Transmit => {
            let tunnel = Datagram::verified(&packet_in(&outcome.frame)).unwrap();
            assert_eq!(tunnel.payload, sent.to_bytes(), "unchanged, and not marked");
            assert_eq!(tunnel.destination.port(), TUNNEL_PORT);
            let is_at = |number: &u16| addresses::node(mix.outer, *number) == tunnel.destination.ip();
            (2..=50).find(is_at).expect("a node")
        }
        other => panic!("{other:?}"),
    }
}

/// How a segment is counted that is given to that node, beside `why`.
fn counted(node: u16, why: &'static str) -> BTreeMap<&'static str, u64> {
    [(why, 1), (if node == 1 { "delivered" } else { "tunnelled" }, 1)].into()
}

/// Sends a SYN, and gives the node it was given to.
#[track_caller]
fn dials(node: &mut Node, mix: Mix, from: SocketAddr) -> u16 {
    let sent = syn(from, ISN);
    let outcome = node.segment(&sent);
    let to = given_to(mix, &outcome, &sent);
    assert_eq!(outcome.counted, counted(to, "syn_passed_on"));
    to
}

/// Sends a segment that has no flow yet, and gives the node it was given to.
#[track_caller]
fn goes_on(node: &mut Node, mix: Mix, sent: &Segment) -> u16 {
    let outcome = node.segment(sent);
    let to = given_to(mix, &outcome, sent);
    assert_eq!(outcome.counted, counted(to, "passed_by_tuple"));
    to
}

/// What an agent makes of the news that a connection is at a node.
fn flow_at(node: u32) -> Flow {
    Flow {
        bound_ns: 1,
        last_seen_ns: 1,
        packets: 0,
        bytes: 0,
        node,
        key_hash: 0,
        first_ack: BIRTH,
        last_ack: 0,
        closing: 0,
        moved: 0,
        syn_slot: 0,
    }
}

fn has_flow(node: &mut Node, from: SocketAddr, flow: Flow) {
    node.dataplane.maps.flows.insert(flow_key(from), flow, 0).unwrap();
}

fn a_connection_goes_where_its_addresses_hash_to(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = node(outer, 4);
    let mut given: BTreeMap<u16, u32> = BTreeMap::new();
    for port in 40_000..40_200 {
        let from = client(inner, port);
        let to = dials(&mut node, mix, from);
        *given.entry(to).or_default() += 1;
        // Once more, as TCP sends it again; and all that follows until the agent makes a flow.
        assert_eq!(dials(&mut node, mix, from), to);
        for sent in [
            later(from, b""),
            later(from, &request_of("u1")),
            Segment { flags: Flags::ACK | Flags::FIN, ..later(from, b"") },
            Segment { flags: Flags::RST, acknowledgement: 0, ..later(from, b"") },
        ] {
            assert_eq!(goes_on(&mut node, mix, &sent), to);
        }
    }
    assert_eq!(node.flows(), 0);
    assert_eq!(given.len(), 4, "{given:?}");
    assert!(given.values().all(|count| *count >= 10), "{given:?}");
}

fn all_edges_agree_and_so_does_late_binding(family: Family) {
    let mix = Mix { outer: family, inner: family };
    let ring = ring_among(family, 5);
    let ports = 40_000..40_100;
    // Without a key late binding goes by the same addresses.
    let mut late = Node::in_ring(&ring);
    let bound: Vec<u16> = ports
        .clone()
        .map(|port| {
            let from = client(family, port);
            late.open(from, b"no key");
            late.flow(from).unwrap().node as u16
        })
        .collect();
    drop(late);
    let mut node = node_in(&ring);
    let given: Vec<u16> = ports.map(|port| dials(&mut node, mix, client(family, port))).collect();
    assert_eq!(given, bound);
}

fn a_ring_change_moves_no_connection_that_is_just_dialling(family: Family) {
    let mix = Mix { outer: family, inner: family };
    let (large, small) = (ring_among(family, 6), ring_among(family, 3));
    let mut node = node_in(&small);
    let dialled: Vec<(SocketAddr, u16)> =
        (40_000..40_100).map(|port| client(family, port)).map(|from| (from, dials(&mut node, mix, from))).collect();
    node.publish(&large, SECRETS);
    for &(from, to) in &dialled {
        assert_eq!(goes_on(&mut node, mix, &later(from, b"GET")), to);
        assert_eq!(dials(&mut node, mix, from), to, "its SYN was lost, and comes again");
    }
    // Those who come now go by the new ring, and there are some in it who were not in the old one.
    let news: Vec<(SocketAddr, u16)> =
        (41_000..41_100).map(|port| client(family, port)).map(|from| (from, dials(&mut node, mix, from))).collect();
    assert!(news.iter().any(|(_, to)| *to > 3));
    // A node that has left takes nobody in.
    node.publish(&small, SECRETS);
    for &(from, to) in &news {
        until("nobody is sent to a node that has left", || {
            let sent = later(from, b"GET");
            let outcome = node.segment(&sent);
            outcome.action != Action::Drop && {
                let now = given_to(mix, &outcome, &sent);
                if to <= 3 { now == to } else { now <= 3 }
            }
        });
    }
}

fn a_flood_of_syns_fills_nothing(family: Family) {
    let mix = Mix { outer: family, inner: family };
    let mut node = node(family, 4);
    let honest = client(family, 50_000);
    let to = dials(&mut node, mix, honest);
    for host in 100..102 {
        for port in 0..=(MAX_DIALLING / 2) as u16 {
            let from = SocketAddr::new(addresses::client(family, host), 1024 + port);
            let (action, _) = node.steer_uncounted(&frame(&syn(from, ISN).to_bytes()), Arrival::Edge).unwrap();
            assert_ne!(action, Action::Drop);
        }
    }
    assert_eq!(node.flows(), 0);
    // Whoever was in the middle of it has lost nothing, remembered or not.
    assert_eq!(goes_on(&mut node, mix, &later(honest, b"GET")), to);
    // Segments that nobody has dialled for make no entry either.
    for port in 0..1000 {
        goes_on(&mut node, mix, &later(client(family, 20_000 + port), b"GET"));
    }
    assert_eq!(node.flows(), 0);
}

fn a_flow_decides_and_is_changed_by_no_syn(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = node(outer, 4);
    let from = client(inner, 40_000);
    for number in 1..=4 {
        has_flow(&mut node, from, flow_at(number.into()));
        let way = if number == 1 { "delivered" } else { "tunnelled" };
        let sent = Segment { flags: Flags::RST, acknowledgement: 0, ..later(from, b"") };
        for sent in [later(from, b"GET"), sent] {
            let outcome = node.segment(&sent);
            assert_eq!(given_to(mix, &outcome, &sent), number);
            assert_eq!(outcome.counted, [(way, 1)].into());
        }
        let before = node.flow(from).unwrap();
        assert_eq!((before.packets, before.closing), (2, 1));
        assert_eq!(dials(&mut node, mix, from), number, "the node's stack knows what to do with it");
        assert_eq!(node.flow(from), Some(before));
        // Which has no say about the others.
        let sent = later(from, b"GET");
        let outcome = node.segment(&sent);
        assert_eq!((given_to(mix, &outcome, &sent), outcome.counted), (number, [(way, 1)].into()));
    }
}

fn a_flow_whose_node_is_gone_is_in_nobodys_way(family: Family) {
    let mix = Mix { outer: family, inner: family };
    let mut node = node(family, 3);
    let from = client(family, 40_000);
    let by_hash = dials(&mut node, mix, client(family, 40_000));
    has_flow(&mut node, from, flow_at(9));
    // Its client is told.
    let outcome = node.segment(&later(from, b"hello"));
    outcome.assert(Action::Transmit, &["rst_node_gone"]);
    // And comes again.
    assert_eq!(dials(&mut node, mix, from), by_hash);
    assert_eq!(node.flow(from), None);
}

fn what_is_held_or_has_moved_is_not_given_to_anybody_else(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = node(outer, 3);
    let from = client(inner, 40_000);
    let held =
        Move { since_ns: 1, last_sent_ns: 0, held: 0, sent_on: 0, node: 0, count: 1, first_ack: BIRTH, unused: 0 };
    let mut moves = MoveMaps::open(node.pin_dir()).unwrap();
    // Whether this edge has a flow of it or not.
    for flow in [None, Some(flow_at(1))] {
        if let Some(flow) = flow {
            has_flow(&mut node, from, flow);
        }
        moves.set(&flow_key(from), held).unwrap();
        for sent in [syn(from, ISN), later(from, b"GET")] {
            node.segment(&sent).assert(Action::Drop, &["held"]);
        }
        moves.set(&flow_key(from), Move { node: 3, ..held }).unwrap();
        for sent in [syn(from, ISN), later(from, b"GET")] {
            let outcome = node.segment(&sent);
            assert_eq!(given_to(mix, &outcome, &sent), 3);
            assert_eq!(outcome.counted.get("forwarded_moved"), Some(&1), "{outcome:?}");
        }
    }
}

fn a_syn_out_of_the_tunnel_is_for_our_own_stack(inner: Family, outer: Family) {
    let mut node = node(outer, 3);
    let us = addresses::node(outer, 1);
    for sent in [syn(client(inner, 40_000), ISN), later(client(inner, 40_000), b"GET")] {
        let tunnel = Datagram::new((addresses::node(outer, 2), 0xC123), (us, TUNNEL_PORT), sent.to_bytes());
        let outcome = node.packet(&tunnel.to_bytes());
        outcome.assert(Action::Pass, &["untunnelled"]);
        assert_eq!(outcome.frame, frame(&sent.to_bytes()));
    }
    assert_eq!(node.flows(), 0);
}

fn what_this_node_has_a_socket_for_stays(family: Family) {
    use std::net::{TcpListener, TcpStream};

    let mix = Mix { outer: family, inner: family };
    let mut node = node(family, 4);
    node.take_virtual_addresses().unwrap();
    // A connection of this node with itself: the socket at the service's end is what counts.
    let listener = TcpListener::bind(server(family)).unwrap();
    let elsewhere = |node: &mut Node| {
        let ours = TcpStream::connect(server(family)).unwrap();
        let from = ours.local_addr().unwrap();
        let sent = syn(from, ISN);
        let outcome = node.segment(&sent);
        (given_to(mix, &outcome, &sent) != 1).then_some((ours, from))
    };
    let (_ours, from) = (0..100).find_map(|_| elsewhere(&mut node)).expect("one that hashes to another node");
    let _accepted: Vec<_> = listener.incoming().take(1).collect();
    node.segment(&later(from, b"GET")).assert(Action::Pass, &["found_socket"]);
    // A listener is no reason to keep anything.
    let other = client(family, 40_000);
    let to = dials(&mut node, mix, other);
    assert_eq!(goes_on(&mut node, mix, &later(other, b"GET")), to);
}

fn no_packet_is_answered(family: Family) {
    let strategy = (any::<u8>(), any::<u16>(), any::<[u32; 2]>(), prop::collection::vec(any::<u8>(), 0..40));
    let mix = Mix { outer: family, inner: family };
    property(node(family, 4), 400, strategy, |node, (flags, port, [sequence, acknowledgement], payload)| {
        let from = client(family, port.max(1));
        let sent = Segment { flags: Flags::from(flags), sequence, acknowledgement, payload, ..syn(from, ISN) };
        let outcome = node.segment(&sent);
        let to = given_to(mix, &outcome, &sent);
        let opening = flags & 0x16 == 0x02;
        assert_eq!(outcome.counted, counted(to, if opening { "syn_passed_on" } else { "passed_by_tuple" }));
    });
}

/// The object has calls of the function, which nobody links in this mode, and the kernel takes no program with such a call.
/// It has taken what is loaded in this mode.
#[test]
fn only_admission_calls_the_function_and_it_is_not_loaded() {
    let call = [&[0x85, 0, 0, 0][..], &u32::try_from(ASSIGN_REQSK).unwrap().to_le_bytes()].concat();
    let object = programs::read(None).unwrap();
    assert!(object.windows(call.len()).any(|instruction| instruction == call));
    let mut node = node(Family::V4, 1);
    assert!(node.dataplane.admit().is_none());
    let pinned = |name: &str| {
        let entries = std::fs::read_dir(node.pin_dir()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(name)).count()
    };
    assert_eq!((pinned("program-steer-"), pinned("program-admit-")), (1, 0));
    // Linked it would be, were it looked for: on a kernel that shows the function, late binding loads the same object.
    let refused = programs::link(&mut object.clone()).unwrap_err();
    assert!(format!("{refused:#}").contains("bpf_sk_assign_tcp_reqsk"), "{refused:#}");
}

/// On a kernel without it, the other mode says what helps.
#[test]
fn without_the_function_late_binding_names_the_remedy() {
    let node = node(Family::V4, 1);
    // What the fixture has made seems to be such a kernel.
    assert!(older::types().is_err(), "the function is there");
    let settings = Settings {
        pin_dir: node.pin_dir().with_file_name("late"),
        max_flows: 1024,
        slot_shift: 36,
        accept: false,
        object: None,
    };
    let error = format!("{:#}", Dataplane::load(&settings).map(drop).unwrap_err());
    assert!(error.contains("set `mode = \"accept\"`") && error.contains("bpf_sk_assign_tcp_reqsk"), "{error}");
    assert!(!settings.pin_dir.exists(), "and leaves nothing behind");
}

/// An agent that is started again in the other mode takes over what runs: `admit` comes and goes, `steer` stays attached.
#[test]
fn an_agent_may_be_started_again_in_the_other_mode() {
    use ringsteer::dataplane::attach::Mode;
    use ringsteer_tests::kernel::EDGE;

    let mut node = Node::among(Family::V4, 1);
    node.attach().unwrap();
    let pins = |node: &Node| -> BTreeMap<String, usize> {
        let mut pins = BTreeMap::new();
        for entry in std::fs::read_dir(node.pin_dir()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            for kind in ["program-steer", "program-admit", "steer-native", "admit-"] {
                *pins.entry(kind.to_owned()).or_default() += usize::from(name.starts_with(kind));
            }
        }
        pins
    };
    let both = pins(&node);
    assert!(both.values().all(|count| *count == 1), "{both:?}");
    for accept in [true, true, false, false, true] {
        let mut again = node.again_as(accept).unwrap();
        let attached = again.attach(&[EDGE.to_owned()], &[Mode::Native]).unwrap();
        assert!(attached[0].replaced);
        let mut expected = both.clone();
        for kind in ["program-admit", "admit-"] {
            expected.insert(kind.to_owned(), usize::from(!accept));
        }
        assert_eq!(pins(&node), expected, "accept: {accept}");
    }
}
