//! No packet, however broken, leads to an unknown verdict, goes uncounted, or is answered with something malformed.

use proptest::prelude::*;
use ringsteer_tests::{
    kernel::addresses,
    lab::Family,
    on_each_mix,
    packet::{Datagram, ETHERNET, Flags, Icmp, Segment, TcpOption},
};

use crate::node::{
    Action, ISN, Mix, Node, TUNNEL_PORT, client, first, frame, property, request_of, ring_among, segment_in, server,
    syn, user_of,
};

on_each_mix!(every_packet_has_a_counted_verdict);

/// What is done to a good frame.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    /// The first bytes hold the headers, where damage does most.
    SetHeader(usize, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
    /// Bytes slipped in, which moves all that follows.
    Insert(usize, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        2 => any::<(prop::sample::Index, u8)>().prop_map(|(at, value)| Damage::Set(at, value)),
        6 => (12usize..114, any::<u8>()).prop_map(|(at, value)| Damage::SetHeader(at, value)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => bytes().prop_map(Damage::Append),
        1 => (ETHERNET..114, bytes()).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ]
}

fn apply(frame: &mut Vec<u8>, damage: &[Damage]) {
    for one in damage {
        match one {
            Damage::Set(at, value) => {
                let at = at.index(frame.len());
                frame[at] = *value;
            }
            Damage::SetHeader(at, value) => {
                let at = *at % frame.len();
                frame[at] = *value;
            }
            // The kernel runs XDP programs on nothing shorter than an Ethernet header.
            Damage::Cut(at) => frame.truncate(ETHERNET + at.index(frame.len() - ETHERNET + 1)),
            Damage::Append(bytes) => frame.extend(bytes),
            Damage::Insert(at, bytes) => {
                let at = (*at).min(frame.len());
                frame.splice(at..at, bytes.iter().copied());
            }
        }
    }
}

/// One good frame of each kind; the last ones belong to live flows, here and elsewhere.
fn good_frames(node: &mut Node, mix: Mix, users: [String; 2]) -> Vec<Vec<u8>> {
    let stranger = client(mix.inner, 50_000);
    let cookie = node.dial(stranger, ISN);
    let opening = first(stranger, ISN, cookie, &request_of("u2"));
    let linux = vec![
        TcpOption::MaximumSegmentSize(1460),
        TcpOption::SackPermitted,
        TcpOption::Timestamps(7, 0),
        TcpOption::Nop,
        TcpOption::WindowScale(7),
    ];
    let dialling = |from| Segment { options: linux.clone(), ..syn(from, ISN) }.packet();
    let mut packets = vec![dialling(stranger), first(stranger, ISN, cookie, b"").packet(), opening.packet()];
    for (port, user) in (40_000..).zip(users) {
        let known = client(mix.inner, port);
        let outcome = node.open(known, &request_of(&user));
        assert!(outcome.counted.contains_key("bound_by_key"), "{outcome:?}");
        let first_ack = node.flow(known).unwrap().first_ack;
        let live = Segment { flags: Flags::ACK, ..first(known, ISN, first_ack + 99, b"data") };
        let ours = Segment { source: live.destination, destination: live.source, ..live.clone() };
        let error = Icmp::too_big(addresses::client(mix.inner, 254), 1_280, &ours.to_bytes());
        packets.extend([dialling(known), live.packet(), error.packet()]);
    }
    // All of them once more, out of the tunnel; and each as a fragment and behind more than a plain header.
    let [from, us] = [2, 1].map(|number| addresses::node(mix.outer, number));
    let tunnelled = |inner: &Vec<u8>| Datagram::new((from, 0xC123), (us, TUNNEL_PORT), inner.clone()).packet();
    let inner: Vec<_> = packets.iter().map(|packet| packet.to_bytes()).collect();
    packets.extend(inner.iter().map(tunnelled));
    let variants =
        packets.iter().flat_map(|packet| [packet.clone(), packet.as_fragment(0, true), packet.with_extension()]);
    variants.map(|packet| frame(&packet.to_bytes())).collect()
}

fn every_packet_has_a_counted_verdict(inner: Family, outer: Family) {
    let mix = Mix { outer, inner };
    let ring = ring_among(mix.outer, 2);
    let mut node = Node::in_ring(&ring);
    let frames = good_frames(&mut node, mix, [1, 2].map(|number| user_of(&ring, number)));
    let strategy = (any::<prop::sample::Index>(), prop::collection::vec(damage(), 0..4));
    property(node, 3_000, strategy, move |node, (which, damage)| {
        let mut frame = frames[which.index(frames.len())].clone();
        apply(&mut frame, &damage);
        // Knows four verdicts, and panics at another.
        let outcome = node.run(&frame);
        assert!(outcome.counted.values().sum::<u64>() >= 1, "an uncounted {:?}", outcome.action);
        let dropped = outcome.counted.keys().any(|name| name.starts_with("drop_") || *name == "handshake_acks");
        assert_eq!(outcome.action == Action::Drop, dropped, "{outcome:?}");
        match outcome.action {
            Action::Transmit if outcome.counted.contains_key("tunnelled") => {
                let overhead = mix.outer.header_length() + 8;
                assert_eq!(outcome.frame.len(), frame.len() + overhead, "the tunnel's headers and no more");
                assert_eq!(outcome.frame[..6], addresses::link(2));
            }
            Action::Transmit => {
                let answer = segment_in(&outcome.frame);
                let services = Family::ALL.map(server);
                assert!(services.contains(&answer.source), "answered as {}", answer.source);
                let longest = ETHERNET + Family::of(answer.source.ip()).header_length() + 40;
                assert!(outcome.frame.len() <= frame.len().max(longest), "amplified");
            }
            // Everything leaves by the interface it came by.
            Action::Redirect => panic!("{outcome:?}"),
            Action::Pass | Action::Drop => assert!(outcome.frame.len() <= frame.len(), "it has grown"),
        }
    });
}
