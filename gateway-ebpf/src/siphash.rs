//! SipHash-2-4 over 64-bit words (Aumasson and Bernstein, 2012): the keyed hash behind the cookies.
//!
//! Input is always a fixed number of whole words, so there is no padding; the length still enters the last block, as
//! the standard asks, which keeps inputs of different lengths apart.

/// A 128-bit key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipKey {
    /// First half.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

/// SipHash-2-4 of `words`, each taken as eight little-endian bytes.
#[inline(always)]
pub fn hash<const N: usize>(key: SipKey, words: [u64; N]) -> u64 {
    let mut v = [
        key.k0 ^ 0x736f_6d65_7073_6575,
        key.k1 ^ 0x646f_7261_6e64_6f6d,
        key.k0 ^ 0x6c79_6765_6e65_7261,
        key.k1 ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        absorb(&mut v, word);
    }
    absorb(&mut v, ((N as u64 * 8) & 0xff) << 56);
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation: key 00..0f, input 00, 01, 02, … of the length given.
    #[test]
    fn agrees_with_the_reference_vectors() {
        let key = SipKey { k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908 };
        assert_eq!(hash(key, []), 0x726f_db47_dd0e_0e31);
        assert_eq!(hash(key, [0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
        assert_eq!(hash(key, [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]), 0x3f2a_cc7f_57c2_9bdb);
    }
}
