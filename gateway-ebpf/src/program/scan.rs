//! The loops over bytes, as global functions: the verifier walks each once, on its own, and their callers see nothing
//! but a number come back. They work on this CPU's scratch memory, where their caller has put the bytes.

use ringsteer_ebpf::{
    key::{self, Key, MAX_CANDIDATES, NOWHERE, Pair},
    wire::options,
};

use crate::maps;

/// Parses the first `length` bytes of the scratch options. 0 if that was done.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_options(length: u32) -> u32 {
    let Some(scratch) = maps::scratch() else { return 1 };
    // SAFETY: the scratch memory is this CPU's own; the two fields do not overlap.
    unsafe {
        (*scratch).parsed = options::Parsed::default();
        options::parse(&(*scratch).options, length, &mut (*scratch).parsed);
    }
    0
}

/// [`key::request_start`] on the scratch window.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_start(length: u32) -> u32 {
    let Some(scratch) = maps::scratch() else { return NOWHERE };
    // SAFETY: the scratch memory is this CPU's own.
    unsafe { key::request_start(&(*scratch).window, length) }
}

/// [`key::query_start`] on the scratch window.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_query(length: u32, from: u32) -> u32 {
    let Some(scratch) = maps::scratch() else { return NOWHERE };
    // SAFETY: the scratch memory is this CPU's own.
    unsafe { key::query_start(&(*scratch).window, length, from) }
}

/// [`key::next_pair`] on the scratch window.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_next(length: u32, from: u32) -> u32 {
    let Some(scratch) = maps::scratch() else { return NOWHERE };
    // SAFETY: the scratch memory is this CPU's own.
    unsafe { key::next_pair(&(*scratch).window, length, from, (*scratch).parameter[0]) }
}

/// What [`scan_pair`] returns for [`Pair::Other`].
const OTHER: u64 = 1 << 32;
/// What [`scan_pair`] returns for [`Pair::Unreadable`].
const UNREADABLE: u64 = 2 << 32;

/// [`key::read_pair`] on the scratch window, with the hash in the low half.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn scan_pair(length: u32, start: u32, name_length: u32) -> u64 {
    let Some(scratch) = maps::scratch() else { return UNREADABLE };
    // SAFETY: the scratch memory is this CPU's own.
    match unsafe { key::read_pair(&(*scratch).window, length, start, &(*scratch).parameter, name_length) } {
        Pair::Key(hash) => hash as u64,
        Pair::Other => OTHER,
        Pair::Unreadable => UNREADABLE,
    }
}

/// [`key::find`] on the scratch window, from the pieces above.
#[inline(always)]
pub fn find(length: u32, name_length: u32) -> Key {
    let mut position = scan_query(length, scan_start(length));
    for _ in 0..MAX_CANDIDATES {
        if position == NOWHERE {
            return Key::None;
        }
        match scan_pair(length, position, name_length) {
            OTHER => position = scan_next(length, position),
            UNREADABLE => return Key::None,
            hash => return Key::Hash(hash as u32),
        }
    }
    Key::None
}
