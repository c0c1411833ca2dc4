mod oracles;

use std::io::Cursor;

use proptest::prelude::*;
use tungstenite::{
    self, Message, Utf8Bytes,
    protocol::{CloseFrame, Role, WebSocket},
};

use oracles::{Wire, agree, hear_fastwebsockets, hear_tungstenite};

use super::*;
use crate::deflate;

const MAX_MESSAGE: usize = 4096;

/// Everything a decoder says about `bytes`, fed in pieces that end at `cuts`; the last entry may be a violation.
fn decode(decoder: &mut Decoder, bytes: &[u8], cuts: &[usize]) -> Vec<Result<Event, Violation>> {
    let mut said = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut input = &bytes[start..end];
        start = end;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(event)) => said.push(Ok(event)),
                Ok(None) => break assert!(input.is_empty(), "an unconsumed byte without an event"),
                Err(violation) => {
                    said.push(Err(violation));
                    return said;
                }
            }
        }
    }
    said
}

fn decode_whole(bytes: &[u8]) -> Vec<Result<Event, Violation>> {
    decode(&mut Decoder::new(MAX_MESSAGE), bytes, &[])
}

/// A decoder of a connection whose messages may be compressed.
fn inflating() -> Decoder {
    Decoder::new(MAX_MESSAGE).with_deflate(Some(Deflate::default()))
}

/// The decoder as another process would restore it.
fn move_away(decoder: &Decoder) -> Decoder {
    let bytes = postcard::to_allocvec(&decoder.snapshot()).unwrap();
    Decoder::restore(postcard::from_bytes(&bytes).unwrap(), decoder.max_message).unwrap()
}

fn masked(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    masked_frame(fin, false, opcode, payload)
}

fn masked_frame(fin: bool, compressed: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = Vec::new();
    FrameHeader { fin, compressed, opcode, mask: Some(mask), length: payload.len() as u64 }.encode(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    frame::apply_mask(&mut bytes[start..], mask, 0);
    bytes
}

/// A message as a client compresses it.
fn compressed(payload: &[u8], level: u32, is_last: bool) -> Vec<u8> {
    let mut compressor = flate2::Compress::new(flate2::Compression::new(level), false);
    let mut compressed = Vec::with_capacity(payload.len() * 2 + 100);
    if is_last {
        compressor.compress_vec(payload, &mut compressed, flate2::FlushCompress::Finish).unwrap();
        compressed.push(0);
    } else {
        compressor.compress_vec(payload, &mut compressed, flate2::FlushCompress::Sync).unwrap();
        compressed.truncate(compressed.len() - 4);
    }
    compressed
}

/// What a client may send: messages, whole or in fragments with control frames between them, and now and then a close.
///
/// Some of the messages may be compressed.
fn conversation_of(deflate: bool) -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![4 => 0..40usize, 1 => 120..130usize, 1 => 1000..1400usize]
        .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
    let text = prop_oneof![Just("".to_owned()), "\\PC{0,20}", Just("κόσμε – 用户 🦀".repeat(9))];
    let control = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|payload| masked(true, Opcode::Ping, &payload)),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|payload| masked(true, Opcode::Pong, &payload)),
        Just(Vec::new()),
    ];
    let message = prop_oneof![
        payload.prop_map(|payload| (Opcode::Binary, payload)),
        text.prop_map(|text| (Opcode::Text, text.into_bytes())),
    ];
    let compression = prop::option::of((0..10u32, any::<bool>()));
    let sent = (message, compression, prop::collection::vec((any::<prop::sample::Index>(), control), 0..4)).prop_map(
        move |((opcode, payload), compression, fragments)| {
            let compression = compression.filter(|_| deflate);
            let payload = match compression {
                Some((level, is_last)) => compressed(&payload, level, is_last),
                None => payload,
            };
            let mut is_compressed = compression.is_some();
            let mut cuts: Vec<_> = fragments.iter().map(|(at, _)| at.index(payload.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut bytes, mut opcode, mut start) = (Vec::new(), opcode, 0);
            for (cut, (_, control)) in cuts.into_iter().zip(&fragments) {
                bytes.extend(masked_frame(false, is_compressed, opcode, &payload[start..cut]));
                bytes.extend(control);
                (opcode, start, is_compressed) = (Opcode::Continuation, cut, false);
            }
            bytes.extend(masked_frame(true, is_compressed, opcode, &payload[start..]));
            bytes
        },
    );
    let close = prop_oneof![
        3 => Just(Vec::new()),
        1 => Just(masked(true, Opcode::Close, b"")),
        1 => Just(masked(true, Opcode::Close, b"\x03\xe8done")),
    ];
    (prop::collection::vec(sent, 0..5), close).prop_map(|(sent, close)| [sent.concat(), close].concat())
}

