//! Compressing a message: RFC 7692, section 7.2.1.

use std::cell::RefCell;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::Deflate;

/// What every compressed message ends in, and is sent without.
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Good for text, and fast: messages are small, and each is compressed while its receivers wait.
const LEVEL: u32 = 4;

/// Windows that the library compresses for: 9 to 15 bits.
const WINDOWS: usize = 7;

thread_local! {
    /// This thread's compressors by window, made when first used: a quarter of a megabyte each.
    static COMPRESSORS: RefCell<[Option<Compress>; WINDOWS]> = const { RefCell::new([const { None }; WINDOWS]) };
}

/// The compressed form of `payload`; none if it would be no smaller, or cannot be made for this window.
pub(crate) fn compress(deflate: Deflate, payload: &[u8]) -> Option<Vec<u8>> {
    let mut window_bits = deflate.window_bits;
    if window_bits == Deflate::MIN_WINDOW_BITS {
        // The library has no window as small, but a message that fits into one cannot refer to what is outside it.
        if payload.len() > 1 << Deflate::MIN_WINDOW_BITS {
            return None;
        }
        window_bits += 1;
    }
    // Nothing smaller is wanted than what gains a byte, tail included.
    let mut compressed = Vec::with_capacity(payload.len() + TAIL.len());
    COMPRESSORS.with_borrow_mut(|compressors| {
        let compressor = compressors[usize::from(window_bits) - 9]
            .get_or_insert_with(|| Compress::new_with_window_bits(Compression::new(LEVEL), false, window_bits));
        compressor.reset();
        let status = compressor.compress_vec(payload, &mut compressed, FlushCompress::Sync);
        let is_whole = matches!(status, Ok(Status::Ok)) && compressor.total_in() == payload.len() as u64;
        (is_whole && compressed.len() < compressed.capacity()).then_some(())
    })?;
    compressed.ends_with(&TAIL).then(|| compressed.truncate(compressed.len() - TAIL.len()))?;
    (compressed.len() < payload.len()).then_some(compressed)
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    /// Inflates by the library, with a window of so many bits and not one more.
    fn inflate(window_bits: u8, compressed: &[u8], length: usize) -> Vec<u8> {
        let mut stream = Decompress::new_with_window_bits(false, window_bits.max(9));
        let mut inflated = Vec::with_capacity(length + 1);
        stream.decompress_vec(&[compressed, &TAIL].concat(), &mut inflated, FlushDecompress::Sync).unwrap();
        inflated
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_smaller_and_fits_the_window(
            window_bits in Deflate::MIN_WINDOW_BITS..=Deflate::MAX_WINDOW_BITS,
            words in prop::collection::vec("[a-z]{1,40}", 1..20),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..2000),
        ) {
            let payload = picks.iter().map(|pick| pick.get(&words).as_str()).collect::<String>().into_bytes();
            let deflate = Deflate::try_from(window_bits).unwrap();
            if let Some(compressed) = compress(deflate, &payload) {
                prop_assert!(compressed.len() < payload.len());
                prop_assert_eq!(inflate(window_bits, &compressed, payload.len()), payload);
            } else {
                // Short ones gain nothing; long ones repeat themselves.
                prop_assert!(payload.len() < 400 || window_bits == 8, "{} bytes", payload.len());
            }
        }

        #[test]
        fn what_does_not_shrink_is_left_alone(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(compress(Deflate::default(), &payload).filter(|small| small.len() >= payload.len()), None);
        }
    }

    #[test]
    fn a_message_refers_to_no_other() {
        let payload = b"the same words again, the same words again".repeat(9);
        let first = compress(Deflate::default(), &payload).unwrap();
        assert_eq!(compress(Deflate::default(), &payload), Some(first));
    }
}
