//! *A SYN never creates state*: it costs one reply, which any TCP stack takes and which is no larger than it must be.

use proptest::prelude::*;
use ringsteer_ebpf::cookie::{self, MSS_CLASSES, RCV_WSCALE};
use ringsteer_tests::{
    lab::Family,
    on_each_family,
    packet::{ETHERNET, Flags, IpPacket, Segment, TcpOption, ip::protocol},
};

use crate::node::{Action, ISN, Node, client, frame, offered_mss, packet_in, property, segment_in, syn};

on_each_family!(
    the_answer_mirrors_what_the_client_offers,
    no_option_area_spoils_the_answer,
    a_syn_with_data_is_answered_as_one_without,
    ecn_is_not_agreed_to,
);

fn option() -> impl Strategy<Value = TcpOption> {
    prop_oneof![
        Just(TcpOption::Nop),
        any::<u16>().prop_map(TcpOption::MaximumSegmentSize),
        any::<u8>().prop_map(TcpOption::WindowScale),
        Just(TcpOption::SackPermitted),
        any::<(u32, u32)>().prop_map(|(value, echo)| TcpOption::Timestamps(value, echo)),
        (30u8.., prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(kind, data)| TcpOption::Other(kind, data)),
    ]
}

/// As much of a list as fits into a header.
fn fitting(list: Vec<TcpOption>) -> Vec<TcpOption> {
    let mut room = 40;
    list.into_iter()
        .filter(|option| {
            let size = option.to_bytes().len();
            let fits = size <= room;
            room -= if fits { size } else { 0 };
            fits
        })
        .collect()
}

/// What every answer to a SYN is like, whatever its options.
fn answer(node: &mut Node, sent: &Segment) -> Segment {
    let arriving = frame(&sent.to_bytes());
    let outcome = node.run(&arriving);
    outcome.assert(Action::Transmit, &["syn_answered"]);
    let family = Family::of(sent.source.ip());
    // All headers, and all options that we ever send.
    let longest = ETHERNET + family.header_length() + 40;
    assert!(outcome.frame.len() <= arriving.len().max(longest), "an answer of {} bytes amplifies", outcome.frame.len());
    assert_eq!((&outcome.frame[..6], &outcome.frame[6..12]), (&arriving[6..12], &arriving[..6]), "it goes back");
    let answer = segment_in(&outcome.frame);
    assert_eq!((answer.source, answer.destination), (sent.destination, sent.source));
    assert_eq!((answer.flags, answer.acknowledgement), (Flags::SYN | Flags::ACK, sent.sequence.wrapping_add(1)));
    assert!(answer.payload.is_empty() && answer.reserved == 0);
    assert_eq!(answer.window, 65_535, "a SYN+ACK's window is not scaled");
    // But for the segment, the packet is as plain as can be.
    let packet = packet_in(&outcome.frame);
    let tcp = packet[family.header_length()..].to_vec();
    let plain = IpPacket::new(answer.source.ip(), answer.destination.ip(), protocol::TCP, tcp);
    assert_eq!(packet, plain.to_bytes());
    assert_eq!(node.flows(), 0, "a SYN has made a flow");
    answer
}

fn the_answer_mirrors_what_the_client_offers(family: Family) {
    let strategy = (any::<u32>(), prop::collection::vec(option(), 0..8));
    property(Node::among(family, 1), 400, strategy, |node, (isn, list)| {
        let list = fitting(list);
        let answer = answer(node, &Segment { options: list.clone(), ..syn(client(family, 40_000), isn) });
        let offered = |wanted: fn(&TcpOption) -> bool| list.iter().rfind(|&one| wanted(one));

        let default = match family {
            // RFC 9293 section 3.7.1.
            Family::V4 => 536,
            Family::V6 => 1220,
        };
        let mss = match offered(|one| matches!(one, TcpOption::MaximumSegmentSize(_))) {
            Some(&TcpOption::MaximumSegmentSize(mss)) if mss != 0 => mss,
            _ => default,
        };
        let class = MSS_CLASSES[answer.sequence as usize & 7];
        // The kernel makes no socket for less than the default.
        let expected = MSS_CLASSES.into_iter().rfind(|&class| class <= mss).unwrap_or(0).max(default);
        assert_eq!(class, expected, "the cookie remembers the client's MSS of {mss}");

        let ours = TcpOption::MaximumSegmentSize(offered_mss(family));
        let Some(&TcpOption::Timestamps(value, _)) = offered(|one| matches!(one, TcpOption::Timestamps(..))) else {
            assert_eq!(answer.options, [ours], "without timestamps nothing else can be remembered");
            return;
        };
        let scale = offered(|one| matches!(one, TcpOption::WindowScale(_)));
        let sack = list.contains(&TcpOption::SackPermitted);
        let (stamp, echo) = answer.timestamps().expect("the client's timestamps are answered");
        assert_eq!(echo, value, "the client's timestamp comes back");
        let mut expected = vec![ours];
        expected.extend(sack.then_some(TcpOption::SackPermitted));
        expected.push(TcpOption::Timestamps(stamp, echo));
        expected.extend(scale.map(|_| TcpOption::WindowScale(RCV_WSCALE)));
        assert_eq!(answer.options, expected);
        let window_scale =
            scale.map(|scale| if let TcpOption::WindowScale(scale) = scale { (*scale).min(14) } else { 0 });
        assert_eq!(cookie::Options::from_timestamp(stamp), cookie::Options { window_scale, sack });
    });
}

fn no_option_area_spoils_the_answer(family: Family) {
    let strategy = prop::collection::vec(any::<[u8; 4]>(), 0..=10);
    property(Node::among(family, 1), 400, strategy, |node, area| {
        let options = vec![TcpOption::Raw(area.concat())];
        let answer = answer(node, &Segment { options, ..syn(client(family, 40_000), ISN) });
        assert_eq!(answer.options[0], TcpOption::MaximumSegmentSize(offered_mss(family)));
    });
}

fn a_syn_with_data_is_answered_as_one_without(family: Family) {
    let mut node = Node::among(family, 1);
    let payload = b"GET /?sendID=u HTTP/1.1\r\n\r\n".to_vec();
    // The data is not acknowledged, so it comes again.
    answer(&mut node, &Segment { payload, ..syn(client(family, 40_000), ISN) });
}

/// We could not remember it.
fn ecn_is_not_agreed_to(family: Family) {
    let mut node = Node::among(family, 1);
    let flags = Flags::SYN | Flags::ECE | Flags::CWR;
    answer(&mut node, &Segment { flags, ..syn(client(family, 40_000), ISN) });
}