/// The same with a few bytes spoilt.
fn spoilt_conversation_of(deflate: bool) -> impl Strategy<Value = Vec<u8>> {
    (conversation_of(deflate), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)).prop_map(
        |(mut bytes, spots)| {
            for (at, value) in spots {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            bytes
        },
    )
}

fn cuts_of(indices: &[prop::sample::Index], length: usize) -> Vec<usize> {
    let mut cuts: Vec<_> = indices.iter().map(|index| index.index(length + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn cutting_the_stream_changes_nothing(
        bytes in spoilt_conversation_of(true),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let cuts = cuts_of(&cuts, bytes.len());
        let every_byte: Vec<usize> = (0..bytes.len()).collect();
        let whole = decode(&mut inflating(), &bytes, &[]);
        prop_assert_eq!(&decode(&mut inflating(), &bytes, &cuts), &whole);
        prop_assert_eq!(&decode(&mut inflating(), &bytes, &every_byte), &whole);
    }

    #[test]
    fn compressed_messages_are_heard_like_others(
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..2000), 0..10u32, any::<bool>()), 0..5),
        text in "\\PC{0,500}",
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (payload, level, is_last) in payloads {
            bytes.extend(masked_frame(true, true, Opcode::Binary, &compressed(&payload, level, is_last)));
            expected.push(Ok(Event::Message { kind: Kind::Binary, payload }));
        }
        bytes.extend(masked_frame(true, true, Opcode::Text, &compressed(text.as_bytes(), 9, false)));
        expected.push(Ok(Event::Message { kind: Kind::Text, payload: text.into_bytes() }));
        prop_assert_eq!(decode(&mut inflating(), &bytes, &[]), expected);
    }

    #[test]
    fn a_copy_goes_on_where_the_original_stood(bytes in spoilt_conversation_of(true), at: prop::sample::Index) {
        let (before, after) = bytes.split_at(at.index(bytes.len() + 1));
        let mut original = inflating();
        let mut said = decode(&mut original, before, &[]);
        let mut copy = original.clone();
        drop(original);
        if said.last().is_none_or(Result::is_ok) {
            said.extend(decode(&mut copy, after, &[]));
        }
        prop_assert_eq!(said, decode(&mut inflating(), &bytes, &[]));
    }

    #[test]
    fn a_restored_snapshot_goes_on_where_the_original_stood(
        bytes in spoilt_conversation_of(true),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        shrinks: bool,
    ) {
        let mut decoder = inflating();
        let (mut said, mut start) = (Vec::new(), 0);
        for end in cuts_of(&cuts, bytes.len()).into_iter().chain([bytes.len()]) {
            said.extend(decode(&mut decoder, &bytes[start..end], &[]));
            start = end;
            let moved = move_away(&decoder);
            prop_assert_eq!(&moved, &decoder);
            decoder = moved;
            if shrinks {
                decoder.shrink();
            }
            if said.last().is_some_and(Result::is_err) {
                break;
            }
        }
        prop_assert_eq!(said, decode(&mut inflating(), &bytes, &[]));
    }

    /// Bytes that nearly are a snapshot: whatever is accepted must be a state that a decoder can be in.
    #[test]
    fn a_broken_snapshot_is_refused_or_harmless(
        bytes in spoilt_conversation_of(true),
        at: prop::sample::Index,
        spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        further in spoilt_conversation_of(true),
    ) {
        let mut decoder = inflating();
        decode(&mut decoder, &bytes[..at.index(bytes.len() + 1)], &[]);
        let mut sent = postcard::to_allocvec(&decoder.snapshot()).unwrap();
        for (at, value) in spots {
            let at = at.index(sent.len());
            sent[at] = value;
        }
        let Ok(snapshot) = postcard::from_bytes(&sent) else { return Ok(()) };
        let Ok(mut restored) = Decoder::restore(snapshot, MAX_MESSAGE) else { return Ok(()) };
        // A state of its own accord is read back as itself.
        prop_assert_eq!(&move_away(&restored), &restored);
        for said in decode(&mut restored, &further, &[]) {
            match said {
                Ok(Event::Message { kind, payload }) => {
                    prop_assert!(payload.len() <= MAX_MESSAGE);
                    prop_assert!(kind == Kind::Binary || std::str::from_utf8(&payload).is_ok());
                }
                Ok(Event::Ping(payload) | Event::Pong(payload)) => prop_assert!(payload.len() <= frame::MAX_CONTROL),
                Ok(Event::Close(_)) | Err(_) => {}
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_whole(&bytes);
        decode(&mut inflating(), &bytes, &[]);
        decode(&mut inflating(), &masked_frame(true, true, Opcode::Text, &bytes), &[]);
    }

    #[test]
    fn independent_servers_hear_the_same(bytes in spoilt_conversation_of(false)) {
        let said = decode_whole(&bytes);
        for (server, heard) in [("tungstenite", hear_tungstenite(&bytes)), ("fastwebsockets", hear_fastwebsockets(&bytes))] {
            prop_assert!(agree(&said, &heard).is_ok(), "{server}: {}; we: {said:?}", agree(&said, &heard).unwrap_err());
        }
    }

    #[test]
    fn an_independent_client_is_heard(
        texts in prop::collection::vec("\\PC{0,200}", 0..4),
        binaries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4),
        ping in prop::collection::vec(any::<u8>(), 0..=125),
        reason in "\\PC{0,30}",
    ) {
        let mut wire = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Client, None);
        let mut expected = Vec::new();
        for text in texts {
            expected.push(Ok(Event::Message { kind: Kind::Text, payload: text.clone().into_bytes() }));
            wire.send(Message::text(text)).unwrap();
        }
        expected.push(Ok(Event::Ping(ping.clone())));
        wire.send(Message::Ping(ping.into())).unwrap();
        for binary in binaries {
            expected.push(Ok(Event::Message { kind: Kind::Binary, payload: binary.clone() }));
            wire.send(Message::binary(binary)).unwrap();
        }
        expected.push(Ok(Event::Close(Some(Close { code: CloseCode::NORMAL, reason: reason.clone() }))));
        wire.close(Some(CloseFrame { code: 1000.into(), reason: Utf8Bytes::from(reason) })).unwrap();
        let bytes = wire.get_ref().get_ref().clone();
        prop_assert_eq!(decode_whole(&bytes), expected);
    }

    #[test]
    fn an_independent_client_understands_our_frames(
        text in "\\PC{0,200}",
        binary in prop::collection::vec(any::<u8>(), 0..70_000),
        reason in "\\PC{0,60}",
    ) {
        let mut bytes = Vec::new();
        frame::encode(Opcode::Text, text.as_bytes(), &mut bytes);
        frame::encode(Opcode::Ping, b"p", &mut bytes);
        frame::encode(Opcode::Binary, &binary, &mut bytes);
        let close = Close::new(CloseCode::POLICY, reason);
        frame::encode(Opcode::Close, &close.payload(), &mut bytes);
        let mut client = WebSocket::from_raw_socket(Wire { bytes: Cursor::new(bytes) }, Role::Client, None);
        prop_assert_eq!(client.read().unwrap(), Message::text(text));
        prop_assert_eq!(client.read().unwrap(), Message::Ping(b"p".to_vec().into()));
        prop_assert_eq!(client.read().unwrap(), Message::binary(binary));
        let frame = CloseFrame { code: 1008.into(), reason: close.reason.into() };
        prop_assert_eq!(client.read().unwrap(), Message::Close(Some(frame)));
    }
}

