//! The head of a request, its key, what it leads to, and what a proxy may say before it.

use std::net::SocketAddr;

use ringsteer_ebpf::{
    crc32,
    key::{self, Key, MAX_KEY},
};
use ringsteer_websocket::{
    handshake::Upgrade,
    proxy::{self, Header, MAX_BINARY},
    request::{MAX_HEAD, MAX_HEADERS, parameter, parse_head},
};

const PARAMETER: &[u8] = b"sendID";

pub(crate) fn handshake(bytes: &[u8]) -> bool {
    let parsed = parse_head(bytes);
    // What was refused once is refused with more behind it, and what was complete stays it.
    let longer = [bytes, b"\r\n\r\n"].concat();
    let Ok(Some((head, length))) = parsed else {
        assert!(parsed.is_ok() || parse_head(&longer).is_err());
        return false;
    };
    assert_eq!(parse_head(&longer).unwrap().map(|(_, length)| length), Some(length));
    assert!(length <= bytes.len().min(MAX_HEAD) && head.headers.len() <= MAX_HEADERS);
    assert!(head.path().starts_with(b"/"));
    agree_on_key(bytes, parameter(head.target, PARAMETER).as_deref());

    let Ok(upgrade) = Upgrade::of(&head) else { return false };
    let agreed = upgrade.with_deflate();
    let response = String::from_utf8(agreed.response()).expect("ASCII");
    assert_eq!(response.contains("permessage-deflate"), agreed.deflate().is_some());
    assert_eq!(response.matches("\r\n\r\n").count(), 1);
    true
}

/// What a proxy says before the request: for the kernel program the request must begin where it does for the gateway.
pub(crate) fn header(bytes: &[u8]) -> bool {
    let (window, length) = key::window(bytes);
    let start = key::request_start(&window, length) as usize;
    match proxy::read(bytes) {
        Ok(Header::Whole(end, client)) => {
            assert!(end <= bytes.len().min(MAX_BINARY));
            // Cut anywhere it is not complete yet, and nothing else.
            for cut in [1, end / 2, end - 1] {
                assert_eq!(proxy::read(&bytes[..cut]), Ok(Header::Incomplete));
            }
            assert_eq!(start, end);
            if let Some(client) = client {
                let line = line_of(client);
                assert_eq!(proxy::read(line.as_bytes()), Ok(Header::Whole(line.len(), Some(client))));
            }
            if let Ok(Some((head, _))) = parse_head(&bytes[end..]) {
                agree_on_key(bytes, parameter(head.target, PARAMETER).as_deref());
            }
            true
        }
        Ok(Header::None) => {
            assert_eq!(start, 0);
            false
        }
        Ok(Header::Incomplete) => {
            agree_on_key(bytes, None);
            false
        }
        Err(bad) => {
            assert_eq!(proxy::read(&[bytes, b"\r\n"].concat()), Err(bad));
            false
        }
    }
}

/// How version 1 names a client.
fn line_of(client: SocketAddr) -> String {
    let (family, address) = (if client.is_ipv4() { 4 } else { 6 }, client.ip());
    format!("PROXY TCP{family} {address} {address} {port} {port}\r\n", port = client.port())
}

/// The kernel program must find no other key than the gateway does.
fn agree_on_key(segment: &[u8], read: Option<&[u8]>) {
    // It may find none where it sees too little, and then the gateway hands over what is not its own.
    if let Key::Hash(found) = key::find_in(segment, PARAMETER) {
        let read = read.expect("a key where the gateway reads none");
        assert!(!read.is_empty() && read.len() <= MAX_KEY);
        assert_eq!(found, crc32::checksum(read));
    }
}
