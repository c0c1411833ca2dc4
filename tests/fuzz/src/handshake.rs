//! The head of a request, its key, and what it leads to.

use ringsteer_ebpf::{
    crc32,
    key::{self, Key, MAX_KEY, WINDOW, Window},
    layout::service::MAX_PARAMETER,
};
use ringsteer_websocket::{
    handshake::Upgrade,
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

/// The kernel program must find no other key than the gateway does.
fn agree_on_key(request: &[u8], read: Option<&[u8]>) {
    let mut bytes = [0; WINDOW];
    let length = request.len().min(WINDOW);
    bytes[..length].copy_from_slice(&request[..length]);
    let mut window: Window = [0; WINDOW / 8];
    for (word, bytes) in window.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut name = [0; MAX_PARAMETER];
    name[..PARAMETER.len()].copy_from_slice(PARAMETER);
    // It may find none where it sees too little, and then the gateway hands over what is not its own.
    if let Key::Hash(found) = key::find(&window, length as u32, &name, PARAMETER.len() as u32) {
        let read = read.expect("a key where the gateway reads none");
        assert!(!read.is_empty() && read.len() <= MAX_KEY);
        assert_eq!(found, crc32::checksum(read));
    }
}
