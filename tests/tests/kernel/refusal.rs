//! What is not right for a service is dropped or reset, each for its own counted reason; what is not for a service is
//! left to the kernel, untouched.

use std::net::{SocketAddr, TcpListener, TcpStream};

use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_family,
    packet::{Datagram, ETHERNET, Flags, Icmp, IpPacket, Segment, TcpOption},
};

use crate::{
    node::{Action, ISN, Node, client, first, frame, request_of, reset_in, server, stay_on_this_cpu, syn},
    wire::until,
};

on_each_family!(
    a_segment_of_no_flow_is_answered_with_the_rst_its_sender_believes,
    an_rst_is_never_answered,
    fragments_are_dropped,
    contradicting_lengths_are_dropped,
    a_frame_may_be_padded,
    what_is_not_for_a_service_passes_untouched,
    a_segment_whose_socket_is_here_is_delivered,
    a_service_that_is_gone_is_nobodys,
);

fn segment(family: Family, flags: Flags, payload: &[u8]) -> Segment {
    Segment { flags, sequence: 5_000, ..first(client(family, 40_000), ISN, 4_711_000, payload) }
}

fn a_segment_of_no_flow_is_answered_with_the_rst_its_sender_believes(family: Family) {
    let mut node = Node::among(family, 1);
    // RFC 9293 section 3.10.7.1: with ACK the RST takes its number from there; without, it acknowledges the segment.
    for (flags, payload) in [
        (Flags::ACK, &b""[..]),
        (Flags::ACK | Flags::PSH, b"data"),
        (Flags::ACK | Flags::FIN, b""),
        (Flags::ACK | Flags::SYN, b""),
    ] {
        let sent = segment(family, flags, payload);
        let outcome = node.segment(&sent);
        let reset = reset_in(&outcome, "rst_unknown_flow");
        assert_eq!((reset.source, reset.destination), (server(family), client(family, 40_000)));
        assert_eq!((reset.flags, reset.sequence, reset.acknowledgement), (Flags::RST, sent.acknowledgement, 0));
        // The whole of it, link addresses too.
        let plain = Segment { window: 0, ..reset };
        let mut expected = frame(&plain.to_bytes());
        expected[..12].rotate_left(6);
        assert_eq!(outcome.frame, expected);
    }
    for (flags, payload, length) in
        [(Flags::default(), &b"data"[..], 4), (Flags::FIN, b"data", 5), (Flags::PSH, b"", 0)]
    {
        let reset = reset_in(&node.segment(&segment(family, flags, payload)), "rst_unknown_flow");
        let expected = (Flags::RST | Flags::ACK, 0, 5_000 + length);
        assert_eq!((reset.flags, reset.sequence, reset.acknowledgement), expected);
    }
    // Options are not taken for data.
    let options = vec![TcpOption::Timestamps(1, 2)];
    let reset = reset_in(&node.segment(&Segment { options, ..segment(family, Flags::PSH, b"12") }), "rst_unknown_flow");
    assert_eq!(reset.acknowledgement, 5_002);
    assert_eq!(node.flows(), 0);
}

fn an_rst_is_never_answered(family: Family) {
    let mut node = Node::among(family, 1);
    for flags in [Flags::RST, Flags::RST | Flags::ACK, Flags::RST | Flags::FIN, Flags::RST | Flags::SYN] {
        node.segment(&segment(family, flags, b"")).assert(Action::Drop, &["drop_stray_rst"]);
    }
    // Not even one that carries a valid cookie.
    let cookie = node.dial(client(family, 40_000), ISN);
    let sent = first(client(family, 40_000), ISN, cookie, &request_of("u1"));
    let sent = Segment { flags: Flags::RST | Flags::ACK, ..sent };
    node.segment(&sent).assert(Action::Drop, &["drop_stray_rst"]);
    assert_eq!(node.flows(), 0);
}

fn fragments_are_dropped(family: Family) {
    let mut node = Node::among(family, 1);
    let whole = segment(family, Flags::ACK, b"data").packet();
    // The first of several, one in the middle, the last.
    for (offset, more) in [(0, true), (1, false), (185, true), (0x1fff, false)] {
        node.packet(&whole.as_fragment(offset, more).to_bytes()).assert(Action::Drop, &["drop_fragment"]);
    }
}

