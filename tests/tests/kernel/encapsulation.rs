//! Into the tunnel: a packet for another node arrives there as it came, in headers that are right to the byte.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use ringsteer_ebpf::layout;
use ringsteer_tests::{
    kernel::{
        EDGE, addresses,
        run::{Arrival, Outcome},
    },
    lab::{Family, command},
    on_each_mix,
    packet::{Datagram, ETHERNET, Flags, Frame, Icmp, IpPacket, Segment, TcpOption},
};

use crate::node::{
    Action, ISN, MARK, Mix, Node, TUNNEL_PORT, client, first, frame, networks, packet_in, property, request_of,
    ring_among, server, user_of,
};

on_each_mix!(
    the_first_segment_travels_marked_in_right_headers,
    every_later_packet_travels_as_it_is,
    each_node_gets_its_own,
    a_packet_from_elsewhere_is_redirected,
    an_icmp_error_follows_its_flow,
    a_padded_frame_travels_whole,
    a_flow_keeps_its_source_port_and_others_have_others,
    without_a_neighbour_entry_it_is_dropped_and_counted,
    without_a_route_it_is_dropped_and_counted,
    a_neighbour_that_changes_is_followed,
    without_headroom_it_is_dropped_and_counted,
    a_flow_of_a_node_that_is_unknown_is_dropped_and_counted,
    a_node_of_the_other_family_is_not_reached,
);

/// A node whose flow from port 40000 lives on node 2: its ring, and what the client acknowledges first.
fn with_flow_elsewhere(mix: Mix) -> (Node, u32) {
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let from = client(mix.inner, 40_000);
    let outcome = node.open(from, &request_of(&user_of(&ring, 2)));
    outcome.assert(Action::Transmit, &["bound_by_key", "tunnelled"]);
    let flow = node.flow(from).unwrap();
    assert_eq!(flow.node, 2);
    (node, flow.first_ack)
}

/// A later segment of that flow.
fn later(mix: Mix, first_ack: u32, payload: &[u8]) -> Segment {
    let sent = first(client(mix.inner, 40_000), ISN, first_ack.wrapping_add(998), payload);
    Segment { sequence: ISN.wrapping_add(500), ..sent }
}

/// What `inner` must look like on its way from this node, number 1, to another, by all but the source port, which it
/// takes from `frame`.
#[track_caller]
fn in_tunnel(mix: Mix, frame: &[u8], to: u16, inner: &[u8]) -> Vec<u8> {
    let port_at = ETHERNET + mix.outer.header_length();
    let port = u16::from_be_bytes([frame[port_at], frame[port_at + 1]]);
    assert!(port >= 0xC000, "source port {port} is not in the dynamic range");
    let [from, destination] = [1, to].map(|number| addresses::node(mix.outer, number));
    let tunnel = Datagram {
        // The inner packet has its own sums (RFC 768; RFC 6935 for IPv6).
        checksum: false,
        ..Datagram::new((from, port), (destination, TUNNEL_PORT), inner.to_vec())
    };
    // Routers that do not look at UDP tell flows apart by the label (RFC 6438 section 3).
    let tunnel = IpPacket { label: port.into(), ..tunnel.packet() };
    Frame {
        destination: addresses::link(to),
        source: addresses::link(1),
        ether_type: mix.outer.ether_type(),
        payload: tunnel.to_bytes(),
    }
    .to_bytes()
}

/// Asserts that `inner` was sent to node `to`.
#[track_caller]
fn assert_tunnelled(mix: Mix, outcome: &Outcome<Action>, to: u16, inner: &[u8]) {
    assert_eq!(outcome.action, Action::Transmit, "{outcome:?}");
    assert_eq!(outcome.counted.get("tunnelled"), Some(&1), "{outcome:?}");
    // Our own builder is strict about what it reads, too.
    let tunnel = Datagram::verified(&packet_in(&outcome.frame)).unwrap();
    assert_eq!(tunnel.payload, inner);
    assert_eq!(outcome.frame, in_tunnel(mix, &outcome.frame, to, inner));
}

fn the_first_segment_travels_marked_in_right_headers(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 3);
    let mut node = Node::in_ring(&ring);
    let from = client(mix.inner, 40_000);
    let cookie = node.dial(from, ISN);
    let mut sent = first(from, ISN, cookie, &request_of(&user_of(&ring, 2)));
    sent.options = vec![TcpOption::Timestamps(1, 2)];
    let marked = Segment { reserved: MARK, ..sent.clone() }.to_bytes();
    for round in 0..3 {
        let outcome = node.segment(&sent);
        // Marked as long as the owner has not spoken; bound once.
        outcome.assert(Action::Transmit, if round == 0 { &["bound_by_key", "tunnelled"] } else { &["tunnelled"] });
        assert_tunnelled(mix, &outcome, 2, &marked);
    }
}

