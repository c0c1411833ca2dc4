//! Log lines for rare events, at most one a second and CPU: what a stranger can provoke must not flood the log. Counters
//! tell how often, the log tells who.

use crate::{clock, maps};

/// Nanoseconds between two lines.
const INTERVAL_NS: u64 = 1_000_000_000;

/// Whether a line may be written now.
#[inline(always)]
pub fn allowed() -> bool {
    let now = clock::coarse_ns();
    match maps::scratch() {
        // SAFETY: the scratch memory is this CPU's own, and the program is not preempted by itself.
        Some(scratch) => unsafe {
            let due = now >= (*scratch).next_log_ns;
            if due {
                (*scratch).next_log_ns = now + INTERVAL_NS;
            }
            due
        },
        None => false,
    }
}
