//! Compression, with its limits.

use std::io::{Read as _, Write as _};

use flate2::{bufread::MultiGzDecoder, write::GzEncoder};

use super::BadFrame;

/// `frame` as a gzip file.
pub(super) fn pack(frame: &[u8]) -> Vec<u8> {
    // Fast: most frames are some hundred bytes, and there are many.
    let mut encoder = GzEncoder::new(Vec::with_capacity(frame.len() / 2 + 32), flate2::Compression::fast());
    encoder.write_all(frame).and_then(|()| encoder.finish()).expect("a vector takes everything")
}

/// What a gzip file holds, if that is no more than `limit` bytes. As in Go, a file may have several parts.
pub(super) fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, BadFrame> {
    let mut frame = Vec::new();
    // One byte more tells that there is too much; nothing beyond it is ever unpacked.
    let read = MultiGzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut frame);
    match read {
        Ok(length) if length <= limit => Ok(frame),
        Ok(_) => Err(BadFrame::TooLargeUnpacked),
        Err(_) => Err(BadFrame::Gzip),
    }
}
