//! Promise 6, *nothing is believed unauthenticated*: the tunnel lets nobody in but nodes, and nothing but packets for
//! a service.

use std::net::{IpAddr, SocketAddr};

use ringsteer::ring::NodeAddress;
use ringsteer_ebpf::layout::service::ServiceKey;
use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_mix,
    packet::{Datagram, ETHERNET, Icmp, IpPacket, Segment},
};

use crate::node::{
    Action, ISN, Mix, Node, SECRETS, TUNNEL_PORT, client, first, frame, request_of, ring_among, server, syn,
};

on_each_mix!(
    from_a_node_and_for_a_service_it_comes_out,
    an_icmp_error_for_a_service_comes_out_too,
    from_anybody_else_it_is_dropped,
    a_node_that_leaves_the_ring_is_a_stranger,
    what_is_for_no_service_stays_inside,
    lengths_that_contradict_each_other_stay_inside,
    a_padded_frame_comes_out,
    a_fragment_of_a_tunnel_packet_is_dropped,
    what_is_not_to_the_tunnel_is_not_ours,
    a_syn_out_of_the_tunnel_is_not_answered_by_the_owner,
);

/// A tunnel packet from `from` to this node, which speaks the same family.
fn tunnelled(from: IpAddr, inner: &[u8]) -> Datagram {
    let us = addresses::node(Family::of(from), 1);
    Datagram::new((from, 0xC123), (us, TUNNEL_PORT), inner.to_vec())
}

/// The same from a node.
fn from_node(mix: Mix, number: u16, inner: &[u8]) -> Datagram {
    tunnelled(addresses::node(mix.outer, number), inner)
}

fn content(mix: Mix) -> Segment {
    first(client(mix.inner, 40_000), ISN, 4_711, &request_of("u1"))
}

fn from_a_node_and_for_a_service_it_comes_out(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let packet = content(mix).to_bytes();
    for from in [2, 3] {
        for checksum in [true, false] {
            let outcome = node.packet(&Datagram { checksum, ..from_node(mix, from, &packet) }.to_bytes());
            outcome.assert(Action::Pass, &["untunnelled"]);
            // With the link addresses it came with, and the type of what came out.
            assert_eq!(outcome.frame, frame(&packet));
        }
    }
    assert_eq!(node.flows(), 0, "the edge keeps the flow, not the owner");
}

fn an_icmp_error_for_a_service_comes_out_too(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let sent = content(mix);
    // What the server sent, and a router on its way could not forward.
    let quoted = Segment { source: sent.destination, destination: sent.source, ..sent.clone() }.to_bytes();
    let router = client(mix.inner, 0).ip();
    for error in [Icmp::too_big(router, 1280, &quoted), Icmp::unreachable(router, &quoted)] {
        let error = error.to_bytes();
        let outcome = node.packet(&from_node(mix, 2, &error).to_bytes());
        outcome.assert(Action::Pass, &["untunnelled"]);
        assert_eq!(outcome.frame, frame(&error));
    }
    // To another address than the packet it quotes came from.
    let astray = Icmp { destination: addresses::node(mix.inner, 1), ..Icmp::too_big(router, 1280, &quoted) };
    // Were there a service, too, it would still be about another one.
    let mut services = node.dataplane.maps.services.iter().collect::<Result<Vec<_>, _>>().unwrap();
    let (key, value) = services.pop().expect("there are two");
    let here = NodeAddress::new(astray.destination).unwrap().to_kernel();
    node.dataplane.maps.services.insert(ServiceKey { address: here, ..key }, value, 0).unwrap();
    // About a packet that did not come from a service.
    let of_a_client = Icmp::too_big(router, 1280, &sent.to_bytes());
    let ping = Icmp::echo_request(router, server(mix.inner).ip(), quoted);
    for error in [astray, of_a_client, ping] {
        node.packet(&from_node(mix, 2, &error.to_bytes()).to_bytes()).assert(Action::Drop, &["drop_tunnel_content"]);
    }
}

fn from_anybody_else_it_is_dropped(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    for from in [addresses::node(mix.outer, 4), client(mix.outer, 1).ip(), server(mix.outer).ip()] {
        node.packet(&tunnelled(from, &content(mix).to_bytes()).to_bytes())
            .assert(Action::Drop, &["drop_tunnel_sender"]);
    }
}

fn a_node_that_leaves_the_ring_is_a_stranger(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let packet = from_node(mix, 3, &content(mix).to_bytes()).to_bytes();
    node.packet(&packet).assert(Action::Pass, &["untunnelled"]);
    node.publish(&ring_among(mix.outer, 2), SECRETS);
    node.packet(&packet).assert(Action::Drop, &["drop_tunnel_sender"]);
}

