//! Which flows have ended. Pure; the agent walks the table and removes them.

use std::time::Duration;

use ringsteer_ebpf::layout::flow::{CLOSING_LINGER_S, Flow, UNUSED_LIFE_S};

/// Whether a flow is over at `now_ns` (nanoseconds since boot): closed and silent for the linger time, never used and
/// there for a moment, or silent for `idle`.
pub fn is_over(flow: &Flow, now_ns: u64, idle: Duration) -> bool {
    let silent = Duration::from_nanos(now_ns.saturating_sub(flow.last_seen_ns));
    let allowed = match flow {
        Flow { closing: 1.., .. } => Duration::from_secs(CLOSING_LINGER_S.into()),
        Flow { packets: 0, .. } => Duration::from_secs(UNUSED_LIFE_S.into()),
        _ => idle,
    };
    silent >= allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(last_seen_s: u64, closing: u16) -> Flow {
        Flow {
            last_seen_ns: last_seen_s * 1_000_000_000,
            bound_ns: 0,
            packets: 1,
            bytes: 1,
            node: 1,
            key_hash: 0,
            first_ack: 0,
            last_ack: 0,
            closing,
            moved: 0,
            syn_slot: 0,
        }
    }

    #[test]
    fn an_open_flow_ends_by_silence_alone_and_a_closing_one_soon() {
        let idle = Duration::from_secs(8000);
        let now_ns = 10_000 * 1_000_000_000;
        assert!(!is_over(&flow(9_900, 0), now_ns, idle));
        assert!(is_over(&flow(2_000, 0), now_ns, idle));
        assert!(!is_over(&flow(9_990, 1), now_ns, idle));
        assert!(is_over(&flow(9_970, 1), now_ns, idle));
        // One that an agent has made, and no packet has come for.
        let unused = |last_seen_s| Flow { packets: 0, ..flow(last_seen_s, 0) };
        assert!(!is_over(&unused(9_950), now_ns, idle));
        assert!(is_over(&unused(9_940), now_ns, idle));
        // Seen by another CPU a moment after we read the clock.
        assert!(!is_over(&flow(10_001, 1), now_ns, idle));
    }
}
