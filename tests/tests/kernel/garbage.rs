//! No packet, however broken, leads to an unknown verdict, goes uncounted, or is answered with something malformed.

use proptest::prelude::*;

use crate::{
    node::{Action, ISN, Node, SERVER, TUNNEL_PORT, client, first, node_address, property, request_of, syn},
    packet::{ACK, ETHERNET, Segment, ethernet, fragmentation_needed, ipv4, receive, udp},
};

/// What is done to a good frame.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    /// The first 74 bytes hold the headers, where damage does most.
    SetHeader(usize, u8),
    Cut(prop::sample::Index),
    Append(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => any::<(prop::sample::Index, u8)>().prop_map(|(at, value)| Damage::Set(at, value)),
        6 => (12usize..74, any::<u8>()).prop_map(|(at, value)| Damage::SetHeader(at, value)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(Damage::Append),
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
        }
    }
}

/// One good frame of each kind; the last ones belong to a live flow.
fn good_frames(node: &mut Node) -> Vec<Vec<u8>> {
    let (stranger, known) = (client(50_000), client(40_000));
    let cookie = node.dial(stranger, ISN);
    node.open(known, &request_of("u1")).assert(Action::Pass, &["bound_by_key", "delivered"]);
    let flow = node.flow(known).unwrap();
    let opening = first(stranger, ISN, cookie, &request_of("u2"));
    let live = Segment { flags: ACK, ..first(known, ISN, flow.first_ack + 99, b"data") };
    let mut from_us = live.clone();
    (from_us.from, from_us.to) = (live.to, live.from);
    let error = ipv4([192, 0, 2, 254].into(), SERVER.address, 1, &fragmentation_needed(&from_us.frame()[14..]));
    let tunnelled =
        |inner: &[u8]| ethernet(&ipv4(node_address(1), node_address(1), 17, &udp(0xC123, TUNNEL_PORT, inner)));
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 0, 1, 3, 3, 7];
    vec![
        syn(stranger, ISN, &linux).frame(),
        first(stranger, ISN, cookie, b"").frame(),
        opening.frame(),
        tunnelled(&opening.frame()[14..]),
        tunnelled(&error),
        ethernet(&error),
        syn(known, ISN, &linux).frame(),
        live.frame(),
    ]
}

#[test]
fn every_packet_has_a_counted_verdict() {
    let mut node = Node::among(1);
    let frames = good_frames(&mut node);
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
            Action::Transmit => {
                let answer = receive(&outcome.frame);
                assert_eq!(answer.from, SERVER);
                assert!(outcome.frame.len() <= frame.len().max(74), "amplified");
            }
            // The only member is here, so nothing can be redirected anywhere.
            Action::Redirect => panic!("{outcome:?}"),
            Action::Pass | Action::Drop => assert!(outcome.frame.len() <= frame.len(), "it has grown"),
        }
    });
}
