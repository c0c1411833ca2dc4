//! OpenIM's login and frames.

use std::time::Duration;

use bytes::Bytes;
use ringsteer_openim::{
    frame::{Wire, text as messages},
    login::{Compression, Encoding, Login},
    token::Keys,
};
use ringsteer_websocket::request::parse_head;

/// When the tokens among the seeds are valid.
const NOW: i64 = 1_700_000_000;

pub(crate) fn login(bytes: &[u8]) -> bool {
    let Ok(Some((head, _))) = parse_head(bytes) else { return false };
    let Ok(login) = Login::parse(&head) else { return false };
    let keys = Keys::new([b"openIM123".to_vec()], Duration::from_secs(30)).expect("a secret");
    let _ = keys.verify(&login.token, NOW);
    true
}

pub(crate) fn gob(bytes: &[u8]) -> bool {
    frame(Encoding::Gob, Compression::None, bytes)
}

pub(crate) fn json(bytes: &[u8]) -> bool {
    frame(Encoding::Json, Compression::None, bytes)
}

/// The first byte says how the frame inside is written.
pub(crate) fn gzip(bytes: &[u8]) -> bool {
    let Some((&encoding, packed)) = bytes.split_first() else { return false };
    frame(if encoding & 1 == 0 { Encoding::Gob } else { Encoding::Json }, Compression::Gzip, packed)
}

pub(crate) fn text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Some((_, answer)) = messages::read(text) else { return false };
    if let Some(pong) = answer {
        assert!(matches!(messages::read(&pong), Some((messages::Kind::Pong, None))), "{pong}");
    }
    true
}

/// What is read as a frame, as clients and as servers send them, is the same when it is written and read again.
fn frame(encoding: Encoding, compression: Compression, bytes: &[u8]) -> bool {
    const UNPACKED: usize = 100_000;

    let wire = Wire { encoding, compression };
    let bytes = Bytes::copy_from_slice(bytes);
    let request = wire.read(&bytes);
    if let Ok(request) = &request {
        let plain = Wire { encoding, compression: Compression::None };
        let written = plain.write_request(request);
        // Written our way it may have grown beyond what a client may send.
        if let Ok(again) = plain.read(&written) {
            assert_eq!(again, *request);
        }
    }
    let response = wire.read_response(&bytes, UNPACKED);
    if let Ok(response) = &response {
        assert_eq!(wire.read_response(&wire.write(response), 2 * UNPACKED).as_ref(), Ok(response));
    }
    request.is_ok() || response.is_ok()
}
