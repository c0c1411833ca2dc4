//! What the kernel takes for the key is what the gateway will take for it; where the two could differ, the kernel
//! takes none.

use proptest::prelude::*;
use ringsteer::websocket::request::{parameter, parse_head};
use ringsteer_ebpf::{crc32, key::MAX_KEY};
use ringsteer_tests::{lab::Family, on_each_family};

use crate::node::{Node, PARAMETER, client, offered_mss, property, request};

on_each_family!(
    the_three_sdks_are_understood,
    each_rule_of_the_query,
    only_the_request_line_counts,
    at_either_end_of_a_full_segment,
    a_proxy_header_is_passed_over,
    a_key_has_a_largest_size,
    a_request_cut_anywhere_gives_its_own_key_or_none,
    what_is_no_request_has_no_key,
    kernel_and_gateway_read_the_same_key,
);

/// A node of three, and the family of its clients.
struct Reader(Node, Family);

impl Reader {
    fn new(family: Family) -> Self {
        Self(Node::among(family, 3), family)
    }

    /// The hash of the key that the kernel finds in `payload`; 0 for none.
    #[track_caller]
    fn read(&mut self, payload: &[u8]) -> u32 {
        in_kernel(&mut self.0, self.1, payload)
    }
}

/// The hash of the key that the kernel finds in `payload`; 0 for none.
#[track_caller]
fn in_kernel(node: &mut Node, family: Family, payload: &[u8]) -> u32 {
    let from = client(family, 40_000);
    let outcome = node.open(from, payload);
    let flow = node.take_flow(from);
    let counter = if flow.key_hash == 0 { "bound_by_tuple" } else { "bound_by_key" };
    assert_eq!(outcome.counted.get(counter), Some(&1), "{outcome:?}");
    flow.key_hash
}

/// The same as the gateway reads a whole request; `None` if it refuses the request.
fn in_gateway(whole: &[u8]) -> Option<u32> {
    let (head, _) = parse_head(whole).ok()??;
    let key = parameter(head.target, PARAMETER).filter(|key| (1..=MAX_KEY).contains(&key.len()));
    Some(key.map_or(0, |key| crc32::checksum(&key)))
}

#[track_caller]
fn agree(node: &mut Reader, target: impl AsRef<[u8]>, key: &[u8]) {
    let payload = request(target);
    assert!(payload.len() <= usize::from(offered_mss(node.1)), "that is no first segment");
    let expected = if key.is_empty() { 0 } else { crc32::checksum(key) };
    assert_eq!(in_gateway(&payload), Some(expected), "the gateway reads {}", payload.escape_ascii());
    assert_eq!(node.read(&payload), expected, "the kernel reads {}", payload.escape_ascii());
}

fn the_three_sdks_are_understood(family: Family) {
    let mut node = Reader::new(family);
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.".repeat(16);
    agree(
        &mut node,
        format!("/?sendID=用户7&token={token}&platformID=1&operationID=a+b&isBackground=false&compression=gzip"),
        "用户7".as_bytes(),
    );
    let wasm = format!(
        "/?compression=gzip&isBackground=false&isMsgResp=true&operationID=1700000000000&platformID=5&token={token}&sendID=%E7%94%A8%E6%88%B7"
    );
    assert!((700..900).contains(&wasm.len()), "{}", wasm.len());
    agree(&mut node, wasm, "用户".as_bytes());
    agree(
        &mut node,
        format!("/?sendID=u+1&token={token}&platformID=5&operationID=1&isBackground=false&isMsgResp=true&sdkType=js"),
        b"u 1",
    );
}

fn each_rule_of_the_query(family: Family) {
    let mut node = Reader::new(family);
    let cases: &[(&str, &str)] = &[
        ("/", ""),
        ("/?", ""),
        ("/?sendID", ""),
        ("/?sendID=", ""),
        ("/?sendID=&sendID=b", ""),
        ("/?sendID=a&sendID=b", "a"),
        ("/?sendID=a=b", "a=b"),
        ("/?a=?sendID=b&sendID=c", "c"),
        ("/?a?sendID=b", ""),
        ("/sendID=a", ""),
        ("/?xsendID=a&sendIDx=b&SENDID=c", ""),
        ("/?x=sendID=a", ""),
        ("/?x=%26sendID=a&sendID=b", "b"),
        ("/?&&sendID=a", "a"),
        ("/?sendID=a#b&c", "a#b"),
        ("/#?sendID=a", "a"),
        ("/?sendID=a;b", ""),
        ("/?sendID=a;b&sendID=c", "c"),
        ("/?x=1;sendID=a&sendID=c", "c"),
        ("/?sendID=%41%6a%6A", "Ajj"),
        ("/?sendID=%", ""),
        ("/?sendID=%zz&sendID=b", "b"),
        ("/?send%49D=a", "a"),
        ("/?%73endID=a", "a"),
        ("/?%zz=a&sendID=b", "b"),
        ("/?sendID=%2541", "%41"),
        ("/?sendID=a+b%2Bc", "a b+c"),
        ("/?sendID=%26%3d", "&="),
        ("http://host/?sendID=a", "a"),
    ];
    for (target, key) in cases {
        agree(&mut node, target, key.as_bytes());
    }
}

