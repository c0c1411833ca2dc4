//! Inflating a message as it arrives: RFC 7692, section 7.2.2.

use std::{cell::Cell, fmt};

use flate2::{Decompress, FlushDecompress, Status};

use super::compress::TAIL;

/// What an inflater takes of memory, in bytes, as measured: the window and the tables.
pub(crate) const MEMORY: usize = 48 << 10;

/// An empty last block. A stream that has come to the end of a block ends with it, and no other does.
const LAST_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Bytes that are inflated at once, so that a limit is noticed before much memory has gone.
const CHUNK: usize = 4096;

thread_local! {
    /// One that is not in use, for the next message.
    static SPARE: Cell<Option<Decompress>> = const { Cell::new(None) };
}

/// Inflates one message.
pub(crate) struct Inflater {
    /// Always there, until it is dropped.
    stream: Option<Decompress>,
    /// The last block has come. Another stream may follow in the same message; section 7.2.3.5.
    ended: bool,
    /// Nothing has arrived yet.
    is_empty: bool,
}

/// Why a message cannot be inflated. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is not what a compressor makes.
    Broken,
    /// It is larger than allowed.
    TooBig,
}

impl Inflater {
    /// For a message of which nothing has arrived.
    pub(crate) fn new() -> Self {
        let stream = SPARE.take().map(|mut stream| {
            stream.reset(false);
            stream
        });
        // The largest window: a client that was not told to use a smaller one may use this.
        Self { stream: Some(stream.unwrap_or_else(|| Decompress::new(false))), ended: false, is_empty: true }
    }

    /// Inflates the next bytes to the end of `inflated`, which may grow to `limit` bytes.
    pub(crate) fn push(&mut self, compressed: &[u8], inflated: &mut Vec<u8>, limit: usize) -> Result<(), Failed> {
        let Some(stream) = &mut self.stream else { return Err(Failed::Broken) };
        let mut rest = compressed;
        self.is_empty &= rest.is_empty();
        let mut chunk = [0; CHUNK];
        loop {
            if self.ended {
                if rest.is_empty() {
                    return Ok(());
                }
                stream.reset(false);
                self.ended = false;
            }
            let (in_before, out_before) = (stream.total_in(), stream.total_out());
            let status = stream.decompress(rest, &mut chunk, FlushDecompress::None);
            let consumed = (stream.total_in() - in_before) as usize;
            let made = (stream.total_out() - out_before) as usize;
            rest = &rest[consumed..];
            // What was made before something went wrong counts: it may be wrong for another reason.
            let room = limit.saturating_sub(inflated.len());
            inflated.extend_from_slice(&chunk[..made.min(room)]);
            if made > room {
                return Err(Failed::TooBig);
            }
            self.ended = status.map_err(|_| Failed::Broken)? == Status::StreamEnd;
            if !self.ended && made < CHUNK {
                // With room left, it stops for nothing but want of input.
                return if rest.is_empty() { Ok(()) } else { Err(Failed::Broken) };
            }
        }
    }

    /// The message has arrived: inflates what is left, and makes sure that it is whole.
    pub(crate) fn finish(&mut self, inflated: &mut Vec<u8>, limit: usize) -> Result<(), Failed> {
        // Who ends the stream by a last block is right if another, empty block begins after it; but there are some that
        // leave that out, and others that send an empty message as no bytes at all. Both can mean one thing only.
        if self.ended || self.is_empty {
            return Ok(());
        }
        self.push(&TAIL, inflated, limit)?;
        self.push(&LAST_BLOCK, inflated, limit)?;
        if self.ended { Ok(()) } else { Err(Failed::Broken) }
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // Fails only while the thread ends.
        let _ = SPARE.try_with(|spare| spare.set(self.stream.take()));
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater").field("ended", &self.ended).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn inflate(compressed: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut inflated = Vec::new();
        let mut inflater = Inflater::new();
        inflater.push(compressed, &mut inflated, LIMIT)?;
        inflater.finish(&mut inflated, LIMIT)?;
        Ok(inflated)
    }

    /// RFC 7692, section 7.2.3, where each of these is given in hexadecimal.
    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        let cases: &[&[u8]] = &[
            // One compressed block.
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // One stored block.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // The last block of a stream, and an empty one.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            // The last block of a stream and nothing behind it, as some send it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // Two streams.
            &[0xf3, 0x48, 0x05, 0x00, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for compressed in cases {
            assert_eq!(inflate(compressed), Ok(b"Hello".to_vec()), "{compressed:x?}");
        }
        assert_eq!(inflate(&[0x00]), Ok(Vec::new()));
        assert_eq!(inflate(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_broken_or_cut_off_is_refused() {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for length in 1..hello.len() {
            assert_eq!(inflate(&hello[..length]), Err(Failed::Broken), "{length} bytes");
        }
        // A block type that does not exist, a length that contradicts its complement, a reference to before the start.
        for compressed in [&[0x06][..], &[0x00, 0x05, 0x00, 0x00, 0x00], &[0x02, 0x03, 0x00, 0x00]] {
            assert_eq!(inflate(compressed), Err(Failed::Broken), "{compressed:x?}");
        }
    }

    #[test]
    fn a_bomb_is_noticed_at_the_limit() {
        let bomb = |length| super::super::compress::compress(Default::default(), &vec![0; length]).unwrap();
        assert_eq!(inflate(&bomb(LIMIT)).unwrap().len(), LIMIT);
        assert_eq!(inflate(&bomb(LIMIT + 1)), Err(Failed::TooBig));
        let mut inflated = Vec::new();
        assert_eq!(Inflater::new().push(&bomb(50 << 20), &mut inflated, LIMIT), Err(Failed::TooBig));
        assert!(inflated.capacity() <= 2 * CHUNK, "{} bytes", inflated.capacity());
    }
}