fn contradicting_lengths_are_dropped(family: Family) {
    let mut node = Node::among(family, 1);
    let with_mss = Segment { options: vec![TcpOption::MaximumSegmentSize(1460)], ..syn(client(family, 40_000), ISN) };
    for sent in [with_mss, segment(family, Flags::ACK, b""), segment(family, Flags::ACK | Flags::PSH, b"data")] {
        let frame = frame(&sent.to_bytes());
        let with = |at: usize, value: u8| {
            let mut frame = frame.clone();
            frame[at] = value;
            frame
        };
        let header = family.header_length();
        let data_offset = ETHERNET + header + 12;
        // Where the IP header says how long the packet is, and what that counts.
        let (length_at, beyond) = match family {
            Family::V4 => (ETHERNET + 2, 0),
            Family::V6 => (ETHERNET + 4, header),
        };
        let length = (frame.len() - ETHERNET - beyond) as u8;
        let tcp_length = 20 + TcpOption::area(&sent.options).len();
        let headers = (header + tcp_length - beyond) as u8;
        for (what, broken) in [
            ("data offset below the header", with(data_offset, 4 << 4)),
            ("data offset of nothing", with(data_offset, 0)),
            ("data offset beyond the packet", with(data_offset, 15 << 4)),
            ("length beyond the frame", with(length_at + 1, length + 1)),
            ("length far beyond the frame", with(length_at, 0x40)),
            ("length below the headers", with(length_at + 1, headers - 1)),
            ("length of nothing", with(length_at + 1, 0)),
        ] {
            let outcome = node.run(&broken);
            assert_eq!(outcome.action, Action::Drop, "{what}: {outcome:?}");
            outcome.assert(Action::Drop, &["drop_malformed"]);
        }
        // Nobody sends these to a messaging service; they must not slip past us into a socket of the wrong node.
        node.packet(&sent.packet().with_extension().to_bytes()).assert(Action::Drop, &["drop_malformed"]);
    }
    assert_eq!(node.flows(), 0);
}

/// What is for a service hides behind none of them; what is not is none of our business.
#[test]
fn no_extension_header_hides_a_segment() {
    let mut node = Node::among(Family::V6, 1);
    let ours = segment(Family::V6, Flags::SYN, b"").packet();
    let theirs = {
        let elsewhere = SocketAddr::new(server(Family::V6).ip(), 22);
        Segment { destination: elsewhere, ..segment(Family::V6, Flags::SYN, b"") }.packet()
    };
    // Kind and, behind the byte for the next header, the rest. The length counts units of eight bytes beyond the first
    // (RFC 8200), of four beyond the second in an authentication header (RFC 4302 section 2.2).
    let short = [0, 1, 4, 0, 0, 0, 0];
    let long = [[2, 1, 20].as_slice(), &[0; 20]].concat();
    let authentication = [[4, 0, 0].as_slice(), &[1; 20]].concat();
    let headers: Vec<(u8, &[u8])> =
        vec![(0, &short), (43, &short), (51, &authentication), (60, &long), (135, &short), (139, &short), (140, &long)];
    for (kind, rest) in &headers {
        let alone = |packet: &IpPacket| packet.behind(*kind, rest).to_bytes();
        node.packet(&alone(&ours)).assert(Action::Drop, &["drop_malformed"]);
        node.packet(&alone(&theirs)).assert(Action::Pass, &["not_ours"]);
    }
    let all =
        |packet: &IpPacket| headers.iter().fold(packet.clone(), |packet, (kind, rest)| packet.behind(*kind, rest));
    node.packet(&all(&ours).to_bytes()).assert(Action::Drop, &["drop_malformed"]);
    node.packet(&all(&theirs).to_bytes()).assert(Action::Pass, &["not_ours"]);
    node.packet(&all(&ours.as_fragment(0, true)).to_bytes()).assert(Action::Drop, &["drop_fragment"]);
    // Beyond what anybody sends, nobody looks.
    let chain = |length: usize| (0..length).fold(theirs.clone(), |packet, _| packet.behind(60, &short)).to_bytes();
    node.packet(&chain(7)).assert(Action::Pass, &["not_ours"]);
    node.packet(&chain(9)).assert(Action::Drop, &["drop_malformed"]);
    let far = theirs.behind(60, &[[255].as_slice(), &[0; 2_046]].concat());
    node.packet(&far.to_bytes()).assert(Action::Drop, &["drop_malformed"]);
    // Cut off in the middle, it is no packet at all.
    let cut = ours.behind(60, &short).to_bytes();
    for length in [40, 41, 48, 51] {
        node.packet(&cut[..length]).assert(Action::Pass, &["not_ours"]);
    }
}

fn a_frame_may_be_padded(family: Family) {
    let mut node = Node::among(family, 1);
    let cookie = node.dial(client(family, 40_000), ISN);
    let mut bare = frame(&first(client(family, 40_000), ISN, cookie, b"").to_bytes());
    bare.extend([0; 6]);
    node.run(&bare).assert(Action::Drop, &["handshake_acks"]);
}

