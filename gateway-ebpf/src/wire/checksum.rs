//! The internet checksum (RFC 1071), over words as they stand in memory.
//!
//! One's complement addition does not mind byte order as long as it is the same throughout, so nothing is swapped.

/// Folds a sum of 16-bit words into the checksum field's value.
#[inline(always)]
pub fn finish(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Both halves of a 32-bit word.
#[inline(always)]
pub fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// The checksum after a covered word changed from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
pub fn updated(checksum: u16, old: u16, new: u16) -> u16 {
    finish((!checksum) as u32 + (!old) as u32 + new as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_update_equals_a_fresh_sum(mut words: [u16; 10], at in 0usize..10, new: u16) {
            // A TCP checksum covers a pseudo-header that is never all zero; the two forms of zero stay out of it.
            words[(at + 1) % 10] |= 1;
            let sum = |words: &[u16; 10]| finish(words.iter().map(|&word| word as u32).sum());
            let before = sum(&words);
            let old = words[at];
            words[at] = new;
            prop_assert_eq!(updated(before, old, new), sum(&words));
        }
    }
}
