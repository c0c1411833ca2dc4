//! State appears with a valid cookie *and* data; and nothing that is forged breaks a live flow.

use std::net::{IpAddr, SocketAddr};

use ringsteer_ebpf::{
    cookie, crc32,
    layout::{Address, flow::Flow, mapped, secret::Secrets},
};
use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_family,
    packet::{Flags, Segment},
};

use crate::{
    node::{
        Action, ISN, MARK, MAX_FLOWS, Node, SECRET, SHORT_SLOT, client, first, networks, request_of, reset_in,
        ring_among, segment_in, stay_on_this_cpu, syn, user_of,
    },
    wire::until,
};

on_each_family!(
    the_first_segment_is_bound_and_marked_for_admission,
    later_segments_pass_as_they_are,
    a_flow_counts_what_passes,
    data_after_a_forged_fin_takes_it_back,
    a_first_segment_that_ends_the_connection_is_bound_and_closing,
    a_bare_ack_makes_no_flow,
    a_segment_that_overtook_the_first_waits,
    a_connection_that_ends_before_it_speaks_is_reset,
    a_cookie_is_good_for_its_own_connection_only,
    cookies_of_both_secrets_are_valid_and_of_no_other,
    a_chance_fit_under_the_new_secret_hides_nothing,
    a_syn_leaves_a_live_flow_as_it_is,
    a_repeated_syn_does_not_bind_anew,
    what_a_syn_leaves_behind_expires,
    a_cookie_expires,
    a_forged_acknowledgement_does_not_move_a_live_flow,
    a_new_connection_on_old_ports_is_bound_anew,
    what_overtakes_on_old_ports_waits,
    a_number_without_the_flag_proves_nothing,
    a_full_table_refuses_new_flows_and_keeps_the_old,
    a_segment_without_a_key_is_bound_by_its_tuple,
    a_syn_with_rst_or_ack_opens_nothing,
    flows_of_two_services_are_two,
);

