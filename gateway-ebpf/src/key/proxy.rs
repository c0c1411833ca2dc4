//! The header that a proxy may put before a request: the PROXY protocol, versions 1 and 2, as HAProxy defines it
//! (`doc/proxy-protocol.txt`).

use super::{NOWHERE, WORDS, Window, byte_at, equal, first_marked, word_at};

/// The first eight bytes of version 2, and the four after them.
const SIGNATURE: (u64, u32) = (u64::from_le_bytes(*b"\r\n\r\n\0\r\nQ"), u32::from_le_bytes(*b"UIT\n"));

/// What version 1 begins with, in the low bytes of a word.
const TEXT: u64 = u64::from_le_bytes(*b"PROXY \0\0");
const TEXT_MASK: u64 = (1 << 48) - 1;

/// Longest header of version 1, in bytes (section 2.1).
const MAX_TEXT: u32 = 107;

/// Bytes of version 2 before its addresses.
const FIXED: u32 = 16;

/// Longest header of version 2 that the gateway takes, in bytes.
const MAX_BINARY: u32 = 1024;

/// Where the request starts among the first `length` bytes: behind a header of the PROXY protocol, or at once. A header
/// that is too long, or goes on in the next segment, leaves it nowhere.
#[inline(always)]
pub fn request_start(window: &Window, length: u32) -> u32 {
    let first = word_at(window, 0);
    if first & TEXT_MASK == TEXT { text_end(window, length) } else { binary_end(window, first) }
}

/// Behind the first line.
#[inline(always)]
fn text_end(window: &Window, length: u32) -> u32 {
    let mut index = 0;
    while index < WORDS as u32 && index * 8 < length && index * 8 < MAX_TEXT {
        let newline = equal(word_at(window, index), b'\n');
        if newline != 0 {
            let end = index * 8 + first_marked(newline) + 1;
            return if end <= MAX_TEXT { end } else { NOWHERE };
        }
        index += 1;
    }
    NOWHERE
}

/// Behind a header of version 2, if there is one.
#[inline(always)]
fn binary_end(window: &Window, first: u64) -> u32 {
    if first != SIGNATURE.0 || word_at(window, 1) as u32 != SIGNATURE.1 {
        return 0;
    }
    let end = FIXED + ((byte_at(window, 14) as u32) << 8 | byte_at(window, 15) as u32);
    if end <= MAX_BINARY { end } else { NOWHERE }
}
