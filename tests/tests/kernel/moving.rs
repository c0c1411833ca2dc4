//! Connections that leave this node: nobody answers them while they are held, and once they have moved they are sent on,
//! to the byte as they came.

use std::net::IpAddr;

use ringsteer::dataplane::moves::MoveMaps;
use ringsteer_ebpf::layout::{flow::Flow, moves::Move};
use ringsteer_tests::{
    kernel::{addresses, run::Outcome},
    lab::Family,
    on_each_mix,
    packet::{Datagram, Flags, Frame, Icmp, IpPacket, Segment},
};

use crate::node::{
    Action, ISN, MARK, Mix, Node, TUNNEL_PORT, client, first, flow_key, packet_in, request_of, ring_among, user_of,
};

on_each_mix!(
    while_it_is_held_nobody_hears_of_it,
    once_it_has_moved_it_is_sent_on_as_it_came,
    an_edge_that_had_it_itself_holds_it_and_sends_it_on,
    an_edge_that_does_not_know_it_holds_it_and_sends_it_on,
    it_does_not_go_to_and_fro_for_ever,
    what_has_moved_is_not_marked_for_admission,
    a_new_connection_on_the_same_ports_does_not_follow_it,
    nor_does_one_that_another_edge_has_bound,
    a_flow_that_names_the_next_node_goes_there_directly,
    without_entries_nobody_looks,
    where_its_node_is_gone_it_is_dropped_and_counted,
);

const PORT: u16 = 40_000;

const HELD: Move =
    Move { since_ns: 1, last_sent_ns: 0, held: 0, sent_on: 0, node: 0, count: 1, first_ack: 0, unused: 0 };

/// The maps of a node's moves.
fn moves(node: &Node) -> MoveMaps {
    MoveMaps::open(node.pin_dir()).unwrap()
}

/// A later segment of the client's.
fn later(mix: Mix, payload: &[u8]) -> Segment {
    let sent = first(client(mix.inner, PORT), ISN, 998, payload);
    Segment { sequence: ISN.wrapping_add(500), ..sent }
}

/// Packets of the connection of every kind, and one about it.
fn packets(mix: Mix) -> Vec<Vec<u8>> {
    let data = later(mix, b"hello");
    let with = |flags| Segment { flags, payload: Vec::new(), ..data.clone() }.to_bytes();
    let answer = Segment { source: data.destination, destination: data.source, ..data.clone() };
    let router = addresses::client(mix.inner, 254);
    vec![
        data.to_bytes(),
        with(Flags::ACK),
        with(Flags::ACK | Flags::FIN),
        with(Flags::RST),
        Segment { reserved: MARK, ..data.clone() }.to_bytes(),
        Icmp::too_big(router, 1280, &answer.to_bytes()).to_bytes(),
    ]
}

/// Other packets, which must not notice.
fn others(mix: Mix) -> Vec<Vec<u8>> {
    let data = later(mix, b"hello");
    let of = |source| Segment { source, ..data.clone() }.to_bytes();
    vec![of(client(mix.inner, PORT + 1)), of((addresses::client(mix.inner, 9), PORT).into())]
}

/// A tunnel packet from another node, with so many hops left.
fn from_node(mix: Mix, number: u16, hops: u8, inner: &[u8]) -> Vec<u8> {
    let us = addresses::node(mix.outer, 1);
    let from: IpAddr = addresses::node(mix.outer, number);
    let tunnel = Datagram::new((from, 0xC123), (us, TUNNEL_PORT), inner.to_vec());
    IpPacket { hops, ..tunnel.packet() }.to_bytes()
}

/// Asserts that `inner` was sent on to node `to` in headers that are right to the byte, with so many hops.
#[track_caller]
fn assert_sent_on(mix: Mix, outcome: &Outcome<Action>, to: u16, hops: u8, inner: &[u8]) {
    let tunnel = Datagram::verified(&packet_in(&outcome.frame)).unwrap();
    assert_eq!(tunnel.payload, inner);
    let port = tunnel.source.port();
    let [from, destination] = [1, to].map(|number| addresses::node(mix.outer, number));
    let expected =
        Datagram { checksum: false, ..Datagram::new((from, port), (destination, TUNNEL_PORT), inner.to_vec()) };
    let expected = Frame {
        destination: addresses::link(to),
        source: addresses::link(1),
        ether_type: mix.outer.ether_type(),
        payload: IpPacket { label: port.into(), hops, ..expected.packet() }.to_bytes(),
    };
    assert_eq!(outcome.frame, expected.to_bytes());
}

