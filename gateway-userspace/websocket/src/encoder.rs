//! From messages to the bytes that a server sends.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    decoder::Kind,
    deflate::{Deflate, compress::compress},
    frame::{FrameHeader, MAX_HEADER, Opcode},
};

/// How messages to one client are put into frames. It keeps nothing between messages, so it moves by what was agreed on
/// about compression, which [`crate::decoder::Decoder::deflate`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoder {
    deflate: Option<Deflate>,
    /// Smallest message that is compressed, in bytes.
    threshold: usize,
}

impl Encoder {
    /// Below this many bytes compressing a message gains less than it costs.
    pub const THRESHOLD: usize = 512;

    /// For a connection on which that was agreed.
    pub fn new(deflate: Option<Deflate>) -> Self {
        Self { deflate, threshold: Self::THRESHOLD }
    }

    /// The same, compressing messages of `threshold` bytes and more.
    pub fn with_threshold(self, threshold: usize) -> Self {
        Self { threshold, ..self }
    }

    /// Appends a message as one frame, compressed if that was agreed on and makes it smaller.
    pub fn encode(&self, kind: Kind, payload: &[u8], out: &mut BytesMut) {
        match self.deflate_of(payload).and_then(|deflate| compress(deflate, payload)) {
            Some(compressed) => frame(kind, true, &compressed, out),
            None => frame(kind, false, payload, out),
        }
    }

    /// How `payload` may be compressed, if at all.
    fn deflate_of(&self, payload: &[u8]) -> Option<Deflate> {
        self.deflate.filter(|_| payload.len() >= self.threshold)
    }
}

/// A message for many clients, put into frames once and not once for each of them. The frames are made when the first
/// client takes them, and are then the same bytes for all that agreed on the same.
#[derive(Debug)]
pub struct SharedMessage {
    kind: Kind,
    payload: Bytes,
    plain: OnceLock<Bytes>,
    /// By bits of the window. None where compression makes it no smaller.
    compressed: [OnceLock<Option<Bytes>>; WINDOWS],
}

/// Windows from [`Deflate::MIN_WINDOW_BITS`] to [`Deflate::MAX_WINDOW_BITS`].
const WINDOWS: usize = (Deflate::MAX_WINDOW_BITS - Deflate::MIN_WINDOW_BITS + 1) as usize;

impl SharedMessage {
    /// A message of which no frame is made yet.
    pub fn new(kind: Kind, payload: Bytes) -> Self {
        Self { kind, payload, plain: OnceLock::new(), compressed: [const { OnceLock::new() }; WINDOWS] }
    }

    /// Text, which must then be valid UTF-8, or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message itself.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The frame for a client, the same as [`Encoder::encode`] makes.
    pub fn frame(&self, encoder: Encoder) -> Bytes {
        let compressed = encoder.deflate_of(&self.payload).and_then(|deflate| {
            let slot = usize::from(deflate.window_bits() - Deflate::MIN_WINDOW_BITS);
            self.compressed[slot]
                .get_or_init(|| Some(whole(self.kind, true, &compress(deflate, &self.payload)?)))
                .clone()
        });
        compressed.unwrap_or_else(|| self.plain.get_or_init(|| whole(self.kind, false, &self.payload)).clone())
    }
}

/// The opcode of a message's first frame.
impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

fn frame(kind: Kind, compressed: bool, payload: &[u8], out: &mut BytesMut) {
    out.reserve(MAX_HEADER + payload.len());
    FrameHeader { fin: true, compressed, opcode: kind.into(), mask: None, length: payload.len() as u64 }.encode(out);
    out.put_slice(payload);
}

fn whole(kind: Kind, compressed: bool, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame(kind, compressed, payload, &mut out);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BITS: std::ops::RangeInclusive<u8> = Deflate::MIN_WINDOW_BITS..=Deflate::MAX_WINDOW_BITS;

    /// Some repeat themselves, some do not.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3000),
            (prop::collection::vec(any::<u8>(), 1..20), 1..400usize).prop_map(|(word, times)| word.repeat(times)),
        ]
    }

    proptest! {
        #[test]
        fn a_shared_frame_is_the_one_made_for_each(payload in payload(), bits in prop::option::of(BITS), threshold in 0..600usize) {
            let deflate = bits.map(|bits| Deflate::try_from(bits).unwrap());
            let encoder = Encoder::new(deflate).with_threshold(threshold);
            let mut own = BytesMut::new();
            encoder.encode(Kind::Binary, &payload, &mut own);
            let shared = SharedMessage::new(Kind::Binary, payload.clone().into());
            let frame = shared.frame(encoder);
            prop_assert_eq!(&frame, &own);
            prop_assert!(own.len() <= payload.len() + MAX_HEADER);
            let (header, _) = FrameHeader::parse(&own, deflate.is_some()).unwrap().unwrap();
            prop_assert!(!header.compressed || payload.len() >= threshold);
            // The same memory, not just the same bytes.
            prop_assert_eq!(shared.frame(encoder).as_ptr(), frame.as_ptr());
        }
    }

    #[test]
    fn long_text_is_compressed_and_short_text_is_not() {
        let is_compressed = |length: usize| {
            let mut out = BytesMut::new();
            Encoder::new(Some(Deflate::default())).encode(Kind::Text, "ha".repeat(length / 2).as_bytes(), &mut out);
            FrameHeader::parse(&out, true).unwrap().unwrap().0.compressed
        };
        assert!(is_compressed(Encoder::THRESHOLD));
        assert!(!is_compressed(Encoder::THRESHOLD - 2));
    }
}
