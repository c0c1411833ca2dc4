//! The body of a request: RFC 9112, sections 6 and 7.1. Pure.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::request::Head;

/// Longest line that gives a chunk's size, in bytes, with its end.
const MAX_CHUNK_LINE: usize = 256;

/// Longest trailer, in bytes.
const MAX_TRAILER: usize = 4096;

/// Why a body cannot be read. The client's fault; the connection cannot go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Contradictory or malformed `Content-Length`, or malformed chunks.
    #[error("the body's length is malformed: send one Content-Length, or well-formed chunks, never both")]
    Malformed,
    /// A coding other than `chunked`.
    #[error("the only transfer coding understood is `chunked`")]
    Coding,
    /// Larger than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
}

impl BodyError {
    /// The HTTP status that tells the client.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLarge(_) => 413,
            Self::Coding => 501,
        }
    }
}

/// A body that is arriving.
#[derive(Clone, Debug)]
pub struct Body {
    max: usize,
    stage: Stage,
    chunked: bool,
    bytes: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The line with a chunk's size.
    ChunkSize,
    /// This many bytes of the body.
    Data(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// Header lines after the last chunk, of which so many bytes have passed.
    Trailer(usize),
    /// Nothing.
    Complete,
}

impl Body {
    /// The body that follows `head`; at most `max` bytes of it are taken.
    ///
    /// # Errors
    /// If the head does not say how long it is, or says that it is too long.
    pub fn after(head: &Head<'_>, max: usize) -> Result<Self, BodyError> {
        let mut lengths = head.header("Content-Length");
        let mut codings = head.header("Transfer-Encoding");
        let (chunked, stage) = match (lengths.next(), codings.next()) {
            (None, None) => (false, Stage::Data(0)),
            (Some(length), None) if lengths.next().is_none() => {
                let digits = str::from_utf8(length).map_err(|_| BodyError::Malformed)?;
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(BodyError::Malformed);
                }
                // Digits alone fail only by being too many.
                match digits.parse() {
                    Ok(length) if length <= max => (false, Stage::Data(length)),
                    _ => return Err(BodyError::TooLarge(max)),
                }
            }
            (None, Some(coding)) if head.minor_version >= 1 => {
                if !coding.eq_ignore_ascii_case(b"chunked") || codings.next().is_some() {
                    return Err(BodyError::Coding);
                }
                (true, Stage::ChunkSize)
            }
            _ => return Err(BodyError::Malformed),
        };
        Ok(Self { max, stage, chunked, bytes: Vec::new() })
    }

    /// Consumes what belongs to the body from the front of `input`; true when it is complete.
    ///
    /// # Errors
    /// If the bytes cannot be a body, or make it too large.
    pub fn advance(&mut self, input: &mut BytesMut) -> Result<bool, BodyError> {
        loop {
            match self.stage {
                // To httparse a line without a digit is a zero.
                Stage::ChunkSize if !input.first().is_none_or(u8::is_ascii_hexdigit) => {
                    return Err(BodyError::Malformed);
                }
                Stage::ChunkSize => match httparse::parse_chunk_size(input) {
                    Ok(httparse::Status::Complete((length, size))) if length <= MAX_CHUNK_LINE => {
                        input.advance(length);
                        let room = self.max - self.bytes.len();
                        self.stage = match usize::try_from(size) {
                            Ok(0) => Stage::Trailer(0),
                            Ok(size) if size <= room => Stage::Data(size),
                            _ => return Err(BodyError::TooLarge(self.max)),
                        };
                    }
                    Ok(httparse::Status::Partial) if input.len() < MAX_CHUNK_LINE => return Ok(false),
                    _ => return Err(BodyError::Malformed),
                },
                Stage::Data(missing) => {
                    let ours = missing.min(input.len());
                    self.bytes.extend_from_slice(&input[..ours]);
                    input.advance(ours);
                    self.stage = match (missing - ours, self.chunked) {
                        (0, true) => Stage::ChunkEnd,
                        (0, false) => Stage::Complete,
                        (missing, _) => {
                            self.stage = Stage::Data(missing);
                            return Ok(false);
                        }
                    };
                }
                Stage::ChunkEnd => match input[..] {
                    [b'\r', b'\n', ..] => {
                        input.advance(2);
                        self.stage = Stage::ChunkSize;
                    }
                    [] | [b'\r'] => return Ok(false),
                    _ => return Err(BodyError::Malformed),
                },
                // Trailers mean nothing to us; they end with an empty line.
                Stage::Trailer(passed) => {
                    let line = input.iter().position(|&byte| byte == b'\n').map_or(input.len(), |end| end + 1);
                    if passed + line > MAX_TRAILER {
                        return Err(BodyError::Malformed);
                    }
                    let empty = matches!(input[..line], [b'\n'] | [b'\r', b'\n']);
                    if !input[..line].ends_with(b"\n") {
                        return Ok(false);
                    }
                    input.advance(line);
                    self.stage = if empty { Stage::Complete } else { Stage::Trailer(passed + line) };
                }
                Stage::Complete => return Ok(true),
            }
        }
    }