fn while_it_is_held_nobody_hears_of_it(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    let key = flow_key(client(mix.inner, PORT));
    maps.set(&key, HELD).unwrap();
    let packets = packets(mix);
    for packet in &packets {
        node.packet(&from_node(mix, 2, 64, packet)).assert(Action::Drop, &["held"]);
    }
    for packet in others(mix) {
        node.packet(&from_node(mix, 2, 64, &packet)).assert(Action::Pass, &["untunnelled"]);
    }
    assert_eq!(maps.get(&key).unwrap(), Some(Move { held: packets.len() as u64, ..HELD }));
    // Released, they come through again.
    maps.remove(&key).unwrap();
    node.packet(&from_node(mix, 2, 64, &packets[0])).assert(Action::Pass, &["untunnelled"]);
}

fn once_it_has_moved_it_is_sent_on_as_it_came(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    let key = flow_key(client(mix.inner, PORT));
    maps.set(&key, Move { node: 3, ..HELD }).unwrap();
    let packets = packets(mix);
    for packet in &packets {
        let outcome = node.packet(&from_node(mix, 2, 64, packet));
        outcome.assert(Action::Transmit, &["forwarded_moved", "tunnelled"]);
        assert_sent_on(mix, &outcome, 3, 48, packet);
    }
    for packet in others(mix) {
        node.packet(&from_node(mix, 2, 64, &packet)).assert(Action::Pass, &["untunnelled"]);
    }
    let entry = maps.get(&key).unwrap().unwrap();
    assert_eq!((entry.sent_on, entry.held), (packets.len() as u64, 0));
    assert!(entry.last_sent_ns > 0);
}

fn an_edge_that_had_it_itself_holds_it_and_sends_it_on(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let mut maps = moves(&node);
    let from = client(mix.inner, PORT);
    node.open(from, &request_of(&user_of(&ring, 1))).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let packet = later(mix, b"hello").to_bytes();
    let sent = later(mix, b"hello");
    let answer = Segment { source: sent.destination, destination: sent.source, ..sent }.to_bytes();
    let error = Icmp::too_big(addresses::client(mix.inner, 254), 1280, &answer).to_bytes();
    maps.set(&flow_key(from), HELD).unwrap();
    node.packet(&packet).assert(Action::Drop, &["held"]);
    node.packet(&error).assert(Action::Drop, &["held", "icmp_steered"]);
    maps.set(&flow_key(from), Move { node: 2, ..HELD }).unwrap();
    let outcome = node.packet(&packet);
    outcome.assert(Action::Transmit, &["forwarded_moved", "tunnelled"]);
    // It has come from no tunnel yet.
    assert_sent_on(mix, &outcome, 2, 64, &packet);
    node.packet(&error).assert(Action::Transmit, &["forwarded_moved", "icmp_steered", "tunnelled"]);
}

/// The client's packets come in here since a moment ago: there is no flow.
fn an_edge_that_does_not_know_it_holds_it_and_sends_it_on(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    let key = flow_key(client(mix.inner, PORT));
    let packet = later(mix, b"hello").to_bytes();
    node.packet(&packet).assert(Action::Transmit, &["rst_unknown_flow"]);
    maps.set(&key, HELD).unwrap();
    node.packet(&packet).assert(Action::Drop, &["held"]);
    maps.set(&key, Move { node: 2, ..HELD }).unwrap();
    let outcome = node.packet(&packet);
    outcome.assert(Action::Transmit, &["forwarded_moved", "tunnelled"]);
    assert_sent_on(mix, &outcome, 2, 64, &packet);
}

fn it_does_not_go_to_and_fro_for_ever(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    maps.set(&flow_key(client(mix.inner, PORT)), Move { node: 2, ..HELD }).unwrap();
    let packet = later(mix, b"hello").to_bytes();
    let mut hops = 64;
    // Node 2 takes it to be at node 1, and each of them takes a part of what it may do.
    while hops > 16 {
        let outcome = node.packet(&from_node(mix, 2, hops, &packet));
        outcome.assert(Action::Transmit, &["forwarded_moved", "tunnelled"]);
        hops -= 16;
        assert_sent_on(mix, &outcome, 2, hops, &packet);
    }
    node.packet(&from_node(mix, 2, hops, &packet)).assert(Action::Drop, &["drop_hops"]);
    // A packet may come with more than ours have, and is not given any.
    let outcome = node.packet(&from_node(mix, 2, 255, &packet));
    assert_sent_on(mix, &outcome, 2, 64, &packet);
}

