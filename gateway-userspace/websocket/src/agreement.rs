//! What the kernel program finds in a request and what the gateway parses from it are the same key, and a header of the
//! PROXY protocol before it ends at the same byte. Two implementations of the rules in [`super::request`] and
//! [`super::proxy`], which share no code.

use proptest::prelude::*;
use ringsteer_ebpf::{
    crc32,
    key::{self, Key, MAX_KEY, WINDOW},
};

use super::{
    proxy::{self, Header, MAX_BINARY, MAX_TEXT},
    request::{parameter, parse_head},
};

const PARAMETER: &[u8] = b"sendID";

/// What the kernel program finds in a first segment.
fn kernel(segment: &[u8]) -> Key {
    key::find_in(segment, PARAMETER)
}

/// What the gateway reads, in the kernel's terms; none if it refuses the request.
fn gateway(request: &[u8]) -> Option<Key> {
    let (head, _) = parse_head(request).ok()??;
    Some(match parameter(head.target, PARAMETER) {
        Some(value) if !value.is_empty() && value.len() <= MAX_KEY => Key::Hash(crc32::checksum(&value)),
        _ => Key::None,
    })
}

/// Pieces of queries: those that mean something to the rules, and those that do not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"&sendID=".to_vec()),
        2 => Just(b"sendID".to_vec()),
        1 => Just(b"%73end%49D".to_vec()),
        1 => Just("用户".as_bytes().to_vec()),
        1 => prop::collection::vec(b'a'..=b'z', 250..260),
        3 => "[&=;%+?#]".prop_map(String::into_bytes),
        2 => "%[0-9a-fA-F]{2}".prop_map(String::into_bytes),
        1 => "%[0-9g-z]{0,2}".prop_map(String::into_bytes),
        2 => "[a-zA-Z0-9._~-]{1,12}".prop_map(String::into_bytes),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ]
}

/// Headers of both versions, good and bad, and what only looks like one.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let address = "(203\\.0\\.113\\.7|192\\.0\\.2\\.1|2001:db8::7|::)";
    let text = format!("PROXY (TCP4|TCP6|UNKNOWN) {address} {address} [0-9]{{1,5}} [0-9]{{1,5}}\r\n");
    let long = MAX_TEXT + 3;
    let binary = (0x20..=0x22u8, prop::sample::select(vec![0u8, 0x11, 0x21, 0x31, 0x12]), 0..MAX_BINARY + 40);
    prop_oneof![
        3 => prop::string::string_regex(&text).expect("an expression").prop_map(String::into_bytes),
        2 => prop::string::string_regex(&format!("PROXY UNKNOWN[ -~\\n\\r]{{0,{long}}}(\\r?\\n)?"))
            .expect("an expression").prop_map(String::into_bytes),
        3 => binary.prop_map(|(version, family, length)| {
            let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
            bytes.extend([version, family]);
            bytes.extend((length as u16).to_be_bytes());
            bytes.resize(16 + length, b'\n');
            bytes
        }),
        1 => prop::collection::vec(prop::sample::select(b"PROXY \r\n\0QUIT".to_vec()), 0..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn kernel_and_gateway_pass_over_the_same_header(header in header(), cut: prop::sample::Index) {
        let whole = [&header[..], b"GET /?sendID=alice HTTP/1.1\r\n\r\n"].concat();
        for bytes in [&whole[..], &whole[..cut.index(whole.len())]] {
            let (window, length) = key::window(bytes);
            let start = key::request_start(&window, length);
            match proxy::read(bytes) {
                Ok(Header::Whole(end, _)) => {
                    prop_assert_eq!(start as usize, end, "{}", bytes.escape_ascii());
                    // What the gateway refuses is refused wherever it goes.
                    if let Some(read) = gateway(&whole[end..]) {
                        let found = kernel(bytes);
                        prop_assert!(found == Key::None || found == read, "{}", bytes.escape_ascii());
                    }
                }
                Ok(Header::None) => prop_assert_eq!(start, 0, "{}", bytes.escape_ascii()),
                // No request is seen yet; and one behind a bad header is refused wherever it goes.
                Ok(Header::Incomplete) => prop_assert_eq!(kernel(bytes), Key::None, "{}", bytes.escape_ascii()),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn kernel_and_gateway_read_the_same_key(
        method in prop::sample::select(vec!["GET", "POST"]),
        path in "/[a-z/?]{0,6}",
        pieces in prop::collection::vec(piece(), 0..16),
        cut: prop::sample::Index,
    ) {
        let query = pieces.concat();
        let start = format!("{method} {path}?");
        let request = [start.as_bytes(), &query, b" HTTP/1.1\r\nHost: h\r\nX: /?sendID=no\r\n\r\n"].concat();
        prop_assume!(request.len() <= WINDOW);
        let Some(read) = gateway(&request) else { return Ok(()) };
        let found = kernel(&request);
        // The kernel gives up on a pair that is too long for a key; the gateway may find that it does not count.
        let gives_up = query.split(|&byte| byte == b'&').any(|pair| pair.len() > MAX_KEY);
        prop_assert!(
            found == read || (gives_up && found == Key::None),
            "{found:?}, not {read:?}, in {}", request.escape_ascii()
        );

        // Of a request that goes on in the next segment, the kernel may read nothing, but nothing else.
        let found = kernel(&request[..cut.index(request.len())]);
        prop_assert!(found == read || found == Key::None, "{found:?} in {}", request.escape_ascii());
    }
}