fn every_later_packet_travels_as_it_is(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (node, first_ack) = with_flow_elsewhere(mix);
    let numbers = any::<(u8, u8, u8, u32, u16)>();
    let payload = prop::collection::vec(any::<u8>(), 0..1_412);
    property(node, 300, (numbers, payload, any::<bool>()), |node, (numbers, payload, stamped)| {
        let (hops, class, flags, acknowledgement, window) = numbers;
        let options = if stamped { vec![TcpOption::Timestamps(7, 8)] } else { Vec::new() };
        // A SYN is another matter.
        let flags = Flags::from(flags & !Flags::SYN.bits());
        let sent = Segment { flags, window, options, ..later(mix, acknowledgement, &payload) };
        let packet = IpPacket { hops, class, ..sent.packet() }.to_bytes();
        // So is one that still acknowledges our cookie.
        if sent.acknowledgement != first_ack {
            assert_tunnelled(mix, &node.packet(&packet), 2, &packet);
        }
    });
}

fn each_node_gets_its_own(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 5);
    let mut node = Node::in_ring(&ring);
    for number in 2..=5 {
        let from = client(mix.inner, 40_000 + number);
        let cookie = node.dial(from, ISN);
        let sent = first(from, ISN, cookie, &request_of(&user_of(&ring, number)));
        let outcome = node.segment(&sent);
        assert_tunnelled(mix, &outcome, number, &Segment { reserved: MARK, ..sent }.to_bytes());
        assert_eq!(u32::from(number), node.flow(from).unwrap().node);
    }
}

fn a_packet_from_elsewhere_is_redirected(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (mut node, first_ack) = with_flow_elsewhere(mix);
    let packet = later(mix, first_ack, b"data").to_bytes();
    let outcome = node.steer(&frame(&packet), Arrival::Elsewhere).unwrap();
    outcome.assert(Action::Redirect, &["tunnelled"]);
    assert_eq!(outcome.frame, in_tunnel(mix, &outcome.frame, 2, &packet));
}

fn an_icmp_error_follows_its_flow(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (mut node, first_ack) = with_flow_elsewhere(mix);
    let ours = Segment::new(server(mix.inner), client(mix.inner, 40_000), Flags::ACK);
    let ours = Segment { sequence: first_ack, payload: vec![0; 600], ..ours }.to_bytes();
    let router = addresses::client(mix.inner, 254);
    for error in [Icmp::too_big(router, 1_280, &ours), Icmp::unreachable(router, &ours)] {
        let packet = error.to_bytes();
        let outcome = node.packet(&packet);
        outcome.assert(Action::Transmit, &["icmp_steered", "tunnelled"]);
        assert_tunnelled(mix, &outcome, 2, &packet);
    }
}

/// Ethernet's shortest frames are longer than a bare ACK over IPv4.
fn a_padded_frame_travels_whole(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (mut node, first_ack) = with_flow_elsewhere(mix);
    let packet = later(mix, first_ack, b"").to_bytes();
    let outcome = node.run(&[&frame(&packet)[..], &[0; 6]].concat());
    outcome.assert(Action::Transmit, &["tunnelled"]);
    let expected = in_tunnel(mix, &outcome.frame, 2, &packet);
    assert_eq!(outcome.frame[..expected.len()], expected);
}

/// A tunnel has one family. The configuration refuses such a ring; a packet must not be sent anywhere by it, not even
/// where the same bits lead in the other family.
fn a_node_of_the_other_family_is_not_reached(inner: Family, outer: Family) {
    let ring = ring_among(outer, 2);
    let mut node = Node::in_ring(&ring);
    let IpAddr::V4(v4) = addresses::node(Family::V4, 2) else { unreachable!("that is what was asked for") };
    let [a, b, c, d] = v4.octets();
    let address = match outer {
        // Ends in the address of a neighbour.
        Family::V4 => [0x20, 0x01, 0x0d, 0xb8, 0, 0x51, 0, 0, 0, 0, 0, 0, a, b, c, d],
        // That neighbour, in the form in which the maps have it, and a way to it if one takes it for an IPv6 address.
        Family::V6 => {
            let (mapped, link) = (v4.to_ipv6_mapped(), addresses::shown(addresses::link(2)));
            let batch = format!(
                "route add {mapped}/128 dev {EDGE}\nneigh add {mapped} lladdr {link} dev {EDGE} nud permanent\n"
            );
            command::ip_batch(None, &batch).unwrap();
            mapped.octets()
        }
    };
    let them = node.dataplane.maps.nodes.get(&2, 0).unwrap();
    node.dataplane.maps.nodes.insert(2, layout::node::Node { address, ..them }, 0).unwrap();
    node.open(client(inner, 40_000), &request_of(&user_of(&ring, 2)))
        .assert(Action::Drop, &["bound_by_key", "drop_no_route"]);
}

fn source_port(mix: Mix, outcome: &Outcome<Action>) -> u16 {
    assert!(outcome.counted.contains_key("tunnelled"), "{outcome:?}");
    let tunnel = Datagram::verified(&packet_in(&outcome.frame)).unwrap();
    assert_eq!(tunnel.destination, (addresses::node(mix.outer, 2), TUNNEL_PORT).into());
    tunnel.source.port()
}

