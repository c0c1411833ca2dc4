//! State appears with a valid cookie *and* data; and nothing that is forged breaks a live flow.

use ringsteer_ebpf::{
    cookie, crc32,
    layout::{flow::Flow, mapped, secret::Secrets},
};

use crate::{
    node::{Action, ISN, MAX_FLOWS, Node, SECRET, SERVER, client, first, node_address, request_of, ring_among, syn},
    packet::{ACK, FIN, PSH, RST, SYN, Segment, ethernet, fragmentation_needed, ipv4, receive},
};

/// A node with a live flow of its own from port 40000, and that flow.
fn with_flow() -> (Node, Flow) {
    let mut node = Node::among(1);
    node.open(client(40_000), &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let flow = node.flow(client(40_000)).unwrap();
    (node, flow)
}

/// A later segment of that flow.
fn later(flow: &Flow, flags: u8, payload: &[u8]) -> Segment {
    Segment {
        flags,
        sequence: ISN.wrapping_add(500),
        ..first(client(40_000), ISN, flow.first_ack.wrapping_add(999), payload)
    }
}

#[test]
fn the_first_segment_is_bound_and_marked_for_admission() {
    let mut node = Node::among(1);
    let from = client(40_000);
    let cookie = node.dial(from, ISN);
    let sent = first(from, ISN, cookie, &request_of("u1"));
    for round in 0..3 {
        // It is marked for as long as it is repeated, because the owner has not spoken then; bound it is only once.
        let outcome = node.run(&sent.frame());
        outcome.assert(Action::Pass, if round == 0 { &["bound_by_key", "delivered"] } else { &["delivered"] });
        let received = receive(&outcome.frame);
        assert!(received.marked);
        assert_eq!((received.sequence, received.acknowledgement), (sent.sequence, sent.acknowledgement));
        assert_eq!(received.payload, sent.payload);
    }
    let flow = node.flow(from).unwrap();
    assert_eq!((flow.node, flow.key_hash), (1, crc32::checksum(b"u1")));
    assert_eq!((flow.first_ack, flow.last_ack), (cookie.wrapping_add(1), cookie.wrapping_add(1)));
    assert_eq!((flow.closing, flow.syn_slot), (0, 0));
}

#[test]
fn later_segments_pass_as_they_are() {
    let (mut node, flow) = with_flow();
    for (flags, payload) in [(ACK, &b""[..]), (ACK | PSH, b"data"), (ACK | FIN, b"")] {
        let sent = later(&flow, flags, payload).frame();
        let outcome = node.run(&sent);
        outcome.assert(Action::Pass, &["delivered"]);
        assert_eq!(outcome.frame, sent);
    }
    let closing = node.flow(client(40_000)).unwrap();
    assert_eq!((closing.closing, closing.last_ack), (1, flow.first_ack.wrapping_add(1_000)));
    node.run(&later(&flow, ACK | PSH, b"data").frame()).assert(Action::Pass, &["delivered"]);
    assert_eq!(node.flow(client(40_000)).unwrap().closing, 0, "data after a forged FIN keeps the flow");
}

#[test]
fn a_bare_ack_makes_no_flow() {
    let mut node = Node::among(1);
    let cookie = node.dial(client(40_000), ISN);
    node.run(&first(client(40_000), ISN, cookie, b"").frame()).assert(Action::Drop, &["handshake_acks"]);
    assert_eq!(node.flows(), 0);
}

#[test]
fn a_segment_that_overtook_the_first_waits() {
    let mut node = Node::among(1);
    let cookie = node.dial(client(40_000), ISN);
    let mut second = first(client(40_000), ISN, cookie, b"rest");
    second.sequence = ISN.wrapping_add(1 + 1_412);
    node.run(&second.frame()).assert(Action::Drop, &["drop_early_segment"]);
    assert_eq!(node.flows(), 0);
    node.run(&first(client(40_000), ISN, cookie, &request_of("u1")).frame())
        .assert(Action::Pass, &["bound_by_key", "delivered"]);
    node.run(&second.frame()).assert(Action::Pass, &["delivered"]);
}

#[test]
fn a_connection_that_ends_before_it_speaks_is_reset() {
    let mut node = Node::among(1);
    let cookie = node.dial(client(40_000), ISN);
    let mut fin = first(client(40_000), ISN, cookie, b"");
    fin.flags = FIN | ACK;
    let reset = node.run(&fin.frame()).reset("rst_before_data");
    assert_eq!((reset.flags, reset.sequence), (RST, cookie.wrapping_add(1)));
    assert_eq!(node.flows(), 0);
}

#[test]
fn a_cookie_is_good_for_its_own_connection_only() {
    let mut node = Node::among(1);
    let cookie = node.dial(client(40_000), ISN);
    let good = first(client(40_000), ISN, cookie, b"GET /?sendID=u1 HTTP/1.1\r\n\r\n");
    let mut other_port = good.clone();
    other_port.from.port += 1;
    let mut other_client = good.clone();
    other_client.from.address = [192, 0, 2, 78].into();
    // 13 bits of the cookie are about the 4-tuple: one in 8192 of these would be taken for an early segment.
    for forged in [other_port, other_client] {
        let outcome = node.run(&forged.frame());
        let counter = outcome.counted.keys().next().copied();
        assert!(matches!(counter, Some("rst_unknown_flow" | "drop_early_segment")), "{outcome:?}");
        assert_eq!(node.flows(), 0);
    }
    node.run(&good.frame()).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

#[test]
fn cookies_of_both_secrets_are_valid_and_of_no_other() {
    const NEXT: [u64; 2] = [11, 12];
    let ring = ring_among(1);
    let mut node = Node::in_ring(&ring);
    let from = client(40_000);
    let cookie = node.dial(from, ISN);
    let segment = first(from, ISN, cookie, &request_of("u1")).frame();

    node.publish(&ring, Secrets { current: NEXT, previous: SECRET });
    node.run(&segment).assert(Action::Pass, &["bound_by_key", "delivered"]);
    node.take_flow(from);
    assert_ne!(node.dial(from, ISN), cookie, "new cookies are made with the new secret");

    node.publish(&ring, Secrets { current: NEXT, previous: NEXT });
    let outcome = node.run(&segment);
    assert_ne!(outcome.action, Action::Pass);
    assert_eq!(node.flows(), 0);
}

/// The cookie fits the 4-tuple under the new secret by chance: that must not hide what it proves under the old one.
#[test]
fn a_chance_fit_under_the_new_secret_hides_nothing() {
    let ring = ring_among(1);
    let mut node = Node::in_ring(&ring);
    let from = client(40_000);
    let cookie = node.dial(from, ISN);
    let segment = first(from, ISN, cookie, &request_of("u1"));
    let tuple = cookie::Tuple {
        client: mapped(from.address.octets()),
        server: mapped(SERVER.address.octets()),
        client_port: from.port,
        server_port: SERVER.port,
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
    node.run(&segment.frame()).assert(Action::Drop, &["drop_early_segment"]);
    node.publish(&ring, Secrets { current: next, previous: SECRET });
    node.run(&segment.frame()).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

#[test]
fn a_syn_leaves_a_live_flow_as_it_is() {
    let (mut node, flow) = with_flow();
    // Forged or not: it has another sequence number, and nobody can tell yet.
    let outcome = node.run(&syn(client(40_000), 12_345, &[]).frame());
    outcome.assert(Action::Transmit, &["syn_answered"]);
    let now = node.flow(client(40_000)).unwrap();
    assert_ne!(now.syn_slot, 0);
    assert_eq!(Flow { syn_slot: 0, ..now }, flow);
    node.run(&later(&flow, ACK | PSH, b"data").frame()).assert(Action::Pass, &["delivered"]);
}

#[test]
fn a_forged_acknowledgement_does_not_move_a_live_flow() {
    let mut node = Node::among(2);
    let from = client(40_000);
    let here = user_of(1);
    node.open(from, &request_of(&here)).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let flow = node.flow(from).unwrap();
    let other = user_of(2);
    node.dial(from, 777);
    for guess in 0..64u32 {
        let mut forged = first(from, 777, guess.wrapping_mul(0x9E37_79B9), &request_of(&other));
        forged.sequence = 1_000_000 + guess;
        let outcome = node.run(&forged.frame());
        // One guess in some 10000 looks like an overtaking segment and is dropped; none may rebind.
        assert!(!outcome.counted.contains_key("rebound"), "{outcome:?}");
        let now = node.flow(from).unwrap();
        assert_eq!((now.node, now.key_hash, now.first_ack), (flow.node, flow.key_hash, flow.first_ack));
    }
}

#[test]
fn a_new_connection_on_old_ports_is_bound_anew() {
    let mut node = Node::among(2);
    let from = client(40_000);
    let (here, there) = (user_of(1), user_of(2));
    // The old one lives on the other node: no route leads there, but the flow is bound.
    node.open(from, &request_of(&there)).assert(Action::Drop, &["bound_by_key", "drop_no_route"]);
    assert_eq!(node.flow(from).unwrap().node, 2);

    let cookie = node.dial(from, 777);
    node.run(&first(from, 777, cookie, b"").frame()).assert(Action::Drop, &["handshake_acks"]);
    assert_eq!(node.flow(from).unwrap().node, 2, "without data nothing changes");
    let segment = first(from, 777, cookie, &request_of(&here));
    node.run(&segment.frame()).assert(Action::Pass, &["rebound", "bound_by_key", "delivered"]);
    let flow = node.flow(from).unwrap();
    assert_eq!((flow.node, flow.first_ack, flow.syn_slot), (1, cookie.wrapping_add(1), 0));
    assert_eq!(node.flows(), 1);
}

/// A user that the member `number` owns, among two.
fn user_of(number: u16) -> String {
    let ring = ring_among(2);
    (0..).map(|index| format!("user{index}")).find(|user| ring.owner(user.as_bytes()).number.get() == number).unwrap()
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    let mut node = Node::among(1);
    for port in 0..MAX_FLOWS as u16 {
        node.open(client(10_000 + port), &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    }
    node.open(client(9_000), &request_of("u1")).assert(Action::Drop, &["drop_flow_table_full"]);
    assert_eq!(node.flows(), MAX_FLOWS as usize);
    // Room for one again: the client's retransmission succeeds.
    node.take_flow(client(10_500));
    node.open(client(9_000), &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
}

#[test]
fn a_flow_of_a_node_that_has_gone_is_dropped_and_counted() {
    let mut node = Node::among(2);
    let there = user_of(2);
    node.dataplane.maps.nodes.remove(&2).unwrap();
    node.open(client(40_000), &request_of(&there)).assert(Action::Drop, &["bound_by_key", "drop_unknown_node"]);
}

#[test]
fn an_icmp_error_goes_where_its_flow_goes() {
    let (mut node, flow) = with_flow();
    let client = client(40_000);
    // What the server sent and a router on its way could not forward.
    let ours = Segment {
        from: SERVER,
        to: client,
        flags: ACK,
        sequence: flow.first_ack,
        acknowledgement: ISN,
        options: Vec::new(),
        payload: vec![0; 100],
    };
    let error = |quoted: &Segment| {
        let message = fragmentation_needed(&quoted.frame()[14..]);
        ethernet(&ipv4([192, 0, 2, 254].into(), SERVER.address, 1, &message))
    };
    let outcome = node.run(&error(&ours));
    outcome.assert(Action::Pass, &["icmp_steered", "delivered"]);
    assert_eq!(outcome.frame, error(&ours));

    let mut of_nobody = ours.clone();
    of_nobody.to.port += 1;
    node.run(&error(&of_nobody)).assert(Action::Pass, &["not_ours"]);
    let mut of_another_port = ours.clone();
    of_another_port.from.port += 1;
    node.run(&error(&of_another_port)).assert(Action::Pass, &["not_ours"]);
    // Sent to another address than the packet it quotes came from.
    let message = fragmentation_needed(&ours.frame()[14..]);
    let astray = ethernet(&ipv4([192, 0, 2, 254].into(), node_address(1), 1, &message));
    node.run(&astray).assert(Action::Pass, &["not_ours"]);
}

#[test]
fn a_segment_without_a_key_is_bound_by_its_tuple() {
    let mut node = Node::among(5);
    for port in 40_000..40_100 {
        let outcome = node.open(client(port), b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(outcome.counted.get("bound_by_tuple"), Some(&1));
        let once = node.take_flow(client(port));
        assert_eq!(once.key_hash, 0);
        node.open(client(port), b"x");
        assert_eq!(node.take_flow(client(port)).node, once.node, "the same tuple, the same node");
    }
}

#[test]
fn a_syn_with_rst_or_ack_opens_nothing() {
    let mut node = Node::among(1);
    let mut segment = syn(client(40_000), ISN, &[]);
    segment.flags = SYN | RST;
    node.run(&segment.frame()).assert(Action::Drop, &["drop_stray_rst"]);
    segment.flags = SYN | ACK;
    segment.acknowledgement = 4_711;
    let outcome = node.run(&segment.frame());
    assert_ne!(outcome.action, Action::Pass, "{outcome:?}");
    assert_eq!(node.flows(), 0);
}
