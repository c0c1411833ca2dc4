//! A client's frames, and a connection as another node sends it.

use bytes::BytesMut;
use ringsteer_websocket::{
    decoder::{Decoder, Event, Kind, Violation, snapshot::Snapshot},
    deflate::Deflate,
    encoder::Encoder,
    frame::MAX_CONTROL,
};

const MAX_MESSAGE: usize = 2000;

/// The first byte says how the connection is set up and where it moves, the others are what the client sends.
pub(crate) fn frames(bytes: &[u8]) -> bool {
    let Some((&setup, stream)) = bytes.split_first() else { return false };
    let deflate = (setup & 1 != 0).then(Deflate::default);
    let decoder = || Decoder::new(MAX_MESSAGE).with_deflate(deflate);
    let whole = said(&mut decoder(), stream);

    let step = usize::from(setup >> 2) + 1;
    let mut pieces = Vec::new();
    let mut moving = decoder();
    for piece in stream.chunks(step) {
        pieces.extend(said(&mut moving, piece));
        if pieces.last().is_some_and(Result::is_err) {
            break;
        }
        if setup & 2 != 0 {
            moving = moved(&moving);
            moving.shrink();
        }
    }
    assert_eq!(pieces, whole);

    let encoder = Encoder::new(deflate).with_threshold(0);
    let heard: Vec<_> = whole.into_iter().flatten().collect();
    for event in &heard {
        check(event);
        if let Event::Message { kind, payload } = event {
            encoder.encode(*kind, payload, &mut BytesMut::new());
        }
    }
    !heard.is_empty()
}

/// The first bytes, as many as the first one says, are the snapshot; what follows is what the client sends then.
pub(crate) fn snapshot(bytes: &[u8]) -> bool {
    let Some((&length, rest)) = bytes.split_first() else { return false };
    let (sent, stream) = rest.split_at(usize::from(length).min(rest.len()));
    let Ok(snapshot) = postcard::from_bytes::<Snapshot>(sent) else { return false };
    let Ok(mut restored) = Decoder::restore(snapshot, MAX_MESSAGE) else { return false };
    assert_eq!(moved(&restored), restored);
    for event in said(&mut restored, stream).iter().flatten() {
        check(event);
    }
    true
}

/// The decoder as another process restores it.
fn moved(decoder: &Decoder) -> Decoder {
    let sent = postcard::to_allocvec(&decoder.snapshot()).expect("it is plain data");
    Decoder::restore(postcard::from_bytes(&sent).expect("it was sent"), MAX_MESSAGE).expect("it was so")
}

fn said(decoder: &mut Decoder, mut input: &[u8]) -> Vec<Result<Event, Violation>> {
    let mut said = Vec::new();
    loop {
        match decoder.next(&mut input) {
            Ok(Some(event)) => said.push(Ok(event)),
            Ok(None) => {
                assert!(input.is_empty());
                return said;
            }
            Err(violation) => {
                said.push(Err(violation));
                return said;
            }
        }
    }
}

/// What holds for everything that is heard.
fn check(event: &Event) {
    match event {
        Event::Message { kind, payload } => {
            assert!(payload.len() <= MAX_MESSAGE);
            assert!(*kind == Kind::Binary || str::from_utf8(payload).is_ok());
        }
        Event::Ping(payload) | Event::Pong(payload) => assert!(payload.len() <= MAX_CONTROL),
        Event::Close(close) => assert!(close.iter().all(|close| close.payload().len() <= MAX_CONTROL)),
    }
}
