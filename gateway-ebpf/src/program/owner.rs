//! From a position on the circle to its owner, as a global function (see [`crate::scan`]).

use ringsteer_ebpf::{layout::stats::Counter, ring};

use crate::maps::{self, RING};

/// What [`ring_owner`] returns where there is no ring. Node numbers have 32 bits.
const NO_RING: u64 = 1 << 32;

/// The number of the node that owns `position`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ring_owner(position: u32) -> u64 {
    let Some(scratch) = maps::scratch() else { return NO_RING };
    // SAFETY: the scratch memory is this CPU's own.
    let zero = unsafe { (*scratch).zero };
    // One read of the slot: this packet sees one ring.
    let Some(ring) = RING.get_value(0, &0) else { return NO_RING };
    match ring::owner_index(&ring.points, ring.point_count, position, zero) {
        Some(index) => ring.points[index].node as u64,
        None => NO_RING,
    }
}

/// The number of the node that owns `position`.
#[inline(always)]
pub fn of(position: u32) -> Result<u32, Counter> {
    match ring_owner(position) {
        NO_RING => Err(Counter::drop_no_ring),
        node => Ok(node as u32),
    }
}