fn only_the_request_line_counts(family: Family) {
    let mut node = Reader::new(family);
    let payload = b"GET / HTTP/1.1\r\nReferer: http://h/?sendID=a\r\nX: ?sendID=b&sendID=c\r\n\r\n/?sendID=d ";
    assert_eq!(in_gateway(payload), Some(0));
    assert_eq!(node.read(payload), 0);
    let payload = b"POST /push HTTP/1.1\r\nContent-Length: 9\r\n\r\n?sendID=d";
    assert_eq!((in_gateway(payload), node.read(payload)), (Some(0), 0));
}

fn at_either_end_of_a_full_segment(family: Family) {
    let mut node = Reader::new(family);
    let filler = usize::from(offered_mss(node.1)) - request("/?sendID=u1&x=").len();
    agree(&mut node, format!("/?sendID=u1&x={}", "x".repeat(filler)), b"u1");
    agree(&mut node, format!("/?x={}&sendID=u1", "x".repeat(filler)), b"u1");
    // Every alignment to the words that the kernel scans by.
    for pad in 0..16 {
        agree(&mut node, format!("/?x={}&sendID=u{pad}", "y".repeat(pad)), format!("u{pad}").as_bytes());
    }
}

fn a_proxy_header_is_passed_over(family: Family) {
    let mut node = Reader::new(family);
    let expected = crc32::checksum(b"u1");
    let mut behind = |header: &[u8]| node.read(&[header, &request("/?x=1&sendID=u1")].concat());
    assert_eq!(behind(b"PROXY TCP4 192.0.2.9 203.0.113.9 51000 443\r\n"), expected);
    assert_eq!(behind(b"PROXY TCP6 2001:db8::9 2001:db8::a 51000 443\r\n"), expected);
    // Version 2, at every alignment to the words that the kernel scans by, and up to its largest size.
    for length in (0..40).chain([1008]) {
        let fixed = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &u16::to_be_bytes(length)[..]].concat();
        let header = [fixed, vec![b'?'; length.into()]].concat();
        assert_eq!(behind(&header), expected, "{length} bytes of addresses");
    }
    assert_eq!(behind(b"PROXY TCP4 192.0.2.9 203.0.113.9 51000 443"), 0, "a header without an end");
}

fn a_key_has_a_largest_size(family: Family) {
    let mut node = Reader::new(family);
    for (length, counts) in [(255, true), (256, true), (257, false), (1_000, false)] {
        let key = "k".repeat(length);
        let expected = if counts { key.as_bytes() } else { b"" };
        agree(&mut node, format!("/?sendID={key}&x=1"), expected);
        if length * 3 < 1_300 {
            let escaped = "%6B".repeat(length);
            agree(&mut node, format!("/?a=1&sendID={escaped}"), expected);
        }
    }
}

fn a_request_cut_anywhere_gives_its_own_key_or_none(family: Family) {
    let mut node = Reader::new(family);
    let whole = request("/?token=t&sendID=%E7%94%A8u1&sendID=other&platformID=5");
    let key_end = whole.windows(4).position(|bytes| bytes == b"u1&s").unwrap() + 3;
    let expected = in_gateway(&whole).unwrap();
    assert_ne!(expected, 0);
    for length in 1..=whole.len() {
        let found = node.read(&whole[..length]);
        assert_eq!(found, if length < key_end { 0 } else { expected }, "the first {length} bytes");
    }
}

fn what_is_no_request_has_no_key(family: Family) {
    let mut node = Reader::new(family);
    for payload in [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"x", b"\r\n?sendID=a ", b"GET\t/?sendID=a\r\n\r\n"] {
        assert_eq!(node.read(payload), 0, "{}", payload.escape_ascii());
    }
}

/// A query made of what the rules are about.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => Just(b"sendID".to_vec()),
        2 => Just(b"send%49D".to_vec()),
        2 => Just(b"%73endID".to_vec()),
        6 => Just(b"=".to_vec()),
        6 => Just(b"&".to_vec()),
        2 => Just(b"?".to_vec()),
        1 => Just(b";".to_vec()),
        1 => Just(b"#".to_vec()),
        2 => Just(b"+".to_vec()),
        1 => Just(b"%".to_vec()),
        3 => any::<u8>().prop_map(|byte| format!("%{byte:02x}").into_bytes()),
        6 => "[a-zA-Z0-9/]{1,20}".prop_map(String::into_bytes),
        2 => "\\PC{1,8}".prop_map(String::into_bytes),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| [b"/?", &pieces.concat()[..]].concat())
}

/// A query with one escaped key among other pairs.
fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let pairs = || prop::collection::vec("[a-z]{1,8}=[a-zA-Z0-9.+%]{0,40}", 0..8);
    (pairs(), prop::collection::vec(any::<(u8, bool)>(), 0..80), pairs()).prop_map(|(before, key, after)| {
        let mut escaped = b"sendID=".to_vec();
        for (byte, escape) in key {
            if escape || !byte.is_ascii_alphanumeric() && byte < 0x80 {
                escaped.extend(format!("%{byte:02X}").bytes());
            } else {
                escaped.push(byte);
            }
        }
        let before = before.into_iter().map(String::into_bytes);
        let pairs: Vec<_> = before.chain([escaped]).chain(after.into_iter().map(String::into_bytes)).collect();
        [b"/ws?", &pairs.join(&b'&')[..]].concat()
    })
}

fn kernel_and_gateway_read_the_same_key(family: Family) {
    property(Node::among(family, 3), 600, prop_oneof![target(), well_formed()], |node, target| {
        let payload = request(&target);
        let Some(expected) = in_gateway(&payload) else { return };
        assert_eq!(in_kernel(node, family, &payload), expected, "{}", payload.escape_ascii());
    });
}
