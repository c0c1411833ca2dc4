//! From a key's hash to its owner, as global functions (see [`crate::scan`]).

use ringsteer_ebpf::{
    layout::{ring::Ring, stats::Counter},
    ring,
};

use crate::maps::{self, RING};

/// What [`ring_next`] returns where there is no point.
const NOWHERE: u32 = u32::MAX;

/// What [`ring_owner`] returns where there is no ring. Node numbers have 32 bits.
const NO_RING: u64 = 1 << 32;

/// [`ring::next_index`] on a ring.
///
/// The verifier takes the ring for memory of its size that may be missing. (It learns that from the program's types, so
/// the argument is a plain pointer.)
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ring_next(ring: *const Ring, position: u32) -> u32 {
    if ring.is_null() {
        return NOWHERE;
    }
    let Some(scratch) = maps::scratch() else { return NOWHERE };
    // SAFETY: the only caller passes a ring that it has got from the map; the scratch memory is this CPU's own.
    let (ring, zero) = unsafe { (&*ring, (*scratch).zero) };
    match ring::next_index(&ring.points, ring.point_count, position, zero) {
        Some(index) => index as u32,
        None => NOWHERE,
    }
}

/// The number of the node that owns the keys at `hash`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ring_owner(hash: u32) -> u64 {
    // One read of the slot: this packet sees one ring.
    let Some(ring) = RING.get_value(0, &0) else { return NO_RING };
    let next = |position| match ring_next(ring, position) {
        NOWHERE => None,
        index => Some(index as usize),
    };
    match ring::owner_index_by(ring.algorithm, &ring.points, hash, next) {
        Some(index) => ring.points[index & (ring.points.len() - 1)].node as u64,
        None => NO_RING,
    }
}

/// The number of the node that owns the keys at `hash`.
#[inline(always)]
pub fn of(hash: u32) -> Result<u32, Counter> {
    match ring_owner(hash) {
        NO_RING => Err(Counter::drop_no_ring),
        node => Ok(node as u32),
    }
}
