//! Promise 6, *nothing is believed unauthenticated*: the tunnel lets nobody in but nodes, and nothing but packets for
//! a service.

use std::net::Ipv4Addr;

use ringsteer_ebpf::layout::secret::Secrets;

use crate::{
    node::{Action, ISN, Node, SECRET, SERVER, TUNNEL_PORT, client, first, node_address, request_of, ring_among, syn},
    packet::{Segment, ethernet, fragmentation_needed, ipv4, udp},
};

/// A tunnel packet from `from` to this node.
fn tunnelled(from: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    ethernet(&ipv4(from, node_address(1), 17, &udp(0xC123, TUNNEL_PORT, inner)))
}

fn inner() -> Segment {
    first(client(40_000), ISN, 4_711, &request_of("u1"))
}

#[test]
fn from_a_node_and_for_a_service_it_comes_out() {
    let mut node = Node::among(3);
    let frame = inner().frame();
    for from in [2, 3] {
        let outcome = node.run(&tunnelled(node_address(from), &frame[14..]));
        outcome.assert(Action::Pass, &["untunnelled"]);
        assert_eq!(outcome.frame, frame);
    }
    assert_eq!(node.flows(), 0, "the edge keeps the flow, not the owner");
}

#[test]
fn an_icmp_error_for_a_service_comes_out_too() {
    let mut node = Node::among(3);
    let mut quoted = inner();
    (quoted.from, quoted.to) = (quoted.to, quoted.from);
    let router = Ipv4Addr::new(192, 0, 2, 254);
    let message = fragmentation_needed(&quoted.frame()[14..]);
    let error = ipv4(router, SERVER.address, 1, &message);
    let outcome = node.run(&tunnelled(node_address(2), &error));
    outcome.assert(Action::Pass, &["untunnelled"]);
    assert_eq!(outcome.frame, ethernet(&error));

    let astray = ipv4(router, node_address(1), 1, &message);
    node.run(&tunnelled(node_address(2), &astray)).assert(Action::Drop, &["drop_tunnel_content"]);
}

#[test]
fn from_anybody_else_it_is_dropped() {
    let mut node = Node::among(3);
    for from in [node_address(4), client(1).address, SERVER.address, Ipv4Addr::UNSPECIFIED] {
        let frame = tunnelled(from, &inner().frame()[14..]);
        node.run(&frame).assert(Action::Drop, &["drop_tunnel_sender"]);
    }
}

#[test]
fn a_node_that_leaves_the_ring_is_a_stranger() {
    let mut node = Node::among(3);
    let frame = tunnelled(node_address(3), &inner().frame()[14..]);
    node.run(&frame).assert(Action::Pass, &["untunnelled"]);
    node.publish(&ring_among(2), Secrets { current: SECRET, previous: SECRET });
    node.run(&frame).assert(Action::Drop, &["drop_tunnel_sender"]);
}

#[test]
fn what_is_for_no_service_stays_inside() {
    let mut node = Node::among(3);
    let mut other_port = inner();
    other_port.to.port = 22;
    let mut other_address = inner();
    other_address.to.address = node_address(1);
    let with_options = {
        let mut packet = inner().frame()[14..].to_vec();
        packet[0] = 0x46;
        packet
    };
    let datagram = ipv4(client(1).address, SERVER.address, 17, &udp(1, SERVER.port, b"x"));
    let ping = ipv4(client(1).address, SERVER.address, 1, &[8; 32]);
    for (what, packet) in [
        ("another port", other_port.frame()[14..].to_vec()),
        ("another address", other_address.frame()[14..].to_vec()),
        ("IPv4 options", with_options),
        ("UDP", datagram),
        ("ping", ping),
        ("IPv6", vec![0x60; 80]),
        ("no ports", inner().frame()[14..36].to_vec()),
        ("nothing", Vec::new()),
        ("a tunnel packet", tunnelled(node_address(2), &inner().frame()[14..])[14..].to_vec()),
    ] {
        let outcome = node.run(&tunnelled(node_address(2), &packet));
        assert_eq!(outcome.action, Action::Drop, "{what}: {outcome:?}");
        outcome.assert(Action::Drop, &["drop_tunnel_content"]);
    }
}

#[test]
fn a_fragment_of_a_tunnel_packet_is_dropped() {
    let mut node = Node::among(3);
    let mut frame = tunnelled(node_address(2), &inner().frame()[14..]);
    frame[20] |= 0x20;
    node.run(&frame).assert(Action::Drop, &["drop_fragment"]);
}

#[test]
fn what_is_not_to_the_tunnel_is_not_ours() {
    let mut node = Node::among(3);
    let packet = &inner().frame()[14..];
    let to_the_service = ethernet(&ipv4(node_address(2), SERVER.address, 17, &udp(1, TUNNEL_PORT, packet)));
    let to_another_port = ethernet(&ipv4(node_address(2), node_address(1), 17, &udp(1, TUNNEL_PORT + 1, packet)));
    for frame in [to_the_service, to_another_port] {
        let outcome = node.run(&frame);
        outcome.assert(Action::Pass, &["not_ours"]);
        assert_eq!(outcome.frame, frame);
    }
}

#[test]
fn a_syn_out_of_the_tunnel_is_not_answered_by_the_owner() {
    let mut node = Node::among(3);
    let frame = syn(client(40_000), ISN, &[]).frame();
    let outcome = node.run(&tunnelled(node_address(2), &frame[14..]));
    outcome.assert(Action::Pass, &["untunnelled"]);
    assert_eq!(outcome.frame, frame, "it is the stack's then");
}