fn what_is_for_no_service_stays_inside(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let (from, server) = (client(mix.inner, 1), server(mix.inner));
    let to = |address: IpAddr, port| Segment { destination: SocketAddr::new(address, port), ..content(mix) }.to_bytes();
    let whole = content(mix).to_bytes();
    let version = |nibble: u8| {
        let mut packet = whole.clone();
        packet[0] = nibble << 4 | packet[0] & 0xf;
        packet
    };
    for (what, packet) in [
        ("another port", to(server.ip(), 22)),
        ("another address", to(addresses::node(mix.inner, 1), server.port())),
        ("more than a plain header", content(mix).packet().with_extension().to_bytes()),
        ("UDP", Datagram::new(from, server, b"x".to_vec()).to_bytes()),
        ("SCTP", IpPacket::new(from.ip(), server.ip(), 132, whole[mix.inner.header_length()..].to_vec()).to_bytes()),
        ("ping", Icmp::echo_request(from.ip(), server.ip(), vec![8; 60]).to_bytes()),
        ("the other version", version(if mix.inner == Family::V4 { 6 } else { 4 })),
        ("no version", version(5)),
        ("no ports", whole[..mix.inner.header_length() + 2].to_vec()),
        ("half a header", whole[..mix.inner.header_length() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("a tunnel packet", from_node(mix, 2, &whole).to_bytes()),
    ] {
        let outcome = node.packet(&from_node(mix, 2, &packet).to_bytes());
        assert_eq!(outcome.action, Action::Drop, "{what}: {outcome:?}");
        outcome.assert(Action::Drop, &["drop_tunnel_content"]);
    }
}

/// What comes out is whole, and nothing comes with it.
fn lengths_that_contradict_each_other_stay_inside(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let good = from_node(mix, 2, &content(mix).to_bytes());
    let whole = good.to_bytes();
    let (outer, within) = (mix.outer.header_length(), mix.outer.header_length() + 8);
    // Where lengths stand.
    let length_at = |family: Family| if family == Family::V4 { 2 } else { 4 };
    let data_offset = within + mix.inner.header_length() + 12;
    let changed = |at: usize, by: i16| {
        let mut packet = whole.clone();
        let value = u16::from_be_bytes([packet[at], packet[at + 1]]).wrapping_add_signed(by);
        packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
        packet
    };
    let with_data_offset = |words: u8| {
        let mut packet = whole.clone();
        packet[data_offset] = words << 4;
        packet
    };
    // Padding gives room to claim more.
    let padded = |mut packet: Vec<u8>| {
        packet.extend([0; 64]);
        packet
    };
    let short = Segment { payload: Vec::new(), ..content(mix) }.to_bytes();
    let without_options = from_node(mix, 2, &short).to_bytes();
    let beyond = {
        let mut packet = without_options.clone();
        packet[data_offset] = 6 << 4;
        packet
    };
    for (what, packet) in [
        ("the outer packet is shorter than the datagram", changed(length_at(mix.outer), -1)),
        ("the outer packet is longer than the datagram", padded(changed(length_at(mix.outer), 1))),
        ("the datagram is shorter", changed(outer + 4, -1)),
        ("the datagram is longer", padded(changed(outer + 4, 1))),
        ("the datagram is shorter than its header", changed(outer + 4, 7 - (whole.len() - outer) as i16)),
        ("the frame ends before the packet", whole[..whole.len() - 1].to_vec()),
        ("the inner packet is shorter", changed(within + length_at(mix.inner), -1)),
        ("the inner packet is longer", padded(changed(within + length_at(mix.inner), 1))),
        ("the TCP header is shorter than it can be", with_data_offset(4)),
        ("the TCP header is longer than the packet", beyond),
    ] {
        let outcome = node.packet(&packet);
        assert_eq!(outcome.action, Action::Drop, "{what}: {outcome:?}");
        outcome.assert(Action::Drop, &["drop_tunnel_content"]);
    }
    node.packet(&without_options).assert(Action::Pass, &["untunnelled"]);
}

/// Ethernet's shortest frames are longer than some packets.
fn a_padded_frame_comes_out(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let packet = content(mix).to_bytes();
    let mut arriving = frame(&from_node(mix, 2, &packet).to_bytes());
    arriving.extend([0; 6]);
    let outcome = node.run(&arriving);
    outcome.assert(Action::Pass, &["untunnelled"]);
    assert_eq!(outcome.frame, [&frame(&packet)[..], &[0; 6]].concat(), "the stack cuts that off");
}

fn a_fragment_of_a_tunnel_packet_is_dropped(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let whole = from_node(mix, 2, &content(mix).to_bytes()).packet();
    for (offset, more) in [(0, true), (1, false), (185, true)] {
        node.packet(&whole.as_fragment(offset, more).to_bytes()).assert(Action::Drop, &["drop_fragment"]);
    }
}

fn what_is_not_to_the_tunnel_is_not_ours(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let to_us = from_node(mix, 2, &content(mix).to_bytes());
    let us = to_us.destination;
    for destination in [
        SocketAddr::new(server(mix.outer).ip(), us.port()),
        SocketAddr::new(addresses::node(mix.outer, 3), us.port()),
        SocketAddr::new(us.ip(), us.port() + 1),
    ] {
        let packet = Datagram { destination, ..to_us.clone() }.to_bytes();
        let outcome = node.packet(&packet);
        outcome.assert(Action::Pass, &["not_ours"]);
        assert_eq!(outcome.frame, frame(&packet));
    }
    // Nobody else's fragments either, and nothing that we would never send.
    let elsewhere = SocketAddr::new(addresses::node(mix.outer, 3), us.port());
    let elsewhere = Datagram { destination: elsewhere, ..to_us.clone() }.packet();
    for packet in [elsewhere.as_fragment(0, true), to_us.packet().with_extension()] {
        let outcome = node.packet(&packet.to_bytes());
        outcome.assert(Action::Pass, &["not_ours"]);
        assert_eq!(outcome.frame, frame(&packet.to_bytes()));
    }
    // Not even UDP, to the byte.
    let short = frame(&to_us.to_bytes()[..mix.outer.header_length() + 7]);
    assert_eq!(short.len(), ETHERNET + mix.outer.header_length() + 7);
    node.run(&short).assert(Action::Pass, &["not_ours"]);
}

fn a_syn_out_of_the_tunnel_is_not_answered_by_the_owner(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let mut node = Node::among(mix.outer, 3);
    let packet = syn(client(mix.inner, 40_000), ISN).to_bytes();
    let outcome = node.packet(&from_node(mix, 2, &packet).to_bytes());
    outcome.assert(Action::Pass, &["untunnelled"]);
    assert_eq!(outcome.frame, frame(&packet), "it is the stack's then");
}
