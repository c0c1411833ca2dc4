//! The rules of `key`, one by one, and against the plainest possible reading of them.

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::crc32::checksum;

fn search(bytes: &[u8]) -> Key {
    find_in(bytes, b"sendID")
}

#[track_caller]
fn finds(request: &[u8], key: &[u8]) {
    assert_eq!(search(request), Key::Hash(checksum(key)), "{}", request.escape_ascii());
}

#[track_caller]
fn finds_nothing(request: &[u8]) {
    assert_eq!(search(request), Key::None, "{}", request.escape_ascii());
}

#[test]
fn the_parameter_may_stand_anywhere_in_the_query() {
    finds(b"GET /?sendID=u1&token=t HTTP/1.1\r\n", b"u1");
    finds(b"GET /ws?token=t&sendID=u1 HTTP/1.1\r\n", b"u1");
    finds(b"GET /a/b/c?x&y=&sendID=u1&sendID=u2 HTTP/1.1\r\n", b"u1");
    finds(b"GET ?sendID=u1 HTTP/1.1\r\n", b"u1");
    finds(b"GET /?&&sendID=u1& HTTP/1.1\r\n", b"u1");
    finds(b"GET /?a?sendID=x&sendID=u1#&z HTTP/1.1\r\n", b"u1#");
}

#[test]
fn name_and_value_are_decoded() {
    finds(b"GET /?sendID=a%20b+c%2B HTTP/1.1\r\n", b"a b c+");
    finds("GET /?sendID=用户 HTTP/1.1\r\n".as_bytes(), "用户".as_bytes());
    finds(b"GET /?sendID=%E7%94%A8 HTTP/1.1\r\n", "用".as_bytes());
    finds(b"GET /?%73end%49%44=u1 HTTP/1.1\r\n", b"u1");
    finds(b"GET /?sendID=a=b%3d HTTP/1.1\r\n", b"a=b=");
    finds(b"GET /?sendID=%00 HTTP/1.1\r\n", b"\0");
}

#[test]
fn what_only_looks_like_the_parameter_is_passed_over() {
    finds(b"GET /?xsendID=a&sendIDs=b&sendid=c&SendID=d&sendI=e&sendID=u1 HTTP/1.1\r\n", b"u1");
    finds(b"GET /sendID=a?x=sendID=b&sendID=u1 HTTP/1.1\r\nsendID: c\r\n", b"u1");
    finds_nothing(b"GET /ws HTTP/1.1\r\nX: ?sendID=a&sendID=b\r\n\r\n");
    finds_nothing(b"GET /ws?a=b HTTP/1.1\r\nReferer: /?sendID=a \r\n\r\n");
    finds(b"GET /?sendID=a;b&sendID=%zz&sendID=%4&sendID=u1 HTTP/1.1\r\n", b"u1");
}

#[test]
fn a_key_that_cannot_be_read_is_none() {
    finds_nothing(b"");
    finds_nothing(b"GET /?sendID= HTTP/1.1\r\n");
    finds_nothing(b"GET /?sendID HTTP/1.1\r\n");
    finds_nothing(b"GET /?sendID=&sendID=u1 HTTP/1.1\r\n");
    finds_nothing(b"GET /?sendID=u");
    finds_nothing(b"GET /?sendID=u%4");
    finds_nothing(b"GET /?sendID=u\r\n");
    finds_nothing(b"GET  /?sendID=u1 HTTP/1.1\r\n");
    finds_nothing(b"\x16\x03\x01\x02\x00?sendID=u1 x");
    finds_nothing(b"GET /\x01?sendID=u1 HTTP/1.1\r\n");
}

#[test]
fn a_key_may_have_256_bytes_and_no_more() {
    let request = |key: &[u8]| [b"GET /?sendID=", key, b" HTTP/1.1\r\n"].concat();
    let longest: Vec<u8> = (0..MAX_KEY).map(|i| b'a' + (i % 26) as u8).collect();
    finds(&request(&longest), &longest);
    finds_nothing(&request(&[b'a'; MAX_KEY + 1]));
    let escaped: Vec<u8> = b"%41".repeat(MAX_KEY);
    finds(&request(&escaped), &[b'A'; MAX_KEY]);
}

#[test]
fn the_last_byte_of_the_window_counts_and_the_next_does_not() {
    let ending_at = |end: usize| {
        let tail = b"&sendID=u1 ";
        let mut request = b"GET /?".to_vec();
        request.resize(end - tail.len(), b'x');
        request.extend_from_slice(tail);
        request
    };
    for end in WINDOW - 9..=WINDOW {
        finds(&ending_at(end), b"u1");
    }
    finds_nothing(&ending_at(WINDOW + 1));
}

#[test]
fn every_alignment_gives_the_same() {
    for filler in 0..40 {
        let path = vec![b'p'; filler];
        finds(&[b"GET /", &path[..], b"?sendID=u1&a=b HTTP/1.1\r\n"].concat(), b"u1");
        finds(&[b"GET /?a=", &path[..], b"&sendID=u1 HTTP/1.1\r\n"].concat(), b"u1");
        finds(&[&path[..], b" /?sendID=u1 "].concat(), b"u1");
    }
}