#[test]
fn each_violation_has_its_code() {
    let text = |fin, bytes| masked(fin, Opcode::Text, bytes);
    let too_big = vec![0; MAX_MESSAGE / 2 + 1];
    let cases: Vec<(Vec<u8>, Violation, u16)> = vec![
        (vec![0xc1], Violation::Header(BadHeader::ReservedBit), 1002),
        (vec![0x81, 0x05], Violation::Unmasked, 1002),
        (vec![0x82, 0x7e], Violation::Unmasked, 1002),
        (masked(true, Opcode::Continuation, b"x"), Violation::NothingToContinue, 1002),
        ([text(false, b"a"), text(true, b"b")].concat(), Violation::Interleaved, 1002),
        (masked(true, Opcode::Close, b"\x03"), Violation::CloseCode, 1002),
        (masked(true, Opcode::Close, b"\x03\xed"), Violation::CloseCode, 1002),
        (masked(true, Opcode::Close, b"\x03\xe8\xff"), Violation::Utf8, 1007),
        (text(true, b"\xc3"), Violation::Utf8, 1007),
        // The frame announces more, but what is here is wrong already.
        (text(true, b"a\xed\xa0\x80...")[..9].to_vec(), Violation::Utf8, 1007),
        (
            [masked(false, Opcode::Binary, &too_big), masked(true, Opcode::Continuation, &too_big)].concat(),
            Violation::TooBig(MAX_MESSAGE),
            1009,
        ),
    ];
    for (bytes, violation, code) in cases {
        assert_eq!(decode_whole(&bytes), [Err(violation)], "{bytes:x?}");
        assert_eq!(violation.close_code().number(), code, "{violation}");
    }
}