/// A node with a live flow of its own from port 40000, and that flow.
fn with_flow(family: Family) -> (Node, Flow) {
    let mut node = Node::among(family, 1);
    node.open(client(family, 40_000), &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let flow = node.flow(client(family, 40_000)).unwrap();
    (node, flow)
}

/// A later segment of that flow.
fn later(family: Family, flow: &Flow, flags: Flags, payload: &[u8]) -> Segment {
    Segment {
        flags,
        sequence: ISN.wrapping_add(500),
        ..first(client(family, 40_000), ISN, flow.first_ack.wrapping_add(998), payload)
    }
}

fn the_first_segment_is_bound_and_marked_for_admission(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let sent = first(from, ISN, cookie, &request_of("u1"));
    for round in 0..3 {
        // It is marked for as long as it is repeated, because the owner has not spoken then; bound it is only once.
        let outcome = node.segment(&sent);
        outcome.assert(Action::Pass, if round == 0 { &["bound_by_key", "delivered"] } else { &["delivered"] });
        assert_eq!(segment_in(&outcome.frame), Segment { reserved: MARK, ..sent.clone() });
    }
    let flow = node.flow(from).unwrap();
    assert_eq!((flow.node, flow.key_hash), (1, crc32::checksum(b"u1")));
    assert_eq!((flow.first_ack, flow.last_ack), (cookie.wrapping_add(1), cookie.wrapping_add(1)));
    assert_eq!((flow.closing, flow.syn_slot), (0, 0));
}

fn later_segments_pass_as_they_are(family: Family) {
    let (mut node, flow) = with_flow(family);
    for (flags, payload) in [(Flags::ACK, &b""[..]), (Flags::ACK | Flags::PSH, b"data"), (Flags::ACK | Flags::FIN, b"")]
    {
        let sent = later(family, &flow, flags, payload);
        let outcome = node.segment(&sent);
        outcome.assert(Action::Pass, &["delivered"]);
        assert_eq!(segment_in(&outcome.frame), sent);
    }
    let closing = node.flow(client(family, 40_000)).unwrap();
    assert_eq!((closing.closing, closing.last_ack), (1, flow.first_ack.wrapping_add(999)));
}

/// What the ageing goes by, what an operator reads, and the number at which a RST would reach the client.
fn a_flow_counts_what_passes(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let request = first(from, ISN, cookie, &request_of("u1"));
    node.segment(&request);
    let bound = node.flow(from).unwrap();
    let mut bytes = request.to_bytes().len() as u64;
    assert_eq!((bound.packets, bound.bytes, bound.last_seen_ns), (1, bytes, bound.bound_ns));
    let mut before = bound;
    for (number, acknowledgement) in [(2, 10), (3, 500), (4, 400)] {
        let acknowledgement = bound.first_ack.wrapping_add(acknowledgement);
        let sent = Segment { acknowledgement, ..later(family, &bound, Flags::ACK, &vec![7; number]) };
        node.segment(&sent).assert(Action::Pass, &["delivered"]);
        bytes += sent.to_bytes().len() as u64;
        let now = node.flow(from).unwrap();
        assert_eq!((now.packets, now.bytes, now.last_ack), (number as u64, bytes, acknowledgement));
        assert!(now.last_seen_ns >= before.last_seen_ns);
        assert_eq!((now.bound_ns, now.first_ack, now.key_hash), (bound.bound_ns, bound.first_ack, bound.key_hash));
        before = now;
    }
    until("the flow notices that packets pass", || {
        node.segment(&later(family, &bound, Flags::ACK, b""));
        node.flow(from).unwrap().last_seen_ns != bound.last_seen_ns
    });
}

fn data_after_a_forged_fin_takes_it_back(family: Family) {
    let (mut node, flow) = with_flow(family);
    let from = client(family, 40_000);
    for forged in [Flags::RST, Flags::FIN | Flags::ACK, Flags::RST | Flags::ACK] {
        node.segment(&later(family, &flow, forged, b"")).assert(Action::Pass, &["delivered"]);
        assert_eq!(node.flow(from).unwrap().closing, 1);
        // The client's own acknowledgements prove nothing: they also follow a FIN that was its own.
        node.segment(&later(family, &flow, Flags::ACK, b"")).assert(Action::Pass, &["delivered"]);
        assert_eq!(node.flow(from).unwrap().closing, 1);
        node.segment(&later(family, &flow, Flags::ACK | Flags::PSH, b"data")).assert(Action::Pass, &["delivered"]);
        assert_eq!(node.flow(from).unwrap().closing, 0);
    }
}

fn a_first_segment_that_ends_the_connection_is_bound_and_closing(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let sent = Segment { flags: Flags::ACK | Flags::FIN, ..first(from, ISN, cookie, &request_of("u1")) };
    node.segment(&sent).assert(Action::Pass, &["bound_by_key", "delivered"]);
    assert_eq!(node.flow(from).unwrap().closing, 1);
}

fn a_bare_ack_makes_no_flow(family: Family) {
    let mut node = Node::among(family, 1);
    let cookie = node.dial(client(family, 40_000), ISN);
    node.segment(&first(client(family, 40_000), ISN, cookie, b"")).assert(Action::Drop, &["handshake_acks"]);
    assert_eq!(node.flows(), 0);
}

fn a_segment_that_overtook_the_first_waits(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let second = Segment { sequence: ISN.wrapping_add(1 + 1_412), ..first(from, ISN, cookie, b"rest") };
    node.segment(&second).assert(Action::Drop, &["drop_early_segment"]);
    assert_eq!(node.flows(), 0);
    node.segment(&first(from, ISN, cookie, &request_of("u1"))).assert(Action::Pass, &["bound_by_key", "delivered"]);
    node.segment(&second).assert(Action::Pass, &["delivered"]);
}

fn a_connection_that_ends_before_it_speaks_is_reset(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let fin = Segment { flags: Flags::FIN | Flags::ACK, ..first(from, ISN, cookie, b"") };
    let reset = reset_in(&node.segment(&fin), "rst_before_data");
    assert_eq!((reset.flags, reset.sequence), (Flags::RST, cookie.wrapping_add(1)));
    assert_eq!(node.flows(), 0);
}

fn a_cookie_is_good_for_its_own_connection_only(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let good = first(from, ISN, cookie, &request_of("u1"));
    let other_port = SocketAddr::new(from.ip(), from.port() + 1);
    let other_client = SocketAddr::new(addresses::client(family, 78), from.port());
    // 13 bits of the cookie are about the 4-tuple: one in 8192 of these would be taken for an early segment.
    for source in [other_port, other_client] {
        let outcome = node.segment(&Segment { source, ..good.clone() });
        let counter = outcome.counted.keys().next().copied();
        assert!(matches!(counter, Some("rst_unknown_flow" | "drop_early_segment")), "{outcome:?}");
        assert_eq!(node.flows(), 0);
    }
    node.segment(&good).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

fn cookies_of_both_secrets_are_valid_and_of_no_other(family: Family) {
    const NEXT: [u64; 2] = [11, 12];
    let ring = ring_among(family, 1);
    let mut node = Node::in_ring(&ring);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let segment = first(from, ISN, cookie, &request_of("u1"));

    node.publish(&ring, Secrets { current: NEXT, previous: SECRET });
    node.segment(&segment).assert(Action::Pass, &["bound_by_key", "delivered"]);
    node.take_flow(from);
    assert_ne!(node.dial(from, ISN), cookie, "new cookies are made with the new secret");

    node.publish(&ring, Secrets { current: NEXT, previous: NEXT });
    let outcome = node.segment(&segment);
    assert_ne!(outcome.action, Action::Pass);
    assert_eq!(node.flows(), 0);
}

/// The cookie fits the 4-tuple under the new secret by chance: that must not hide what it proves under the old one.
fn a_chance_fit_under_the_new_secret_hides_nothing(family: Family) {
    let ring = ring_among(family, 1);
    let mut node = Node::in_ring(&ring);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let segment = first(from, ISN, cookie, &request_of("u1"));
    let tuple = cookie::Tuple {
        client: kernel_form(from),
        server: kernel_form(segment.destination),
        client_port: from.port(),
        server_port: segment.destination.port(),
    };
    let clock = nix::time::clock_gettime(nix::time::ClockId::CLOCK_TAI).unwrap();
    let now = ((clock.tv_sec() as u64 * 1_000_000_000 + clock.tv_nsec() as u64) >> cookie::DEFAULT_SLOT_SHIFT) as u32;
    let slot = cookie::slot_of(cookie.wrapping_add(1), now).unwrap();
    let early = |&current: &[u64; 2]| {
        let key = Secrets { current, previous: current }.current();
        cookie::check_one(key, &tuple, slot, ISN.wrapping_add(1), cookie.wrapping_add(1)) == cookie::Verdict::Early
    };
    let next = (1..100_000).map(|k0| [k0, 12]).find(early).expect("one secret in 8192 fits");
    node.publish(&ring, Secrets { current: next, previous: next });
    node.segment(&segment).assert(Action::Drop, &["drop_early_segment"]);
    node.publish(&ring, Secrets { current: next, previous: SECRET });
    node.segment(&segment).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

/// An address as cookies are made over it.
fn kernel_form(end: SocketAddr) -> Address {
    match end.ip() {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn a_syn_leaves_a_live_flow_as_it_is(family: Family) {
    let (mut node, flow) = with_flow(family);
    // Forged or not: it has another sequence number, and nobody can tell yet.
    node.segment(&syn(client(family, 40_000), 12_345)).assert(Action::Transmit, &["syn_answered"]);
    let now = node.flow(client(family, 40_000)).unwrap();
    assert_ne!(now.syn_slot, 0);
    assert_eq!(Flow { syn_slot: 0, ..now }, flow);
    let sent = later(family, &flow, Flags::ACK | Flags::PSH, b"data");
    node.segment(&sent).assert(Action::Pass, &["delivered"]);
}

/// The network has doubled the SYN; the client knows nothing of it and goes on.
fn a_repeated_syn_does_not_bind_anew(family: Family) {
    let mut node = Node::among(family, 1);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let sent = first(from, ISN, cookie, &request_of("u1"));
    node.segment(&sent).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let bound = node.flow(from).unwrap();
    node.dial(from, ISN);
    node.segment(&sent).assert(Action::Pass, &["delivered"]);
    let now = node.flow(from).unwrap();
    assert_eq!((now.packets, now.bound_ns, now.first_ack), (2, bound.bound_ns, bound.first_ack));
}

/// A node whose cookies live for a moment.
fn node_of_short_slots(family: Family) -> Node {
    Node::with(&ring_among(family, 1), |setup| setup.slot_shift = SHORT_SLOT)
}

/// As long as a cookie of that SYN can be valid and no longer, segments of the flow have theirs looked at.
fn what_a_syn_leaves_behind_expires(family: Family) {
    let mut node = node_of_short_slots(family);
    let from = client(family, 40_000);
    // The cookie may have expired before we are here again.
    until("a connection opens in time", || node.open(from, &request_of("u1")).action == Action::Pass);
    let flow = node.flow(from).unwrap();
    node.dial(from, 777);
    assert_ne!(node.flow(from).unwrap().syn_slot, 0);
    until("the SYN is forgotten", || {
        node.segment(&later(family, &flow, Flags::ACK, b"")).assert(Action::Pass, &["delivered"]);
        node.flow(from).unwrap().syn_slot == 0
    });
}

fn a_cookie_expires(family: Family) {
    let mut node = node_of_short_slots(family);
    let from = client(family, 40_000);
    let cookie = node.dial(from, ISN);
    let ack = first(from, ISN, cookie, b"");
    let mut last = None;
    until("the cookie expires", || {
        let outcome = node.segment(&ack);
        let over = !outcome.counted.contains_key("handshake_acks");
        last = Some(outcome);
        over
    });
    reset_in(&last.expect("there was one"), "rst_unknown_flow");
}

fn a_forged_acknowledgement_does_not_move_a_live_flow(family: Family) {
    let ring = ring_among(family, 2);
    let mut node = Node::in_ring(&ring);
    let from = client(family, 40_000);
    node.open(from, &request_of(&user_of(&ring, 1))).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let flow = node.flow(from).unwrap();
    let other = user_of(&ring, 2);
    node.dial(from, 777);
    for guess in 0..64u32 {
        let forged = first(from, 777, guess.wrapping_mul(0x9E37_79B9), &request_of(&other));
        let outcome = node.segment(&Segment { sequence: 1_000_000 + guess, ..forged });
        // One guess in some 10000 looks like an overtaking segment and is dropped; none may rebind.
        assert!(!outcome.counted.contains_key("rebound"), "{outcome:?}");
        let now = node.flow(from).unwrap();
        assert_eq!((now.node, now.key_hash, now.first_ack), (flow.node, flow.key_hash, flow.first_ack));
    }
}

fn a_new_connection_on_old_ports_is_bound_anew(family: Family) {
    let ring = ring_among(family, 2);
    let mut node = Node::in_ring(&ring);
    let from = client(family, 40_000);
    // The old one lives on the other node.
    node.open(from, &request_of(&user_of(&ring, 2))).assert(Action::Transmit, &["bound_by_key", "tunnelled"]);
    assert_eq!(node.flow(from).unwrap().node, 2);

    let cookie = node.dial(from, 777);
    node.segment(&first(from, 777, cookie, b"")).assert(Action::Drop, &["handshake_acks"]);
    assert_eq!(node.flow(from).unwrap().node, 2, "without data nothing changes");
    let segment = first(from, 777, cookie, &request_of(&user_of(&ring, 1)));
    node.segment(&segment).assert(Action::Pass, &["rebound", "bound_by_key", "delivered"]);
    let flow = node.flow(from).unwrap();
    assert_eq!((flow.node, flow.first_ack, flow.syn_slot), (1, cookie.wrapping_add(1), 0));
    assert_eq!((flow.packets, node.flows()), (1, 1));
    // What the old connection still sends is the new one's then: its stack sees to that.
    node.segment(&segment).assert(Action::Pass, &["delivered"]);
}

fn what_overtakes_on_old_ports_waits(family: Family) {
    let (mut node, flow) = with_flow(family);
    let from = client(family, 40_000);
    let cookie = node.dial(from, 777);
    let second = Segment { sequence: 777 + 1_413, ..first(from, 777, cookie, b"rest") };
    node.segment(&second).assert(Action::Drop, &["drop_early_segment"]);
    assert_eq!(node.flow(from).unwrap().first_ack, flow.first_ack);
    // A RST is the old connection's, whatever its numbers.
    for sent in [second, first(from, 777, cookie, &request_of("u1"))] {
        let reset = Segment { flags: Flags::RST | Flags::ACK, ..sent };
        node.segment(&reset).assert(Action::Pass, &["delivered"]);
        assert_eq!(node.flow(from).unwrap().first_ack, flow.first_ack);
    }
}

/// Without ACK, the acknowledgement number means nothing (RFC 9293 section 3.1), be it a valid cookie.
fn a_number_without_the_flag_proves_nothing(family: Family) {
    let (mut node, flow) = with_flow(family);
    let stranger = client(family, 40_001);
    let cookie = node.dial(stranger, ISN);
    let sent = Segment { flags: Flags::PSH, ..first(stranger, ISN, cookie, &request_of("u1")) };
    reset_in(&node.segment(&sent), "rst_unknown_flow");
    assert!(node.flow(stranger).is_none());
    // Nor does it move a flow.
    let known = client(family, 40_000);
    let cookie = node.dial(known, 777);
    let sent = Segment { flags: Flags::PSH, ..first(known, 777, cookie, &request_of("u1")) };
    node.segment(&sent).assert(Action::Pass, &["delivered"]);
    assert_eq!(node.flow(known).unwrap().first_ack, flow.first_ack);
}

fn a_full_table_refuses_new_flows_and_keeps_the_old(family: Family) {
    let mut node = Node::among(family, 1);
    for port in 0..MAX_FLOWS as u16 {
        node.open(client(family, 10_000 + port), &request_of("u1"))
            .assert(Action::Pass, &["bound_by_key", "delivered"]);
    }
    node.open(client(family, 9_000), &request_of("u1")).assert(Action::Drop, &["drop_flow_table_full"]);
    assert_eq!(node.flows(), MAX_FLOWS as usize);
    let kept = node.flow(client(family, 10_500)).unwrap();
    let sent = Segment { acknowledgement: kept.first_ack.wrapping_add(9), ..later(family, &kept, Flags::ACK, b"") };
    node.segment(&Segment { source: client(family, 10_500), ..sent }).assert(Action::Pass, &["delivered"]);
    // A flow that is there can be bound anew.
    let cookie = node.dial(client(family, 10_500), 777);
    node.segment(&first(client(family, 10_500), 777, cookie, &request_of("u1")))
        .assert(Action::Pass, &["rebound", "bound_by_key", "delivered"]);
    // Room for one again: the client's retransmission succeeds.
    node.take_flow(client(family, 10_501));
    node.open(client(family, 9_000), &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

fn a_segment_without_a_key_is_bound_by_its_tuple(family: Family) {
    let mut node = Node::among(family, 5);
    let mut nodes = std::collections::BTreeSet::new();
    for port in 40_000..40_100 {
        let outcome = node.open(client(family, port), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(outcome.counted.get("bound_by_tuple"), Some(&1));
        let once = node.take_flow(client(family, port));
        assert_eq!(once.key_hash, 0);
        node.open(client(family, port), b"x");
        assert_eq!(node.take_flow(client(family, port)).node, once.node, "the same tuple, the same node");
        nodes.insert(once.node);
    }
    assert_eq!(nodes.len(), 5, "ports spread over the nodes");
    // So do addresses.
    let nodes: std::collections::BTreeSet<_> = (1..100)
        .map(|host| {
            let from = SocketAddr::new(addresses::client(family, host), 40_000);
            node.open(from, b"x");
            node.take_flow(from).node
        })
        .collect();
    assert_eq!(nodes.len(), 5, "addresses spread over the nodes");
    let nodes: std::collections::BTreeSet<_> = networks(family)
        .map(|network| {
            let from = SocketAddr::new(network, 40_000);
            node.open(from, b"x");
            node.take_flow(from).node
        })
        .collect();
    assert_eq!(nodes.len(), 5, "networks spread over the nodes");
}

fn a_syn_with_rst_or_ack_opens_nothing(family: Family) {
    let mut node = Node::among(family, 1);
    let segment = syn(client(family, 40_000), ISN);
    let reset = Segment { flags: Flags::SYN | Flags::RST, ..segment.clone() };
    node.segment(&reset).assert(Action::Drop, &["drop_stray_rst"]);
    let answer = Segment { flags: Flags::SYN | Flags::ACK, acknowledgement: 4_711, ..segment };
    let reset = reset_in(&node.segment(&answer), "rst_unknown_flow");
    assert_eq!(reset.sequence, 4_711);
    assert_eq!(node.flows(), 0);
}

/// The same client and port at a second service of the same node: another connection.
fn flows_of_two_services_are_two(family: Family) {
    let (mut node, flow) = with_flow(family);
    let from = client(family, 40_000);
    let other = Family::ALL.into_iter().find(|one| *one != family).expect("there are two");
    assert!(node.flow(client(other, 40_000)).is_none());
    // Another port of the virtual address is not steered at all, nor is another address; least of all by what the program
    // remembers of the service, which it looks for by the low four bits of the port.
    stay_on_this_cpu();
    let ours = later(family, &flow, Flags::ACK, b"");
    let at = ours.destination;
    for destination in [
        SocketAddr::new(at.ip(), at.port() + 1),
        SocketAddr::new(at.ip(), at.port() + 16),
        SocketAddr::new(addresses::node(family, 1), at.port()),
    ] {
        node.segment(&ours).assert(Action::Pass, &["delivered"]);
        let before = node.flow(from);
        node.segment(&Segment { destination, ..ours.clone() }).assert(Action::Pass, &["not_ours"]);
        assert_eq!(node.flow(from), before);
    }
}
