//! *A SYN never creates state*: it costs one reply, which any TCP stack takes and which is no larger than it must be.

use proptest::prelude::*;
use ringsteer_ebpf::cookie::{self, MSS_CLASSES, RCV_WSCALE};

use crate::{
    node::{Action, ISN, MSS, Node, SERVER, client, property, syn},
    packet::{ACK, Received, SYN, receive},
};

/// An option of a SYN.
#[derive(Clone, Debug, PartialEq)]
enum Opt {
    Nop,
    Mss(u16),
    Scale(u8),
    Sack,
    Timestamps(u32, u32),
    /// A kind that nobody knows here.
    Other(u8, Vec<u8>),
}

fn opt() -> impl Strategy<Value = Opt> {
    prop_oneof![
        Just(Opt::Nop),
        any::<u16>().prop_map(Opt::Mss),
        any::<u8>().prop_map(Opt::Scale),
        Just(Opt::Sack),
        any::<(u32, u32)>().prop_map(|(value, echo)| Opt::Timestamps(value, echo)),
        (30u8.., prop::collection::vec(any::<u8>(), 0..8)).prop_map(|(kind, data)| Opt::Other(kind, data)),
    ]
}

/// The option area of a list, or as much of it as fits.
fn encode(list: &[Opt]) -> (Vec<u8>, Vec<Opt>) {
    let (mut area, mut taken) = (Vec::new(), Vec::new());
    for one in list {
        let bytes = match one {
            Opt::Nop => vec![1],
            Opt::Mss(mss) => [&[2, 4], &mss.to_be_bytes()[..]].concat(),
            Opt::Scale(scale) => vec![3, 3, *scale],
            Opt::Sack => vec![4, 2],
            Opt::Timestamps(value, echo) => [&[8, 10], &value.to_be_bytes()[..], &echo.to_be_bytes()].concat(),
            Opt::Other(kind, data) => [&[*kind, 2 + data.len() as u8], &data[..]].concat(),
        };
        if area.len() + bytes.len() <= 40 {
            area.extend(bytes);
            taken.push(one.clone());
        }
    }
    area.resize(area.len().next_multiple_of(4), 0);
    (area, taken)
}

/// Reads an option area that must be well-formed, without its padding.
fn decode(mut area: &[u8]) -> Vec<Opt> {
    let mut list = Vec::new();
    while let [kind, rest @ ..] = area {
        area = rest;
        if *kind == 1 {
            continue;
        }
        assert_ne!(*kind, 0, "the list ends early");
        let length = usize::from(rest[0]) - 1;
        let data = &rest[1..length];
        area = &rest[length..];
        list.push(match (kind, data) {
            (2, [high, low]) => Opt::Mss(u16::from_be_bytes([*high, *low])),
            (3, [scale]) => Opt::Scale(*scale),
            (4, []) => Opt::Sack,
            (8, &[a, b, c, d, e, f, g, h]) => {
                Opt::Timestamps(u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
            }
            other => panic!("option {other:?}"),
        });
    }
    list
}

/// What every answer to a SYN is like, whatever its options.
fn answer(node: &mut Node, isn: u32, options: &[u8]) -> Received {
    let from = client(40_000);
    let sent = syn(from, isn, options).frame();
    let outcome = node.run(&sent);
    outcome.assert(Action::Transmit, &["syn_answered"]);
    assert!(outcome.frame.len() <= sent.len().max(74), "an answer of {} bytes amplifies", outcome.frame.len());
    assert_eq!((&outcome.frame[..6], &outcome.frame[6..12]), (&sent[6..12], &sent[..6]), "it goes back");
    let answer = receive(&outcome.frame);
    assert_eq!((answer.from, answer.to), (SERVER, from));
    assert_eq!((answer.flags, answer.acknowledgement), (SYN | ACK, isn.wrapping_add(1)));
    assert!(answer.payload.is_empty() && !answer.marked);
    assert_eq!(node.flows(), 0, "a SYN has made a flow");
    answer
}

#[test]
fn the_answer_mirrors_what_the_client_offers() {
    let strategy = (any::<u32>(), prop::collection::vec(opt(), 0..8));
    property(Node::among(1), 400, strategy, |node, (isn, list)| {
        let (area, list) = encode(&list);
        let answer = answer(node, isn, &area);
        let offered = |wanted: fn(&Opt) -> bool| list.iter().rfind(|&one| wanted(one));
        let replied = decode(&answer.options);

        let mss = match offered(|one| matches!(one, Opt::Mss(_))) {
            Some(&Opt::Mss(mss)) if mss != 0 => mss,
            _ => 536,
        };
        let class = MSS_CLASSES[answer.sequence as usize & 7];
        let expected = MSS_CLASSES.iter().rfind(|&&class| class <= mss).unwrap_or(&MSS_CLASSES[0]);
        assert_eq!(class, *expected, "the cookie remembers the client's MSS of {mss}");

        let Some(&Opt::Timestamps(value, _)) = offered(|one| matches!(one, Opt::Timestamps(..))) else {
            assert_eq!(replied, [Opt::Mss(MSS)], "without timestamps nothing else can be remembered");
            return;
        };
        let scale = offered(|one| matches!(one, Opt::Scale(_)));
        let sack = list.contains(&Opt::Sack);
        let Some(&Opt::Timestamps(stamp, echo)) = replied.iter().find(|one| matches!(one, Opt::Timestamps(..))) else {
            panic!("no timestamps in {replied:?}");
        };
        assert_eq!(echo, value, "the client's timestamp comes back");
        let mut expected = vec![Opt::Mss(MSS)];
        expected.extend(sack.then_some(Opt::Sack));
        expected.push(Opt::Timestamps(stamp, echo));
        expected.extend(scale.map(|_| Opt::Scale(RCV_WSCALE)));
        assert_eq!(replied, expected);
        let remembered = cookie::Options {
            window_scale: scale.map(|scale| if let Opt::Scale(scale) = scale { (*scale).min(14) } else { 0 }),
            sack,
        };
        assert_eq!(cookie::Options::from_timestamp(stamp), remembered);
    });
}

#[test]
fn no_option_area_spoils_the_answer() {
    let strategy = prop::collection::vec(any::<[u8; 4]>(), 0..=10);
    property(Node::among(1), 400, strategy, |node, area| {
        let answer = answer(node, ISN, &area.concat());
        let replied = decode(&answer.options);
        assert_eq!(replied[0], Opt::Mss(MSS));
    });
}

#[test]
fn a_syn_with_data_is_answered_as_one_without() {
    let mut node = Node::among(1);
    let mut with_data = syn(client(40_000), ISN, &[]);
    with_data.payload = b"GET /?sendID=u HTTP/1.1\r\n\r\n".to_vec();
    let outcome = node.run(&with_data.frame());
    outcome.assert(Action::Transmit, &["syn_answered"]);
    let reply = receive(&outcome.frame);
    assert_eq!(reply.acknowledgement, ISN.wrapping_add(1), "the data is not acknowledged, so it comes again");
    assert_eq!(node.flows(), 0);
}
