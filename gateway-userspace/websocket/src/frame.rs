//! Frame headers and masking: RFC 6455, section 5.2.

use bytes::BufMut;
use serde::{Deserialize, Serialize};

/// Most payload bytes a control frame can have.
pub const MAX_CONTROL: usize = 125;

/// Longest header, in bytes: two fixed, eight of length, four of mask.
pub const MAX_HEADER: usize = 14;

/// The bits of a header's first byte above the opcode.
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opcode {
    /// A further fragment of the message under way.
    Continuation,
    /// The first fragment of a text message.
    Text,
    /// The first fragment of a binary message.
    Binary,
    /// The sender will send nothing more.
    Close,
    /// To be answered by a pong with the same payload.
    Ping,
    /// Answers a ping, or just shows life.
    Pong,
}

/// The header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// Whether the message that this frame begins is compressed: RFC 7692, section 6.
    pub compressed: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// The mask, if the payload is masked: always from a client, never from a server.
    pub mask: Option<[u8; 4]>,
    /// Payload bytes that follow.
    pub length: u64,
}

/// Why bytes are no frame header. The sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum BadHeader {
    /// A reserved bit is set that has no meaning: no extension was agreed on that gives it one, or not for this frame.
    #[error("a reserved bit is set")]
    ReservedBit,
    /// An opcode that RFC 6455 does not define.
    #[error("unknown opcode {0}")]
    Opcode(u8),
    /// A control frame in fragments, or with more than [`MAX_CONTROL`] bytes.
    #[error("a control frame is fragmented or longer than {MAX_CONTROL} bytes")]
    Control,
    /// A length in more bytes than it needs, or with its highest bit set.
    #[error("a payload length is not in its shortest form")]
    Length,
}

// === impl Opcode ===

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    /// Close, ping and pong may stand between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

// === impl FrameHeader ===

impl FrameHeader {
    /// Reads the header that `bytes` start with: the header and its length in bytes, or `None` if it is not complete
    /// yet. Whether messages may be compressed was agreed on in the handshake.
    ///
    /// # Errors
    /// As soon as the bytes cannot become a good header any more.
    pub fn parse(bytes: &[u8], may_compress: bool) -> Result<Option<(Self, usize)>, BadHeader> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let compressed = first & RSV1 != 0;
        if first & (RSV2 | RSV3) != 0 || compressed && !may_compress {
            return Err(BadHeader::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(BadHeader::Opcode(first & 0x0f))?;
        // Said once for a whole message, by its first frame.
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(BadHeader::ReservedBit);
        }
        let fin = first & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(BadHeader::Control);
        }

        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if opcode.is_control() && usize::from(second & 0x7f) > MAX_CONTROL {
            return Err(BadHeader::Control);
        }
        let (length, rest, shortest) = match second & 0x7f {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u16::from_be_bytes(*length).into(), rest, 126),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest, 1 << 16),
                None => return Ok(None),
            },
            short => (u64::from(short), rest, 0),
        };
        if length < shortest || length > u64::MAX >> 1 {
            return Err(BadHeader::Length);
        }

        let (mask, rest) = if second & 0x80 == 0 {
            (None, rest)
        } else {
            match rest.split_first_chunk() {
                Some((mask, rest)) => (Some(*mask), rest),
                None => return Ok(None),
            }
        };
        Ok(Some((Self { fin, compressed, opcode, mask, length }, bytes.len() - rest.len())))
    }

    /// Appends the header to `out`. `length` must be below 2⁶³.
    pub fn encode(&self, out: &mut impl BufMut) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.put_u8(if self.fin { FIN } else { 0 } | if self.compressed { RSV1 } else { 0 } | self.opcode.bits());
        match self.length {
            short @ 0..126 => out.put_u8(masked | short as u8),
            medium @ 126..0x1_0000 => {
                out.put_u8(masked | 126);
                out.put_u16(medium as u16);
            }
            long => {
                out.put_u8(masked | 127);
                out.put_u64(long);
            }
        }
        if let Some(mask) = self.mask {
            out.put_slice(&mask);
        }
    }
}