#[test]
fn each_violation_of_compression_has_its_code() {
    let first = |bytes: &[u8]| masked_frame(false, true, Opcode::Text, bytes);
    let whole = |bytes: &[u8]| masked_frame(true, true, Opcode::Text, bytes);
    let reserved = Violation::Header(BadHeader::ReservedBit);
    let bomb = compressed(&vec![0; 1 << 20], 9, false);
    let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(MAX_MESSAGE / 4 + 30);
    let cases: Vec<(Vec<u8>, Violation, u16)> = vec![
        ([first(b""), vec![0xc0]].concat(), reserved, 1002),
        ([first(b""), whole(b"")].concat(), Violation::Interleaved, 1002),
        (vec![0xc9], reserved, 1002),
        (vec![0xe1], reserved, 1002),
        (whole(b"\x06"), Violation::Deflate, 1007),
        (whole(&compressed(b"whole", 6, false)[..4]), Violation::Deflate, 1007),
        (whole(&compressed(b"a\xed\xa0\x80", 6, false)), Violation::Utf8, 1007),
        // The message goes on, but what is here is wrong already.
        (first(&compressed(b"a\xed\xa0\x80", 6, false)), Violation::Utf8, 1007),
        (whole(&bomb), Violation::TooBig(MAX_MESSAGE), 1009),
        (first(&bomb[..bomb.len() / 2]), Violation::TooBig(MAX_MESSAGE), 1009),
        (first(&empty_blocks), Violation::TooBig(MAX_MESSAGE), 1009),
    ];
    for (bytes, violation, code) in cases {
        assert_eq!(decode(&mut inflating(), &bytes, &[]), [Err(violation)], "{bytes:x?}");
        assert_eq!(violation.close_code().number(), code, "{violation}");
    }
    assert_eq!(decode_whole(&whole(&compressed(b"x", 6, false))), [Err(reserved)]);
}

