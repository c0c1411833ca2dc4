//! Finding the key in the first bytes of a connection.
//!
//! The bytes are an HTTP/1.1 request whose target carries the key as a query parameter. The rules are those of the
//! servers that will read the same request, Go's `net/http` and `net/url` first:
//!
//! * the target is what stands between the first and the second space; a control byte in it is a bad request;
//! * the query starts after the first `?` (`#` is an ordinary byte in a request target);
//! * pairs are split at `&`, name and value at the first `=`; a name without `=` has an empty value;
//! * in both, `+` is a space and `%xy` a byte; raw UTF-8 is taken as it is;
//! * a pair with a `;` or with an escape that is none does not count;
//! * the first pair with the right name decides, even if its value is empty.
//!
//! A header of the PROXY protocol before the request is passed over, whoever sent it: whether its sender may is for the
//! gateway to say, and the request of one who may not is refused wherever it goes.
//!
//! What cannot be read here (no such parameter, an empty or overlong value, a request that goes on in the next
//! segment) is [`Key::None`]: the 4-tuple then decides, and the gateway, which reads the whole request, puts it right.
//!
//! # Shape
//!
//! The kernel's verifier walks every path through a loop. Two things keep that small: the scan reads eight bytes at a
//! time, and it comes in steps ([`request_start`], [`query_start`], [`next_pair`], [`read_pair`]) that hand over nothing but a
//! position.
//! The kernel program makes each step a function of its own, verified once; [`find`] is their composition on the host.

use crate::{crc32, layout::service::MAX_PARAMETER};

mod proxy;

pub use proxy::request_start;

/// How many bytes of the first segment are searched.
pub const WINDOW: usize = 2048;

/// Words in a window.
const WORDS: usize = WINDOW / 8;

/// The longest key, in bytes after decoding.
pub const MAX_KEY: usize = 256;

/// The first bytes of a connection, as little-endian words.
pub type Window = [u64; WORDS];

/// The outcome of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The key's CRC-32, its position on an `openim` ring.
    Hash(u32),
    /// No key that can be read here.
    None,
}

/// The outcome of reading one pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// It holds the key.
    Key(u32),
    /// It has another name, or does not count; the search goes on.
    Other,
    /// It has the name but no readable key; the search is over.
    Unreadable,
}

/// A position that means "not there".
pub const NOWHERE: u32 = u32::MAX;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;
const SEVEN: u64 = !HIGH;

/// The high bit of each byte of `word` that equals `byte`; exact for every byte.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (LOW * byte as u64);
    !(((difference & SEVEN) + SEVEN) | difference) & HIGH
}

/// The high bit of each byte of `word` that is a space or a control byte.
#[inline(always)]
fn ends_target(word: u64) -> u64 {
    !(((word & SEVEN) + LOW * (0x80 - 0x21)) | word) & HIGH
}

/// The bytes of a word at and after the position `from` within it.
#[inline(always)]
fn not_before(from: u32) -> u64 {
    u64::MAX << ((from & 7) * 8)
}

/// The index of the lowest byte marked by its high bit.
#[inline(always)]
fn first_marked(marks: u64) -> u32 {
    marks.trailing_zeros() >> 3
}

#[inline(always)]
fn word_at(window: &Window, index: u32) -> u64 {
    window[index as usize & (WORDS - 1)]
}

#[inline(always)]
fn byte_at(window: &Window, position: u32) -> u8 {
    (word_at(window, position >> 3) >> ((position & 7) * 8)) as u8
}

/// Where the first pair of the query starts, of the request that starts at `from` among the first `length` bytes.
#[inline(always)]
pub fn query_start(window: &Window, length: u32, from: u32) -> u32 {
    // All ones from the moment the first space, the one behind the method, has passed.
    let mut in_target = 0u64;
    let mut live = not_before(from);
    let mut index = from >> 3;
    let mut steps = 0;
    while steps < WORDS as u32 && index * 8 < length {
        steps += 1;
        let word = word_at(window, index);
        let mut ends = ends_target(word) & live;
        let mut question = equal(word, b'?');
        live = u64::MAX;
        if in_target == 0 {
            if ends == 0 {
                index += 1;
                continue;
            }
            let space = first_marked(ends);
            if byte_at(window, index * 8 + space) != b' ' {
                return NOWHERE;
            }
            // Behind that space: two shifts, because it may be the last byte of the word.
            let behind = (u64::MAX << (space * 8)) << 8;
            ends &= behind;
            question &= behind;
            in_target = u64::MAX;
        }
        if (ends | question) != 0 {
            // Whichever comes first. The lowest bit of the union belongs to the query if it is in `question`.
            let lowest = (ends | question) & (ends | question).wrapping_neg();
            if question & lowest == 0 {
                return NOWHERE;
            }
            return index * 8 + first_marked(question) + 1;
        }
        index += 1;
    }
    NOWHERE
}

