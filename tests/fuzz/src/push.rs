//! A request with a body, which a push by HTTP is.

use bytes::BytesMut;
use ringsteer_websocket::{
    body::{Body, BodyError},
    request::{parameter, parse_head},
};

const MAX_BODY: usize = 1000;

pub(crate) fn push(bytes: &[u8]) -> bool {
    let Ok(Some((head, length))) = parse_head(bytes) else { return false };
    let _ = (head.path(), parameter(head.target, b"recvID"));
    let Ok(mut body) = Body::after(&head, MAX_BODY) else { return false };

    let mut whole = BytesMut::from(&bytes[length..]);
    let mut bytewise = (body.clone(), BytesMut::new());
    let ended = body.advance(&mut whole);
    let mut ended_bytewise: Result<bool, BodyError> = bytewise.0.advance(&mut bytewise.1);
    let mut fed = length;
    while ended_bytewise == Ok(false) && fed < bytes.len() {
        bytewise.1.extend_from_slice(&bytes[fed..=fed]);
        fed += 1;
        ended_bytewise = bytewise.0.advance(&mut bytewise.1);
    }
    // However it arrives, it is the same body, ends at the same byte, or is refused.
    assert_eq!(ended.is_ok(), ended_bytewise.is_ok(), "{ended:?}, bytewise {ended_bytewise:?}");
    let Ok(true) = ended else { return false };
    assert_eq!((ended, whole.len()), (ended_bytewise, bytes.len() - fed));
    let body = body.into_bytes();
    assert!(body.len() <= MAX_BODY);
    assert_eq!(body, bytewise.0.into_bytes());
    true
}