#[test]
fn a_bomb_takes_no_memory() {
    let first = [compressed(&vec![0; MAX_MESSAGE], 9, false), vec![0, 0, 0xff, 0xff]].concat();
    let bomb = masked_frame(false, true, Opcode::Binary, &first);
    let more = masked_frame(false, false, Opcode::Continuation, &compressed(&vec![0; 64 << 20], 9, false)[..4000]);
    let mut decoder = inflating();
    assert_eq!(decode(&mut decoder, &bomb, &[]), []);
    let full = decoder.memory();
    assert!(full <= 2 * MAX_MESSAGE + deflate::inflate::MEMORY + 1000, "{full} bytes");
    let mut input = &more[..];
    assert_eq!(decoder.next(&mut input), Err(Violation::TooBig(MAX_MESSAGE)));
    assert_eq!(decoder.memory(), inflating().memory());
}

#[test]
fn a_silent_compressed_message_holds_only_what_has_arrived() {
    let payload = b"again and again, ".repeat(200);
    let frame = masked_frame(true, true, Opcode::Text, &compressed(&payload, 6, false));
    let (before, after) = frame.split_at(frame.len() / 2);
    let mut decoder = inflating();
    assert_eq!(decode(&mut decoder, before, &[]), []);
    decoder.shrink();
    assert!(decoder.memory() < 500, "{} bytes", decoder.memory());
    assert_eq!(decode(&mut decoder, after, &[]), [Ok(Event::Message { kind: Kind::Text, payload })]);
}

#[test]
fn a_violation_stays_one() {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let violation = decoder.next(&mut &[0xc1][..]);
    assert_eq!(violation, Err(Violation::Header(BadHeader::ReservedBit)));
    assert_eq!(decoder.next(&mut &masked(true, Opcode::Text, b"a")[..]), violation);
}

#[test]
fn the_largest_message_is_taken_and_an_announced_one_takes_no_memory() {
    let payload = vec![7; MAX_MESSAGE];
    let event = Event::Message { kind: Kind::Binary, payload: payload.clone() };
    assert_eq!(decode_whole(&masked(true, Opcode::Binary, &payload)), [Ok(event)]);

    let mut decoder = Decoder::new(1 << 40);
    let mut header = Vec::new();
    FrameHeader { fin: true, compressed: false, opcode: Opcode::Binary, mask: Some([0; 4]), length: 1 << 40 }
        .encode(&mut header);
    assert_eq!(decoder.next(&mut &header[..]), Ok(None));
}

#[test]
fn characters_may_span_fragments() {
    let crab = "🦀".as_bytes();
    let bytes = [masked(false, Opcode::Text, &crab[..1]), masked(true, Opcode::Continuation, &crab[1..])].concat();
    assert_eq!(decode_whole(&bytes), [Ok(Event::Message { kind: Kind::Text, payload: crab.to_vec() })]);
}

#[test]
fn nothing_is_heard_after_a_close() {
    let bytes = [masked(true, Opcode::Close, b""), masked(true, Opcode::Text, b"late"), vec![0xff; 9]].concat();
    assert_eq!(decode_whole(&bytes), [Ok(Event::Close(None))]);
}

#[test]
fn a_decoder_knows_when_it_may_move_lightly() {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    assert!(decoder.is_at_frame_boundary());
    let frame = masked(true, Opcode::Text, b"hi");
    for byte in &frame[..frame.len() - 1] {
        assert_eq!(decoder.next(&mut std::slice::from_ref(byte)), Ok(None));
        assert!(!decoder.is_at_frame_boundary());
    }
    assert!(decoder.next(&mut &frame[frame.len() - 1..]).unwrap().is_some());
    assert!(decoder.is_at_frame_boundary());
}

#[test]
fn every_byte_of_a_conversation_is_a_place_to_move_at() {
    let bytes = [
        masked(false, Opcode::Text, "κόσμ".as_bytes()),
        masked(true, Opcode::Ping, b"are you there?"),
        masked(true, Opcode::Continuation, "ε".as_bytes()),
        masked(true, Opcode::Binary, &[7; 300]),
        masked(true, Opcode::Close, b"\x03\xe8bye"),
        b"late".to_vec(),
    ]
    .concat();
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let mut said = Vec::new();
    for byte in &bytes {
        said.extend(decode(&mut decoder, std::slice::from_ref(byte), &[]));
        decoder = move_away(&decoder);
    }
    assert_eq!(said, decode_whole(&bytes));
    assert_eq!(said.len(), 4);
}