fn what_is_not_for_a_service_passes_untouched(family: Family) {
    let mut node = Node::among(family, 1);
    stay_on_this_cpu();
    let (from, server) = (client(family, 40_000), server(family));
    let to = |address: SocketAddr| Segment { destination: address, ..segment(family, Flags::ACK, b"data") }.packet();
    let another_port = to(SocketAddr::new(server.ip(), server.port() + 1));
    // It looks for what it remembers by the low four bits.
    let much_like_it = to(SocketAddr::new(server.ip(), server.port() + 16));
    let another_address = to(SocketAddr::new(addresses::node(family, 1), server.port()));
    let mut arp = frame(&[0; 46]);
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut as_the_other_family = frame(&segment(family, Flags::ACK, b"data").to_bytes());
    as_the_other_family[12..14].copy_from_slice(&match family {
        Family::V4 => Family::V6.ether_type().to_be_bytes(),
        Family::V6 => Family::V4.ether_type().to_be_bytes(),
    });
    let quoting_nobody = Icmp::unreachable(addresses::client(family, 254), &another_port.to_bytes());
    let whole = segment(family, Flags::ACK, b"data").to_bytes();
    for (what, frame) in [
        ("another port", frame(&another_port.to_bytes())),
        ("another port, much like it", frame(&much_like_it.to_bytes())),
        ("another port, behind more than a plain header", frame(&another_port.with_extension().to_bytes())),
        ("another port, a fragment", frame(&another_port.as_fragment(0, true).to_bytes())),
        ("another address", frame(&another_address.to_bytes())),
        ("ARP", arp),
        ("what is not of the family that the frame says", as_the_other_family),
        ("ping", frame(&Icmp::echo_request(from.ip(), server.ip(), vec![7; 40]).to_bytes())),
        ("an error about nothing of ours", frame(&quoting_nobody.to_bytes())),
        ("DNS", frame(&Datagram::new(from, SocketAddr::new(server.ip(), 53), b"?".to_vec()).to_bytes())),
        ("SCTP", frame(&IpPacket::new(from.ip(), server.ip(), 132, vec![0; 12]).to_bytes())),
        ("no packet at all", frame(&[])),
        ("half an IP header", frame(&whole[..family.header_length() / 2])),
        ("half a TCP header", frame(&whole[..family.header_length() + 10])),
    ] {
        // The program remembers the service it has just seen, and that must not be too much.
        node.dial(from, ISN);
        let outcome = node.run(&frame);
        assert_eq!(outcome.frame, frame, "{what}");
        assert_eq!(outcome.action, Action::Pass, "{what}");
        outcome.assert(Action::Pass, &["not_ours"]);
    }
}

fn a_segment_whose_socket_is_here_is_delivered(family: Family) {
    let mut node = Node::among(family, 1);
    node.take_virtual_addresses().unwrap();
    let listener = TcpListener::bind(server(family)).unwrap();
    let here = TcpStream::connect(server(family)).unwrap();
    let source = here.local_addr().unwrap();
    for flags in [Flags::ACK | Flags::PSH, Flags::RST] {
        let sent = Segment { source, ..segment(family, flags, b"data") };
        let outcome = node.segment(&sent);
        outcome.assert(Action::Pass, &["found_socket"]);
        assert_eq!(outcome.frame, frame(&sent.to_bytes()));
    }
    // The listener alone is no reason: whoever has no connection is told so.
    let stranger = SocketAddr::new(source.ip(), source.port() ^ 1);
    let sent = Segment { source: stranger, ..segment(family, Flags::ACK | Flags::PSH, b"data") };
    reset_in(&node.segment(&sent), "rst_unknown_flow");
    drop(listener);
}

/// Its flows are nobody's either. What a CPU remembers of services does not outlive them for long. There is no event to wait for but that itself.
fn a_service_that_is_gone_is_nobodys(family: Family) {
    let mut node = Node::among(family, 1);
    stay_on_this_cpu();
    let from = client(family, 40_000);
    node.open(from, &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let first_ack = node.flow(from).unwrap().first_ack;
    let services = &mut node.dataplane.maps.services;
    for key in services.keys().collect::<Result<Vec<_>, _>>().unwrap() {
        services.remove(&key).unwrap();
    }
    until("the service is forgotten", || {
        let later = Segment { acknowledgement: first_ack.wrapping_add(9), ..first(from, ISN, 0, b"") };
        let outcome = node.segment(&later);
        let gone = !outcome.counted.contains_key("delivered");
        outcome.assert(Action::Pass, if gone { &["not_ours"] } else { &["delivered"] });
        gone
    });
}
