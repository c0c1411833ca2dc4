//! Bytes that wait to be written to a client.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Below this many bytes a frame is copied behind the one before it, so that one write takes both; from here on it is
/// shared with the other sessions that get it.
const SHARED: usize = 1024;

/// Most pieces in one write.
pub const MAX_SLICES: usize = 32;

/// Bytes in the order in which they are written. Holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// The oldest bytes.
    pieces: VecDeque<Bytes>,
    /// Those after them.
    last: BytesMut,
    length: usize,
}

impl Outgoing {
    /// Appends a frame that others may share.
    pub fn append(&mut self, frame: Bytes) {
        self.length += frame.len();
        if frame.len() < SHARED {
            self.last.put_slice(&frame);
        } else {
            if !self.last.is_empty() {
                self.pieces.push_back(std::mem::take(&mut self.last).freeze());
            }
            self.pieces.push_back(frame);
        }
    }

    /// Appends what `write` writes.
    pub fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.last.len();
        write(&mut self.last);
        self.length += self.last.len() - before;
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none do.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The oldest bytes, for one write. Fills `slices` and returns those in use.
    pub fn slices<'a, 's>(&'a self, slices: &'s mut [IoSlice<'a>; MAX_SLICES]) -> &'s [IoSlice<'a>] {
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain([&self.last[..]]);
        let mut count = 0;
        for piece in pieces.filter(|piece| !piece.is_empty()).take(MAX_SLICES) {
            slices[count] = IoSlice::new(piece);
            count += 1;
        }
        &slices[..count]
    }

    /// So many of the oldest bytes have been written.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn advance(&mut self, mut written: usize) {
        assert!(written <= self.length, "no more can be written than there is");
        self.length -= written;
        if self.length == 0 {
            return *self = Self::default();
        }
        while let Some(first) = self.pieces.front_mut() {
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.last.advance(written);
    }

    /// All bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.length);
        for piece in &self.pieces {
            bytes.put_slice(piece);
        }
        bytes.put_slice(&self.last);
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against one long vector.
        #[test]
        fn bytes_leave_as_they_came(steps in prop::collection::vec((0..4u8, 0..3000usize), 0..60)) {
            let mut outgoing = Outgoing::default();
            let mut model = Vec::new();
            let mut next = 0u8;
            for (action, size) in steps {
                match action {
                    0 | 1 => {
                        next = next.wrapping_add(1);
                        model.extend(vec![next; size]);
                        if action == 0 {
                            outgoing.append(vec![next; size].into());
                        } else {
                            outgoing.write(|out| out.put_bytes(next, size));
                        }
                    }
                    _ => {
                        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                        let first: Vec<u8> =
                            outgoing.slices(&mut slices).iter().flat_map(|slice| slice.to_vec()).collect();
                        prop_assert_eq!(&first[..], &model[..first.len()]);
                        prop_assert_eq!(first.is_empty(), model.is_empty());
                        let written = size.min(first.len());
                        outgoing.advance(written);
                        model.drain(..written);
                    }
                }
                prop_assert_eq!(outgoing.len(), model.len());
                prop_assert_eq!(&outgoing.to_bytes()[..], &model[..]);
            }
        }
    }
}