    /// The bytes that have arrived.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::request::parse_head;

    const MAX: usize = 50;

    /// Reads a body that arrives in pieces; its bytes, and what was left over.
    fn read(headers: &str, pieces: &[&[u8]]) -> Result<Option<(Bytes, Vec<u8>)>, BodyError> {
        let bytes = format!("POST / HTTP/1.1\r\n{headers}\r\n");
        let (head, _) = parse_head(bytes.as_bytes()).unwrap().unwrap();
        let mut body = Body::after(&head, MAX)?;
        let mut input = BytesMut::new();
        let mut complete = body.advance(&mut input)?;
        for piece in pieces {
            input.extend_from_slice(piece);
            complete = body.advance(&mut input)?;
        }
        Ok(complete.then(|| (body.into_bytes(), input.to_vec())))
    }

    const CHUNKED: &str = "Transfer-Encoding: Chunked\r\n";

    #[test]
    fn a_body_ends_where_its_head_says() {
        let hello = || Bytes::from("hello");
        assert_eq!(read("", &[b"next"]), Ok(Some((Bytes::new(), b"next".to_vec()))));
        assert_eq!(read("Content-Length: 5\r\n", &[b"hello", b"next"]), Ok(Some((hello(), b"next".to_vec()))));
        assert_eq!(read("Content-Length: 5\r\n", &[b"hell"]), Ok(None));
        let chunks = b"2\r\nhe\r\n3;extension=x\r\nllo\r\n0\r\nTrailer: x\r\n\r\nnext";
        assert_eq!(read(CHUNKED, &[chunks]), Ok(Some((hello(), b"next".to_vec()))));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(read(headers, &[]), Err(BodyError::Malformed), "{headers}");
        }
        assert_eq!(read("Transfer-Encoding: gzip, chunked\r\n", &[]), Err(BodyError::Coding));
        for chunks in ["x\r\n", "2\r\nhello", "-1\r\n", "\r\n", &"1".repeat(MAX_CHUNK_LINE + 1)] {
            assert_eq!(read(CHUNKED, &[chunks.as_bytes()]), Err(BodyError::Malformed), "{chunks:?}");
        }
        let trailers = format!("0\r\n{}", "A: b\r\n".repeat(MAX_TRAILER / 6 + 1));
        assert_eq!(read(CHUNKED, &[trailers.as_bytes()]), Err(BodyError::Malformed));
    }

    #[test]
    fn a_body_has_a_largest_size() {
        for length in ["51", "99999999999999999999999"] {
            assert_eq!(read(&format!("Content-Length: {length}\r\n"), &[]), Err(BodyError::TooLarge(MAX)));
        }
        let whole = [b'x'; MAX];
        assert_eq!(read("Content-Length: 50\r\n", &[&whole]), Ok(Some((whole.to_vec().into(), vec![]))));
        let first = [b"32\r\n", &whole[..], b"\r\n"].concat();
        assert_eq!(read(CHUNKED, &[&first, b"0\r\n\r\n"]), Ok(Some((whole.to_vec().into(), vec![]))));
        assert_eq!(read(CHUNKED, &[&first, b"1\r\n"]), Err(BodyError::TooLarge(MAX)));
        assert_eq!(read(CHUNKED, &[b"ffffffffffffffff\r\n"]), Err(BodyError::TooLarge(MAX)));
    }

    proptest! {
        #[test]
        fn chunks_may_arrive_cut_anywhere(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..10), 0..5),
            cut: prop::sample::Index,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend([format!("{:X}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (before, after) = wire.split_at(cut.index(wire.len()));
            prop_assert_eq!(read(CHUNKED, &[before]), Ok(None));
            prop_assert_eq!(read(CHUNKED, &[before, after]), Ok(Some((chunks.concat().into(), vec![]))));
            let bytes: Vec<&[u8]> = wire.iter().map(std::slice::from_ref).collect();
            prop_assert_eq!(read(CHUNKED, &bytes), Ok(Some((chunks.concat().into(), vec![]))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), digits in "[0-9a-f]{0,17}") {
            let _ = read(CHUNKED, &[&bytes]);
            let _ = read(CHUNKED, &[digits.as_bytes(), b"\r\n", &bytes]);
        }
    }
}