/// Appends a whole frame as a server sends it: in one fragment, unmasked.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut impl BufMut) {
    FrameHeader { fin: true, compressed: false, opcode, mask: None, length: payload.len() as u64 }.encode(out);
    out.put_slice(payload);
}

/// Masks or unmasks `bytes`, the first of which is the payload's byte number `offset`.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut turned = mask;
    turned.rotate_left((offset % 4) as usize);
    // Eight bytes at a time: payloads are up to tens of kilobytes.
    let wide =
        u64::from_ne_bytes([turned[0], turned[1], turned[2], turned[3], turned[0], turned[1], turned[2], turned[3]]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(turned.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = FrameHeader> {
        let edges = prop::sample::select(vec![0, 1, 125, 126, 127, 0xffff, 0x1_0000, u64::MAX >> 1]);
        let length = prop_oneof![edges, 0..200u64, 0..0x2_0000u64, 0..u64::MAX >> 1];
        (any::<[bool; 2]>(), 0..6usize, any::<Option<[u8; 4]>>(), length).prop_map(
            |([fin, compressed], opcode, mask, length)| {
                use Opcode::*;
                let opcode = [Continuation, Text, Binary, Close, Ping, Pong][opcode];
                let control = opcode.is_control();
                let compressed = compressed && matches!(opcode, Text | Binary);
                FrameHeader {
                    fin: fin || control,
                    compressed,
                    opcode,
                    mask,
                    length: if control { length % 126 } else { length },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_is_read_back_and_every_prefix_is_incomplete(header in header()) {
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            prop_assert!(bytes.len() <= MAX_HEADER);
            for length in 0..bytes.len() {
                prop_assert_eq!(FrameHeader::parse(&bytes[..length], true), Ok(None));
            }
            bytes.push(0xff);
            prop_assert_eq!(FrameHeader::parse(&bytes, true), Ok(Some((header, bytes.len() - 1))));
            let expected = if header.compressed { Err(BadHeader::ReservedBit) } else { Ok(Some((header, bytes.len() - 1))) };
            prop_assert_eq!(FrameHeader::parse(&bytes, false), expected);
        }

        #[test]
        fn masking_goes_on_from_any_offset(bytes in prop::collection::vec(any::<u8>(), 0..60), mask: [u8; 4], cut: prop::sample::Index) {
            let expected: Vec<u8> = bytes.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
            let cut = cut.index(bytes.len() + 1);
            let mut masked = bytes;
            apply_mask(&mut masked[..cut], mask, 0);
            apply_mask(&mut masked[cut..], mask, cut as u64);
            prop_assert_eq!(masked, expected);
        }
    }

    #[test]
    fn a_bad_header_is_refused_at_its_first_wrong_byte() {
        let cases: &[(&[u8], BadHeader)] = &[
            (&[0xc1], BadHeader::ReservedBit),
            (&[0xa1], BadHeader::ReservedBit),
            (&[0x91], BadHeader::ReservedBit),
            (&[0x83], BadHeader::Opcode(3)),
            (&[0x8b], BadHeader::Opcode(11)),
            (&[0x08], BadHeader::Control),
            (&[0x89, 126], BadHeader::Control),
            (&[0x88, 0xff], BadHeader::Control),
            (&[0x82, 126, 0, 125], BadHeader::Length),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], BadHeader::Length),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], BadHeader::Length),
        ];
        for (bytes, expected) in cases {
            assert_eq!(FrameHeader::parse(bytes, false), Err(*expected), "{bytes:x?}");
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(FrameHeader::parse(before, false), Ok(None), "{bytes:x?} without its last byte");
        }
        // A continuation, control frames, and the bits without a meaning.
        for first in [0xc0, 0x40, 0xc8, 0xc9, 0xca, 0xe1, 0xd2, 0xa1, 0x91] {
            assert_eq!(FrameHeader::parse(&[first], true), Err(BadHeader::ReservedBit), "{first:x}");
        }
    }
}
