//! What is not right for a service is dropped or reset, each for its own counted reason; what is not for a service is
//! left to the kernel, untouched.

use std::net::{TcpListener, TcpStream};

use crate::{
    node::{Action, ISN, Node, SERVER, client, first, syn},
    packet::{ACK, End, FIN, IPV4, PSH, RST, SYN, Segment, ethernet, ipv4, udp},
};

fn segment(flags: u8, payload: &[u8]) -> Segment {
    Segment { flags, sequence: 5_000, ..first(client(40_000), ISN, 4_711_000, payload) }
}

#[test]
fn a_segment_of_no_flow_is_answered_with_the_rst_its_sender_believes() {
    let mut node = Node::among(1);
    // RFC 9293 section 3.10.7.1: with ACK the RST takes its number from there; without, it acknowledges the segment.
    for (flags, payload) in [(ACK, &b""[..]), (ACK | PSH, b"data"), (ACK | FIN, b"")] {
        let sent = segment(flags, payload);
        let reset = node.run(&sent.frame()).reset("rst_unknown_flow");
        assert_eq!((reset.from, reset.to), (SERVER, client(40_000)));
        assert_eq!((reset.flags, reset.sequence), (RST, sent.acknowledgement));
    }
    for (flags, payload, length) in [(0, &b"data"[..], 4), (FIN, b"data", 5), (PSH, b"", 0)] {
        let reset = node.run(&segment(flags, payload).frame()).reset("rst_unknown_flow");
        assert_eq!((reset.flags, reset.sequence, reset.acknowledgement), (RST | ACK, 0, 5_000 + length));
    }
    assert_eq!(node.flows(), 0);
}

#[test]
fn an_rst_is_never_answered() {
    let mut node = Node::among(1);
    for flags in [RST, RST | ACK, RST | FIN, RST | SYN] {
        node.run(&segment(flags, b"").frame()).assert(Action::Drop, &["drop_stray_rst"]);
    }
}

#[test]
fn fragments_are_dropped() {
    let mut node = Node::among(1);
    // More to come; and not the first.
    for field in [0x2000u16, 0x0001, 0x20b9] {
        let mut frame = segment(ACK, b"data").frame();
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        node.run(&frame).assert(Action::Drop, &["drop_fragment"]);
    }
}

#[test]
fn contradicting_lengths_are_dropped() {
    let mut node = Node::among(1);
    for sent in [syn(client(40_000), ISN, &[2, 4, 5, 0xb4]), segment(ACK, b""), segment(ACK | PSH, b"data")] {
        let frame = sent.frame();
        let with = |at: usize, value: u8| {
            let mut frame = frame.clone();
            frame[at] = value;
            frame
        };
        let total_length = frame.len() as u8 - 14;
        let offset = IPV4 + 12;
        for (what, broken) in [
            ("data offset below the header", with(offset, 4 << 4)),
            ("data offset of nothing", with(offset, 0)),
            ("data offset beyond the packet", with(offset, 15 << 4)),
            ("total length beyond the frame", with(17, total_length + 1)),
            ("total length far beyond the frame", with(16, 0x40)),
            ("total length below the headers", with(17, 39)),
            ("total length of nothing", with(17, 0)),
            ("an IPv4 header with options", {
                let mut frame = frame.clone();
                frame[14] = 0x46;
                frame.splice(34..34, [1, 1, 1, 1]);
                frame
            }),
        ] {
            let outcome = node.run(&broken);
            assert_eq!(outcome.action, Action::Drop, "{what}: {outcome:?}");
            outcome.assert(Action::Drop, &["drop_malformed"]);
        }
    }
    assert_eq!(node.flows(), 0);
}

#[test]
fn a_frame_may_be_padded() {
    let mut node = Node::among(1);
    let cookie = node.dial(client(40_000), ISN);
    let mut bare = first(client(40_000), ISN, cookie, b"").frame();
    bare.resize(60, 0);
    node.run(&bare).assert(Action::Drop, &["handshake_acks"]);
}

#[test]
fn what_is_not_for_a_service_passes_untouched() {
    let mut node = Node::among(1);
    let to = |address: [u8; 4], port| Segment { to: End { address: address.into(), port }, ..segment(ACK, b"data") };
    let mut arp = ethernet(&[0; 46]);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut ipv6 = ethernet(&[0x60; 60]);
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let (from, server) = (client(40_000).address, SERVER.address);
    for (what, frame) in [
        ("another port", to(SERVER.address.octets(), SERVER.port + 1).frame()),
        ("another address", to([203, 0, 113, 11], SERVER.port).frame()),
        ("ARP", arp),
        ("IPv6", ipv6),
        ("ping", ethernet(&ipv4(from, server, 1, &[8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4]))),
        ("DNS", ethernet(&ipv4(from, server, 17, &udp(5_353, 53, b"?")))),
        ("SCTP", ethernet(&ipv4(from, server, 132, &[0; 12]))),
        ("no packet at all", ethernet(&[])),
        ("half an IPv4 header", ethernet(&[0x45; 10])),
    ] {
        let outcome = node.run(&frame);
        assert_eq!(outcome.frame, frame, "{what}");
        assert_eq!(outcome.action, Action::Pass, "{what}");
        outcome.assert(Action::Pass, &["not_ours"]);
    }
}

#[test]
fn a_segment_whose_socket_is_here_is_delivered() {
    let mut node = Node::among(1);
    node.bring_up();
    let listener = TcpListener::bind((SERVER.address, SERVER.port)).unwrap();
    let here = TcpStream::connect((SERVER.address, SERVER.port)).unwrap();
    let port = here.local_addr().unwrap().port();
    let mut sent = segment(ACK | PSH, b"data");
    sent.from = End { address: SERVER.address, port };
    let outcome = node.run(&sent.frame());
    outcome.assert(Action::Pass, &["found_socket"]);
    assert_eq!(outcome.frame, sent.frame());
    // The listener alone is no reason: whoever has no connection is told so.
    sent.from.port = port ^ 1;
    node.run(&sent.frame()).reset("rst_unknown_flow");
    drop(listener);
}
