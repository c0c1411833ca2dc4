//! Times as the programs need them.

use aya_ebpf::{
    Global,
    helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_tai_ns},
};
use ringsteer_ebpf::cookie::DEFAULT_SLOT_SHIFT;

/// log2 of the nanoseconds a cookie slot lasts; the agent sets it at load time, the same on every node.
#[unsafe(no_mangle)]
static SLOT_SHIFT: Global<u8> = Global::new(DEFAULT_SLOT_SHIFT);

/// Nanoseconds since boot, as of the last timer tick: good to some milliseconds, and a plain load.
#[inline(always)]
pub fn coarse_ns() -> u64 {
    // SAFETY: no arguments, no preconditions (Linux 5.11).
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// The present cookie slot, from the clock that all nodes share: TAI does not jump at leap seconds, and goes on
/// without the agent.
#[inline(always)]
pub fn slot() -> u32 {
    // SAFETY: no arguments, no preconditions (Linux 6.1). The mask keeps the shift below 64.
    unsafe { (bpf_ktime_get_tai_ns() >> (SLOT_SHIFT.load() & 63)) as u32 }
}
