//! A request with a body, which a push by HTTP is; the body of one to many users, and the answer to it.

use bytes::BytesMut;
use ringsteer_batch::{Answer, Batch, Content, MAX_USERS, good_id, good_user};
use ringsteer_websocket::{
    body::{Body, BodyError},
    request::{parameter, parse_head},
};

const MAX_BODY: usize = 1000;

const MAX_MESSAGE: usize = 1000;

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

/// What is read of a push to many users is within its limits, and is read again as the same once the front has written it.
pub(crate) fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::read(bytes, MAX_MESSAGE) else { return false };
    assert!((1..=MAX_USERS).contains(&batch.users.len()) && batch.users.iter().all(|user| good_user(user)));
    assert!(batch.id.iter().all(|id| good_id(id)));
    let length = match &batch.content {
        Content::Text(text) => text.len(),
        Content::Data(bytes) | Content::OpenIm(bytes) => bytes.len(),
    };
    assert!(length <= MAX_MESSAGE);
    let users: Vec<&str> = batch.users.iter().map(String::as_str).collect();
    let written = Batch::write(batch.id.as_deref(), &users, &batch.content, &batch.operation);
    assert_eq!(Batch::read(written.as_bytes(), MAX_MESSAGE).ok(), Some(batch));
    true
}

pub(crate) fn answer(bytes: &[u8]) -> bool {
    let Ok(answer) = Answer::read(bytes) else { return false };
    let written = serde_json::to_vec(&answer).expect("it is plain data");
    assert_eq!(Answer::read(&written).as_ref().ok(), Some(&answer));
    true
}