/// Where the next pair after `from` starts that may have the name beginning with `initial`.
#[inline(always)]
pub fn next_pair(window: &Window, length: u32, from: u32, initial: u8) -> u32 {
    // Marks the first byte of the next word if the last one of this was `&`.
    let mut carry = 0u64;
    let mut live = not_before(from);
    let mut index = from >> 3;
    let mut steps = 0;
    while steps < WORDS as u32 && index * 8 < length {
        let word = word_at(window, index);
        let separators = equal(word, b'&') & live;
        let ends = ends_target(word) & live;
        // A pair is worth reading if it starts with the name's first byte, or with an escape that may stand for it.
        let starts = (separators << 8 | carry) & (equal(word, initial) | equal(word, b'%'));
        if (starts | ends) != 0 {
            let lowest = (starts | ends) & (starts | ends).wrapping_neg();
            return if starts & lowest == 0 { NOWHERE } else { index * 8 + first_marked(lowest) };
        }
        carry = separators >> 56;
        live = u64::MAX;
        index += 1;
        steps += 1;
    }
    NOWHERE
}

/// What stands at a position of a pair.
enum Token {
    /// A byte, decoded, and how many positions it took.
    Byte(u8, u32),
    /// `=`.
    Equals,
    /// The end of the pair: `&` or the end of the target.
    End,
    /// `;`, an escape that is none, or a control byte: the pair does not count.
    Void,
    /// The end of what we have.
    Cut,
}

#[inline(always)]
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[inline(always)]
fn token(window: &Window, length: u32, position: u32) -> Token {
    if position >= length {
        return Token::Cut;
    }
    match byte_at(window, position) {
        b'&' | b' ' => Token::End,
        b'=' => Token::Equals,
        b'+' => Token::Byte(b' ', 1),
        b'%' => {
            // An escape across the end of what we have is cut, not void: the rest is in the next segment.
            if position + 2 >= length {
                return Token::Cut;
            }
            match (nibble(byte_at(window, position + 1)), nibble(byte_at(window, position + 2))) {
                (Some(high), Some(low)) => Token::Byte(high << 4 | low, 3),
                _ => Token::Void,
            }
        }
        b';' | 0..=0x1f | 0x7f => Token::Void,
        byte => Token::Byte(byte, 1),
    }
}

/// Reads the pair at `start`.
#[inline(always)]
pub fn read_pair(window: &Window, length: u32, start: u32, name: &[u8; MAX_PARAMETER], name_length: u32) -> Pair {
    // Every position is cut where it changes, so that all paths to a place look alike to the verifier. Twice the
    // window, because a position just past its end must stay past it.
    const MASK: u32 = 2 * WINDOW as u32 - 1;
    let mut position = start & MASK;
    let mut index = 0;
    while index < MAX_PARAMETER as u32 && index < name_length {
        match token(window, length, position) {
            Token::Byte(byte, width) if byte == name[index as usize] => position = (position + width) & MASK,
            Token::Cut => return Pair::Unreadable,
            _ => return Pair::Other,
        }
        index += 1;
    }
    match token(window, length, position) {
        Token::Equals => position = (position + 1) & MASK,
        Token::End | Token::Cut => return Pair::Unreadable,
        Token::Byte(..) | Token::Void => return Pair::Other,
    }
    let mut register = crc32::START;
    let mut count = 0;
    while count <= MAX_KEY as u32 {
        let (byte, width) = match token(window, length, position) {
            Token::Byte(byte, width) => (byte, width),
            // Only the first `=` separates.
            Token::Equals => (b'=', 1),
            Token::End if count == 0 => return Pair::Unreadable,
            Token::End => return Pair::Key(crc32::finish(register)),
            Token::Void => return Pair::Other,
            Token::Cut => return Pair::Unreadable,
        };
        register = crc32::step(register, byte);
        position = (position + width) & MASK;
        count += 1;
    }
    Pair::Unreadable
}

/// Most pairs whose names are compared; the key is among the first few in every client we know.
pub const MAX_CANDIDATES: u32 = 32;

/// The key in the first `length` bytes of `window`, as the kernel program finds it.
pub fn find(window: &Window, length: u32, name: &[u8; MAX_PARAMETER], name_length: u32) -> Key {
    let mut position = query_start(window, length, request_start(window, length));
    for _ in 0..MAX_CANDIDATES {
        if position == NOWHERE {
            return Key::None;
        }
        match read_pair(window, length, position, name, name_length) {
            Pair::Key(hash) => return Key::Hash(hash),
            Pair::Unreadable => return Key::None,
            Pair::Other => position = next_pair(window, length, position, name[0]),
        }
    }
    Key::None
}

/// A first segment as the kernel program looks at it, and how many of its bytes are there. For the host.
pub fn window(segment: &[u8]) -> (Window, u32) {
    let length = segment.len().min(WINDOW);
    let mut bytes = [0; WINDOW];
    bytes[..length].copy_from_slice(&segment[..length]);
    let mut window = [0; WORDS];
    for (word, bytes) in window.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    (window, length as u32)
}

/// The key that the kernel program finds in a first segment, as the value of this parameter. For the host.
///
/// # Panics
/// If the name is longer than [`MAX_PARAMETER`].
pub fn find_in(segment: &[u8], parameter: &[u8]) -> Key {
    let (window, length) = window(segment);
    let mut name = [0; MAX_PARAMETER];
    name[..parameter.len()].copy_from_slice(parameter);
    find(&window, length, &name, parameter.len() as u32)
}

#[cfg(test)]
mod tests;