/// The rules of the module, read one byte at a time and with all the memory in the world.
fn by_the_rules(bytes: &[u8]) -> Key {
    fn decode(raw: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        let mut rest = raw;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            decoded.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = core::str::from_utf8(rest.get(..2)?).ok()?;
                    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                        return None;
                    }
                    rest = &rest[2..];
                    u8::from_str_radix(digits, 16).ok()?
                }
                byte => byte,
            });
        }
        Some(decoded)
    }
    let Some(space) = bytes.iter().position(|&byte| byte <= b' ') else { return Key::None };
    if bytes[space] != b' ' {
        return Key::None;
    }
    let target = &bytes[space + 1..];
    let Some(end) = target.iter().position(|&byte| byte == b' ') else { return Key::None };
    let target = &target[..end];
    if target.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
        return Key::None;
    }
    let Some(question) = target.iter().position(|&byte| byte == b'?') else { return Key::None };
    for pair in target[question + 1..].split(|&byte| byte == b'&') {
        if pair.contains(&b';') {
            continue;
        }
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        let (Some(name), Some(value)) = (decode(name), decode(value)) else { continue };
        if name == b"sendID" {
            return if value.is_empty() || value.len() > MAX_KEY { Key::None } else { Key::Hash(checksum(&value)) };
        }
    }
    Key::None
}

/// Pieces that make requests interesting.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(b"sendID".to_vec()),
        3 => Just(b"sendID=".to_vec()),
        2 => Just(b"&sendID=user".to_vec()),
        3 => Just(b"&".to_vec()),
        2 => Just(b"=".to_vec()),
        1 => Just(b"?".to_vec()),
        1 => Just(b";".to_vec()),
        1 => Just(b"%73".to_vec()),
        1 => Just(b"%".to_vec()),
        1 => Just(b"+".to_vec()),
        1 => Just("ü用".as_bytes().to_vec()),
        4 => prop::collection::vec(0x21u8..0x7f, 0..12),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ]
}

/// A header of version 2 with so many bytes of addresses and whatever proxies add.
fn binary_header(block: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &(block.len() as u16).to_be_bytes()[..], block].concat()
}

#[test]
fn a_proxy_header_is_passed_over() {
    let request = b"GET /?sendID=u1 HTTP/1.1\r\n";
    for header in [
        &b"PROXY TCP4 192.0.2.1 203.0.113.1 40000 443\r\n"[..],
        b"PROXY TCP6 2001:db8::1 2001:db8::2 40000 443\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN ?sendID=no \r\n",
        &binary_header(b""),
        &binary_header(b"\xc0\0\x02\x01\xcb\0\x71\x01\x9c\x40\x01\xbb"),
        &binary_header(b" ?sendID=no "),
        &binary_header(&[b'?'; 1008]),
    ] {
        finds(&[header, request].concat(), b"u1");
    }
    // Too long, or something else.
    finds_nothing(&[&b"PROXY UNKNOWN "[..], &[b'x'; 93], b"\r\n", request].concat());
    finds_nothing(&[&binary_header(&[b'?'; 1009])[..], request].concat());
    finds_nothing(&[&binary_header(b"")[..15], request].concat());
    finds(b"PROXY /?sendID=u1 HTTP/1.1\r\nGET /?sendID=u2 HTTP/1.1\r\n", b"u2");
    finds(b"PROXYS /?sendID=u1 HTTP/1.1\r\nGET /?sendID=u2 HTTP/1.1\r\n", b"u1");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn a_proxy_header_changes_nothing(
        pieces in prop::collection::vec(piece(), 0..12),
        text in any::<bool>(),
        block in prop::collection::vec(any::<u8>(), 0..90),
        cut: prop::sample::Index,
    ) {
        let request = [b"GET /?".to_vec(), pieces.concat(), b" HTTP/1.1\r\n".to_vec()].concat();
        let header = if text {
            let words = block.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }).collect::<Vec<_>>();
            [b"PROXY ", &words[..], b"\r\n"].concat()
        } else {
            binary_header(&block)
        };
        let behind = [&header[..], &request].concat();
        let alone = search(&request);
        prop_assert_eq!(search(&behind), alone, "{}", behind.escape_ascii());
        let part = search(&behind[..cut.index(behind.len())]);
        prop_assert!(part == alone || part == Key::None, "{:?} of {:?}", part, alone);
    }

    #[test]
    fn agrees_with_the_rules(pieces in prop::collection::vec(piece(), 0..24)) {
        let request = [b"GET /?".to_vec(), pieces.concat(), b" HTTP/1.1\r\n".to_vec()].concat();
        let expected = by_the_rules(&request);
        match search(&request) {
            // Not being able to read a key is allowed where the request is one that no server accepts, and past the
            // limits on overlong values; everywhere else both must say the same.
            Key::None if expected != Key::None => {
                let overlong = request.split(|&byte| byte == b'&').any(|pair| pair.len() > MAX_KEY);
                prop_assert!(overlong, "missed {}", request.escape_ascii());
            }
            Key::Hash(_) if expected == Key::None => {
                let target = request[4..].split(|&byte| byte == b' ').next().unwrap();
                prop_assert!(target.iter().any(|&byte| byte < b' ' || byte == 0x7f), "invented {}", request.escape_ascii());
            }
            found => prop_assert_eq!(found, expected, "{}", request.escape_ascii()),
        }
    }

    #[test]
    fn a_request_cut_anywhere_gives_the_same_key_or_none(pieces in prop::collection::vec(piece(), 0..12), cut: prop::sample::Index) {
        let request = [b"GET /?".to_vec(), pieces.concat(), b" HTTP/1.1\r\n".to_vec()].concat();
        let whole = search(&request);
        let part = search(&request[..cut.index(request.len())]);
        prop_assert!(part == whole || part == Key::None, "{:?} of {:?}", part, whole);
    }
}