#[test]
fn a_snapshot_that_no_decoder_makes_is_refused() {
    let half = |bytes: &[u8], length: usize| {
        let mut decoder = Decoder::new(MAX_MESSAGE);
        assert_eq!(decoder.next(&mut &bytes[..length]), Ok(None));
        decoder
    };
    // Compressed, and compression was never agreed on.
    let first = masked_frame(false, true, Opcode::Binary, b"\x00\x00");
    let mut without = inflating();
    assert_eq!(without.next(&mut &first[..]), Ok(None));
    without.deflate = None;

    let restored = |decoder: &Decoder, max| Decoder::restore(decoder.snapshot(), max).map(|_| ());
    let inconsistent = |decoder: &Decoder| {
        assert!(matches!(restored(decoder, MAX_MESSAGE), Err(snapshot::BadSnapshot::Inconsistent(_))), "{decoder:?}");
    };

    let text = masked(false, Opcode::Text, b"hello");
    let whole = half(&text, text.len() - 1);
    inconsistent(&without);

    // Broken text, which only a binary message can hold.
    let mut broken = half(&masked(false, Opcode::Binary, b"\xff\xff\xff\xff."), text.len() - 1);
    broken.message.as_mut().unwrap().kind = Kind::Text;
    inconsistent(&broken);

    let mut broken = whole.clone();
    broken.message = None;
    inconsistent(&broken);

    for stage in [Stage::Closed, Stage::Failed(Violation::Utf8)] {
        inconsistent(&Decoder { stage, ..whole.clone() });
    }

    let payload = |length, received| Stage::Fragment(Payload { fin: false, mask: [0; 4], length, received });
    inconsistent(&Decoder { stage: payload(5, 5), ..whole.clone() });
    inconsistent(&Decoder { stage: payload(50, 5), ..whole.clone() });
    // It must not take more of this message than of another.
    assert_eq!(restored(&whole, 5), Ok(()));
    assert_eq!(restored(&whole, 4), Err(snapshot::BadSnapshot::TooBig(4)));
    assert_eq!(restored(&whole, 3), Err(snapshot::BadSnapshot::TooBig(3)));

    let ping = masked(true, Opcode::Ping, b"hello");
    let whole = half(&ping, ping.len() - 1);
    let control = |opcode, length, arrived| {
        let payload = Payload { fin: true, mask: [0; 4], length, received: arrived as u64 };
        Stage::Control { opcode, payload, bytes: vec![0; arrived] }
    };
    inconsistent(&Decoder { stage: control(Opcode::Binary, 5, 4), ..whole.clone() });
    inconsistent(&Decoder { stage: control(Opcode::Ping, 5, 5), ..whole.clone() });

    let header = |bytes: &[u8]| {
        let mut filled = [0; MAX_HEADER];
        filled[..bytes.len()].copy_from_slice(bytes);
        Decoder { stage: Stage::Header { bytes: filled, length: bytes.len() }, ..Decoder::new(MAX_MESSAGE) }
    };
    assert_eq!(restored(&header(&[0x81]), MAX_MESSAGE), Ok(()));
    for bytes in [&[0xc1][..], &[0x81, 0x05], &ping[..6], &ping[..7], &[0x89, 0x80, 1, 2, 3, 4]] {
        inconsistent(&header(bytes));
    }
}

#[test]
fn a_silent_connection_holds_next_to_nothing() {
    let mut decoder = Decoder::new(1 << 20);
    let idle = decoder.memory();
    assert!(idle <= 128, "{idle} bytes");
    let frame = masked(true, Opcode::Binary, &[1; 50_000]);
    assert_eq!(decoder.next(&mut &frame[..30_000]), Ok(None));
    decoder.shrink();
    assert!(decoder.memory() - idle < 30_000);
    assert!(decoder.next(&mut &frame[30_000..]).unwrap().is_some());
    assert_eq!(decoder.memory(), idle);
}
