//! ICMP errors about a flow go where the flow goes, found by the packet quoted in them.

use std::net::{IpAddr, SocketAddr};

use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_family,
    packet::{Datagram, Flags, Icmp, Segment},
};

use crate::node::{Action, ISN, Node, client, first, frame, request_of, server};

on_each_family!(
    an_error_goes_where_its_flow_goes,
    so_much_of_the_quote_is_enough,
    an_error_about_anything_else_is_the_kernels,
);

/// A router beyond ours.
fn router(family: Family) -> IpAddr {
    addresses::client(family, 254)
}

/// A node with a live flow of its own from port 40000, and what its server sent last on it.
fn with_flow(family: Family) -> (Node, Segment) {
    let mut node = Node::among(family, 1);
    let client = client(family, 40_000);
    node.open(client, &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let sequence = node.flow(client).unwrap().first_ack;
    let sent = Segment { acknowledgement: ISN, ..Segment::new(server(family), client, Flags::ACK) };
    (node, Segment { sequence, payload: vec![0; 100], ..sent })
}

fn an_error_goes_where_its_flow_goes(family: Family) {
    let (mut node, sent) = with_flow(family);
    let sent = sent.to_bytes();
    let flow = node.flow(client(family, 40_000));
    for error in [Icmp::too_big(router(family), 1_280, &sent), Icmp::unreachable(router(family), &sent)] {
        let error = error.to_bytes();
        let outcome = node.packet(&error);
        outcome.assert(Action::Pass, &["icmp_steered", "delivered"]);
        assert_eq!(outcome.frame, frame(&error));
    }
    assert_eq!(node.flow(client(family, 40_000)), flow, "anybody can send an error; it is no sign of life");
}

/// RFC 792: the header and eight bytes; the ports are in the first four of them.
fn so_much_of_the_quote_is_enough(family: Family) {
    let (mut node, sent) = with_flow(family);
    let enough = family.header_length() + 4;
    let mut quoting =
        |length: usize| node.packet(&Icmp::too_big(router(family), 1_280, &sent.to_bytes()[..length]).to_bytes());
    quoting(enough).assert(Action::Pass, &["icmp_steered", "delivered"]);
    quoting(enough + 4).assert(Action::Pass, &["icmp_steered", "delivered"]);
    quoting(enough - 1).assert(Action::Pass, &["not_ours"]);
    quoting(family.header_length()).assert(Action::Pass, &["not_ours"]);
}

fn an_error_about_anything_else_is_the_kernels(family: Family) {
    let (mut node, sent) = with_flow(family);
    let about = |packet: &[u8]| Icmp::too_big(router(family), 1_280, packet);
    let other = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
    let whole = sent.to_bytes();
    let astray = Icmp { destination: addresses::node(family, 1), ..about(&whole) };
    let from_the_client = first(client(family, 40_000), ISN, 4_711, b"").to_bytes();
    let datagram = Datagram::new(sent.source, sent.destination, vec![0; 40]).to_bytes();
    for (what, error) in [
        ("of another client", about(&Segment { destination: other(sent.destination), ..sent.clone() }.to_bytes())),
        ("of another service", about(&Segment { source: other(sent.source), ..sent.clone() }.to_bytes())),
        ("sent to another address than the packet it quotes came from", astray),
        ("about a packet of the client", about(&from_the_client)),
        ("about a datagram", about(&datagram)),
        ("about a packet with more than a plain header", about(&sent.packet().with_extension().to_bytes())),
        ("ping", Icmp::echo_request(router(family), server(family).ip(), whole.clone())),
        ("time exceeded", Icmp::time_exceeded(router(family), &whole)),
    ] {
        let error = error.to_bytes();
        let outcome = node.packet(&error);
        assert_eq!((outcome.action, outcome.counted.get("not_ours")), (Action::Pass, Some(&1)), "{what}");
        assert_eq!(outcome.frame, frame(&error), "{what}");
    }
}
