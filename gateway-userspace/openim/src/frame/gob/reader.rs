//! Numbers, strings and bytes.

use bytes::Bytes;

use super::BadGob;

/// Bytes yet to be read.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A message of a stream, without its length.
    pub(super) fn message(&mut self) -> Result<Self, BadGob> {
        self.bytes().map(Self::new)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, BadGob> {
        let first = *self.take(1)?.first().ok_or(BadGob::Short)?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let count = usize::from(first.wrapping_neg());
        if count > size_of::<u64>() {
            return Err(BadGob::Number);
        }
        Ok(self.take(count)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    pub(super) fn signed(&mut self) -> Result<i64, BadGob> {
        let bits = self.unsigned()?;
        let magnitude = (bits >> 1) as i64;
        Ok(if bits & 1 == 0 { magnitude } else { !magnitude })
    }

    /// A count of things that have at least a byte each.
    pub(super) fn count(&mut self) -> Result<usize, BadGob> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| BadGob::Number)?;
        if count > self.rest.len() { Err(BadGob::Short) } else { Ok(count) }
    }

    /// Bytes with their length before them; they share the frame's memory.
    pub(super) fn bytes(&mut self) -> Result<Bytes, BadGob> {
        let length = self.count()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<String, BadGob> {
        let bytes = self.bytes()?;
        str::from_utf8(&bytes).map(str::to_owned).map_err(|_| BadGob::Text)
    }

    fn take(&mut self, count: usize) -> Result<Bytes, BadGob> {
        if count > self.rest.len() { Err(BadGob::Short) } else { Ok(self.rest.split_to(count)) }
    }
}