fn what_has_moved_is_not_marked_for_admission(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let mut maps = moves(&node);
    let from = client(mix.inner, PORT);
    node.open(from, &request_of(&user_of(&ring, 2))).assert(Action::Transmit, &["bound_by_key", "tunnelled"]);
    let flow = node.flow(from).unwrap();
    // The client has not heard the owner yet.
    let sent = first(from, ISN.wrapping_add(100), flow.first_ack.wrapping_sub(1), b"more");
    let inside = |outcome: &Outcome<Action>| Datagram::verified(&packet_in(&outcome.frame)).unwrap();
    assert_eq!(inside(&node.segment(&sent)).payload, Segment { reserved: MARK, ..sent.clone() }.to_bytes());
    maps.set_flow(&flow_key(from), Flow { node: 3, moved: 1, ..node.flow(from).unwrap() }).unwrap();
    let outcome = node.segment(&sent);
    assert_sent_on(mix, &outcome, 3, 64, &sent.to_bytes());
}

fn a_new_connection_on_the_same_ports_does_not_follow_it(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let mut maps = moves(&node);
    let from = client(mix.inner, PORT);
    let key = flow_key(from);
    for entry in [HELD, Move { node: 2, ..HELD }] {
        maps.set(&key, entry).unwrap();
        node.open(from, &request_of(&user_of(&ring, 1))).assert(Action::Pass, &["bound_by_key", "delivered"]);
        assert_eq!((maps.get(&key).unwrap(), node.take_flow(from).moved), (None, 0));
    }
}

/// What another edge has bound to this node comes out of the tunnel, though an earlier connection has gone from here.
fn nor_does_one_that_another_edge_has_bound(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    let key = flow_key(client(mix.inner, PORT));
    let first = later(mix, b"GET /");
    let marked = |acknowledgement| Segment { reserved: MARK, acknowledgement, ..first.clone() }.to_bytes();
    let [earlier, new] = [5000, 7000];
    for (entry, counters) in [(HELD, &["held"][..]), (Move { node: 3, ..HELD }, &["forwarded_moved", "tunnelled"])] {
        let entry = Move { first_ack: earlier, ..entry };
        maps.set(&key, entry).unwrap();
        node.packet(&from_node(mix, 2, 64, &marked(new))).assert(Action::Pass, &["untunnelled"]);
        // Whether that is true is for `admit` to say.
        assert_eq!(maps.get(&key).unwrap(), Some(entry));
        let stays = if entry.node == 0 { Action::Drop } else { Action::Transmit };
        // Its own first segment, again, and what shows nothing.
        node.packet(&from_node(mix, 2, 64, &marked(earlier))).assert(stays, counters);
        node.packet(&from_node(mix, 2, 64, &first.to_bytes())).assert(stays, counters);
        // And as long as nobody knows which connection it is.
        maps.set(&key, Move { first_ack: 0, ..entry }).unwrap();
        node.packet(&from_node(mix, 2, 64, &marked(new))).assert(stays, counters);
    }
}

fn a_flow_that_names_the_next_node_goes_there_directly(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let mut maps = moves(&node);
    let from = client(mix.inner, PORT);
    node.open(from, &request_of(&user_of(&ring, 1))).assert(Action::Pass, &["bound_by_key", "delivered"]);
    maps.set(&flow_key(from), Move { node: 2, ..HELD }).unwrap();
    maps.set_flow(&flow_key(from), Flow { node: 2, moved: 1, ..node.flow(from).unwrap() }).unwrap();
    let packet = later(mix, b"hello").to_bytes();
    let outcome = node.packet(&packet);
    outcome.assert(Action::Transmit, &["tunnelled"]);
    assert_sent_on(mix, &outcome, 2, 64, &packet);
}

fn without_entries_nobody_looks(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    let key = flow_key(client(mix.inner, PORT));
    assert!(!maps.any());
    maps.set(&key, HELD).unwrap();
    assert!(maps.any() && moves(&node).any());
    assert_eq!(maps.all().unwrap(), [(key, HELD)]);
    maps.remove(&key).unwrap();
    assert_eq!(maps.all().unwrap(), []);
    assert!(!maps.any() && !moves(&node).any());
    let packet = later(mix, b"hello").to_bytes();
    node.packet(&from_node(mix, 2, 64, &packet)).assert(Action::Pass, &["untunnelled"]);
}

fn where_its_node_is_gone_it_is_dropped_and_counted(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let mut maps = moves(&node);
    maps.set(&flow_key(client(mix.inner, PORT)), Move { node: 9, ..HELD }).unwrap();
    let packet = later(mix, b"hello").to_bytes();
    node.packet(&from_node(mix, 2, 64, &packet)).assert(Action::Drop, &["drop_unknown_node"]);
}
