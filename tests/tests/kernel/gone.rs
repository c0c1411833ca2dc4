//! A node that is gone from the ring takes its flows with it: their clients are told at once, by a RST they believe.

use ringsteer::ring::Ring;
use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_family,
    packet::{Flags, Icmp, Segment},
};

use crate::{
    node::{Action, ISN, Node, SECRETS, client, first, request_of, reset_in, ring_among, segment_in, server, user_of},
    wire::until,
};

on_each_family!(
    the_client_is_told_with_the_number_it_acknowledges,
    who_acknowledges_nothing_is_answered_by_its_own_number,
    an_rst_is_not_answered,
    other_flows_go_on,
    who_dials_again_is_bound_anew,
    an_icmp_error_about_it_is_dropped,
);

/// A node of two whose flows from port 40000 and 40001 live on node 2 and here, when node 2 has just gone.
struct Bereft {
    node: Node,
    family: Family,
    before: Ring,
}

impl Bereft {
    fn new(family: Family) -> Self {
        let before = ring_among(family, 2);
        let mut node = Node::in_ring(&before);
        for (port, number) in [(40_000, 2u16), (40_001, 1)] {
            let outcome = node.open(client(family, port), &request_of(&user_of(&before, number)));
            assert_eq!(node.flow(client(family, port)).unwrap().node, u32::from(number), "{outcome:?}");
        }
        node.publish(&ring_among(family, 1), SECRETS);
        Self { node, family, before }
    }

    /// A segment of the flow from `port`.
    fn segment(&self, port: u16, flags: Flags) -> Segment {
        let from = client(self.family, port);
        let first_ack = self.node.flow(from).unwrap().first_ack;
        let sent = first(from, ISN, first_ack.wrapping_add(4_711), b"data");
        Segment { flags, sequence: ISN.wrapping_add(500), ..sent }
    }

    /// Sends a segment until it is not tunnelled any more: for a moment each CPU remembers the way to the node. Gives
    /// what became of it then.
    #[track_caller]
    fn send(&mut self, sent: &Segment) -> ringsteer_tests::kernel::run::Outcome<Action> {
        let mut last = None;
        until("the node is forgotten", || {
            let outcome = self.node.segment(sent);
            let forgotten = !outcome.counted.contains_key("tunnelled");
            last = Some(outcome);
            forgotten
        });
        last.expect("there was one")
    }
}

fn the_client_is_told_with_the_number_it_acknowledges(family: Family) {
    let mut bereft = Bereft::new(family);
    for flags in [Flags::ACK, Flags::ACK | Flags::PSH, Flags::ACK | Flags::FIN] {
        let sent = bereft.segment(40_000, flags);
        let reset = reset_in(&bereft.send(&sent), "rst_node_gone");
        assert_eq!((reset.source, reset.destination), (server(family), sent.source));
        assert_eq!((reset.flags, reset.sequence), (Flags::RST, sent.acknowledgement));
        // Whatever else comes is answered, too: RFC 5961 has a client ask again. The flow goes after a short silence.
        assert_eq!(bereft.node.flow(sent.source).unwrap().closing, 1);
    }
}

fn who_acknowledges_nothing_is_answered_by_its_own_number(family: Family) {
    let mut bereft = Bereft::new(family);
    let sent = bereft.segment(40_000, Flags::PSH);
    let reset = reset_in(&bereft.send(&sent), "rst_node_gone");
    let end = sent.sequence.wrapping_add(sent.payload.len() as u32);
    assert_eq!((reset.flags, reset.sequence, reset.acknowledgement), (Flags::RST | Flags::ACK, 0, end));
}

fn an_rst_is_not_answered(family: Family) {
    let mut bereft = Bereft::new(family);
    for flags in [Flags::RST, Flags::RST | Flags::ACK] {
        let sent = bereft.segment(40_000, flags);
        bereft.send(&sent).assert(Action::Drop, &["drop_unknown_node"]);
    }
}

fn other_flows_go_on(family: Family) {
    let mut bereft = Bereft::new(family);
    let sent = bereft.segment(40_001, Flags::ACK);
    let outcome = bereft.send(&sent);
    outcome.assert(Action::Pass, &["delivered"]);
    assert_eq!(segment_in(&outcome.frame), sent);
    assert_eq!(bereft.node.flow(sent.source).unwrap().closing, 0);
}

fn who_dials_again_is_bound_anew(family: Family) {
    let mut bereft = Bereft::new(family);
    let from = client(family, 40_000);
    let cookie = bereft.node.dial(from, 777);
    let request = request_of(&user_of(&bereft.before, 2));
    bereft
        .node
        .segment(&first(from, 777, cookie, &request))
        .assert(Action::Pass, &["rebound", "bound_by_key", "delivered"]);
    assert_eq!(bereft.node.flow(from).unwrap().node, 1);
}

fn an_icmp_error_about_it_is_dropped(family: Family) {
    let mut bereft = Bereft::new(family);
    // Not before the node is forgotten.
    let sent = bereft.segment(40_000, Flags::ACK);
    bereft.send(&sent);
    let ours = Segment::new(sent.destination, sent.source, Flags::ACK).to_bytes();
    let error = Icmp::too_big(addresses::client(family, 254), 1_280, &ours);
    bereft.node.packet(&error.to_bytes()).assert(Action::Drop, &["icmp_steered", "drop_unknown_node"]);
}