/// Routers and receive queues keep packets with the same ports in order, and others apart.
fn a_flow_keeps_its_source_port_and_others_have_others(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 2);
    let mut node = Node::in_ring(&ring);
    let request = request_of(&user_of(&ring, 2));
    let mut ports = BTreeMap::new();
    let clients = (1..=50).map(|host| SocketAddr::new(addresses::client(mix.inner, host), 40_000));
    let networks = networks(mix.inner).map(|address| SocketAddr::new(address, 40_000));
    for from in clients.chain(networks).chain((41_000..41_050).map(|port| client(mix.inner, port))) {
        let port = source_port(mix, &node.open(from, &request));
        let first_ack = node.flow(from).unwrap().first_ack;
        for payload in [&b""[..], b"data"] {
            let later = Segment { source: from, ..later(mix, first_ack, payload) };
            assert_eq!(source_port(mix, &node.segment(&later)), port);
        }
        ports.insert(from, port);
    }
    let distinct: BTreeSet<_> = ports.values().collect();
    // So many draws from 16384 ports.
    assert!(distinct.len() * 10 > ports.len() * 9, "{} flows have {} ports", ports.len(), distinct.len());
}

fn without_a_neighbour_entry_it_is_dropped_and_counted(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 2);
    let mut node = Node::with(&ring, |setup| setup.neighbours = 1);
    let from = client(mix.inner, 40_000);
    let cookie = node.dial(from, ISN);
    let segment = first(from, ISN, cookie, &request_of(&user_of(&ring, 2)));
    node.segment(&segment).assert(Action::Drop, &["bound_by_key", "drop_no_neighbour"]);
    assert_eq!(node.flow(from).unwrap().node, 2);
    // Once the address is known, the client's retransmission arrives.
    neighbour(mix, "add", 2);
    node.segment(&segment).assert(Action::Transmit, &["tunnelled"]);
}

/// Changes the neighbour entry of node 2.
fn neighbour(mix: Mix, verb: &str, link: u16) {
    let (address, link) = (addresses::node(mix.outer, 2), addresses::shown(addresses::link(link)));
    command::ip_batch(None, &format!("neigh {verb} {address} lladdr {link} dev {EDGE} nud permanent\n")).unwrap();
}

fn without_a_route_it_is_dropped_and_counted(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 2);
    let mut node = Node::in_ring(&ring);
    let host = addresses::node(mix.outer, 2);
    for kind in ["unreachable", "blackhole"] {
        command::ip_batch(None, &format!("route add {kind} {host}\n")).unwrap();
        node.open(client(mix.inner, 40_000), &request_of(&user_of(&ring, 2)))
            .assert(Action::Drop, &["bound_by_key", "drop_no_route"]);
        node.take_flow(client(mix.inner, 40_000));
        command::ip_batch(None, &format!("route del {kind} {host}\n")).unwrap();
    }
    node.open(client(mix.inner, 40_000), &request_of(&user_of(&ring, 2)))
        .assert(Action::Transmit, &["bound_by_key", "tunnelled"]);
}

/// What a CPU remembers of next hops does not outlive them for long. There is no event to wait for but that itself.
fn a_neighbour_that_changes_is_followed(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (mut node, first_ack) = with_flow_elsewhere(mix);
    neighbour(mix, "replace", 99);
    let deadline = Instant::now() + Duration::from_secs(60);
    let sent = later(mix, first_ack, b"data");
    loop {
        let outcome = node.segment(&sent);
        outcome.assert(Action::Transmit, &["tunnelled"]);
        if outcome.frame[..6] == addresses::link(99) {
            return;
        }
        assert!(Instant::now() < deadline, "packets still go to {:02x?}", &outcome.frame[..6]);
    }
}

fn without_headroom_it_is_dropped_and_counted(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let (mut node, first_ack) = with_flow_elsewhere(mix);
    let packet = frame(&later(mix, first_ack, b"data").to_bytes());
    let outcome = node.steer(&packet, Arrival::WithMetadata(208)).unwrap();
    outcome.assert(Action::Drop, &["drop_no_headroom"]);
    // The same with metadata that leaves room.
    node.steer(&packet, Arrival::WithMetadata(4)).unwrap().assert(Action::Transmit, &["tunnelled"]);
}

fn a_flow_of_a_node_that_is_unknown_is_dropped_and_counted(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 2);
    let mut node = Node::in_ring(&ring);
    // The ring still names it.
    node.dataplane.maps.nodes.remove(&2).unwrap();
    node.open(client(mix.inner, 40_000), &request_of(&user_of(&ring, 2)))
        .assert(Action::Drop, &["bound_by_key", "drop_unknown_node"]);
    assert_eq!(node.flow(client(mix.inner, 40_000)).unwrap().node, 2, "what follows is answered");
}
