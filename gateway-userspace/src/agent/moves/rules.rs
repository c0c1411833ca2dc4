//! What a step of a move does to an entry of `moves`, and news of one to a flow. Pure.

use std::time::Duration;

use ringsteer_ebpf::layout::{flow::Flow, moves::Move};

use crate::control::{HOLD_LIFE_MS, MoveOutcome, MoveStep};

/// How much later than it happened a move may seem to have happened, by the time its news took: what is allowed for
/// where two moves are told apart by their counts anyway.
const NEWS_LATE: Duration = Duration::from_secs(2);

/// How long an entry is kept after every edge has been told: packets may still be on their way here.
pub const LINGER: Duration = Duration::from_secs(5);

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The entry is to be this.
    Write(Move),
    /// The entry goes.
    Remove,
    /// It is as it is to be.
    Keep,
    /// The step is not for this connection as it is.
    Refuse(MoveOutcome),
}

/// What a step does to the entry of a connection, `entry`, at `now_ns` (nanoseconds since boot).
pub fn decide(step: MoveStep, count: u16, entry: Option<&Move>, now_ns: u64) -> Decision {
    use Decision::{Keep, Refuse, Remove, Write};
    let count = u32::from(count);
    if count == 0 || entry.is_some_and(|entry| entry.count > count) {
        return Refuse(MoveOutcome::Stale);
    }
    let same = entry.filter(|entry| entry.count == count);
    match (step, same) {
        (MoveStep::Hold, None) => {
            Write(Move { since_ns: now_ns, last_sent_ns: 0, held: 0, sent_on: 0, node: 0, count })
        }
        (MoveStep::Hold, Some(entry)) if entry.node == 0 => Keep,
        (MoveStep::Move { to }, Some(entry)) if entry.node == 0 => {
            Write(Move { since_ns: now_ns, node: to.get().into(), ..*entry })
        }
        (MoveStep::Move { to }, Some(entry)) if entry.node == u32::from(to.get()) => Keep,
        (MoveStep::Move { .. }, None) => Refuse(MoveOutcome::NotHeld),
        (MoveStep::Release, Some(entry)) if entry.node == 0 => Remove,
        (MoveStep::Release, None) => Keep,
        // What an earlier stay here has left behind.
        (MoveStep::Take, None) => entry.map_or(Keep, |_| Remove),
        (MoveStep::Hold | MoveStep::Move { .. } | MoveStep::Release | MoveStep::Take, Some(_)) => {
            Refuse(MoveOutcome::Stale)
        }
    }
}

/// A flow after its connection has moved to `node` for the `count`-th time, at `moved_ns` (nanoseconds since boot).
/// Nothing if it is to stay as it is: the news is old, or the flow is a later connection's.
pub fn repointed(flow: &Flow, node: u32, count: u16, moved_ns: u64) -> Option<Flow> {
    if count <= flow.moved {
        return None;
    }
    // A connection that began after the move is another one, on the same addresses and ports.
    let late_ns = if flow.moved == 0 { 0 } else { NEWS_LATE.as_nanos() as u64 };
    if flow.bound_ns > moved_ns.saturating_add(late_ns) {
        return None;
    }
    Some(Flow { node, moved: count, bound_ns: flow.bound_ns.max(moved_ns), ..*flow })
}

/// Whether a hold is over that nothing has followed.
pub fn is_forgotten(entry: &Move, now_ns: u64) -> bool {
    entry.node == 0 && now_ns.saturating_sub(entry.since_ns) >= HOLD_LIFE_MS * 1_000_000
}

/// What becomes of the entry of a connection that this node has sent on, when it hears of a later move of it, to `node`;
/// `ours` says that this is the node.
pub fn told(entry: &Move, node: u32, count: u16, ours: bool) -> Decision {
    if entry.node == 0 || entry.count >= u32::from(count) {
        Decision::Keep
    } else if ours {
        Decision::Remove
    } else {
        Decision::Write(Move { node, count: count.into(), ..*entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MemberNumber;

    const HELD: Move = Move { since_ns: 5, last_sent_ns: 0, held: 3, sent_on: 0, node: 0, count: 2 };
    const MOVED: Move = Move { since_ns: 7, node: 4, ..HELD };

    fn to(number: u16) -> MoveStep {
        MoveStep::Move { to: MemberNumber::new(number).unwrap() }
    }

    #[test]
    fn a_connection_is_held_then_moved() {
        let hold = decide(MoveStep::Hold, 2, None, 5);
        assert_eq!(hold, Decision::Write(Move { held: 0, ..HELD }));
        assert_eq!(decide(to(4), 2, Some(&HELD), 7), Decision::Write(MOVED));
        assert_eq!(decide(MoveStep::Release, 2, Some(&HELD), 7), Decision::Remove);
    }

    #[test]
    fn a_step_may_be_repeated() {
        assert_eq!(decide(MoveStep::Hold, 2, Some(&HELD), 9), Decision::Keep);
        assert_eq!(decide(to(4), 2, Some(&MOVED), 9), Decision::Keep);
        assert_eq!(decide(MoveStep::Release, 2, None, 9), Decision::Keep);
        assert_eq!(decide(MoveStep::Take, 2, None, 9), Decision::Keep);
    }

    #[test]
    fn what_has_been_decided_stays_decided() {
        let stale = Decision::Refuse(MoveOutcome::Stale);
        // Moved: it cannot be released, nor move elsewhere by the same count, nor be held by it.
        for step in [MoveStep::Release, to(5), MoveStep::Hold, MoveStep::Take] {
            assert_eq!(decide(step, 2, Some(&MOVED), 9), stale, "{step:?}");
        }
        // Whoever has not held it, or whose hold is over, has nothing to move.
        assert_eq!(decide(to(4), 2, None, 9), Decision::Refuse(MoveOutcome::NotHeld));
        assert_eq!(decide(to(4), 3, Some(&HELD), 9), Decision::Refuse(MoveOutcome::NotHeld));
        // An earlier count changes nothing, and none is none.
        for step in [MoveStep::Hold, to(4), MoveStep::Release, MoveStep::Take] {
            for entry in [HELD, MOVED] {
                assert_eq!(decide(step, 1, Some(&entry), 9), stale, "{step:?}");
            }
            assert_eq!(decide(step, 0, None, 9), stale, "{step:?}");
        }
    }

    #[test]
    fn a_connection_that_comes_back_leaves_nothing_behind() {
        assert_eq!(decide(MoveStep::Take, 3, Some(&MOVED), 9), Decision::Remove);
        // And can go again, even if what it left behind is still there.
        let again = Move { since_ns: 9, last_sent_ns: 0, held: 0, sent_on: 0, node: 0, count: 4 };
        assert_eq!(decide(MoveStep::Hold, 4, Some(&MOVED), 9), Decision::Write(again));
    }

    #[test]
    fn a_hold_that_nothing_follows_ends() {
        let life_ns = HOLD_LIFE_MS * 1_000_000;
        assert!(!is_forgotten(&HELD, 5 + life_ns - 1));
        assert!(is_forgotten(&HELD, 5 + life_ns));
        assert!(!is_forgotten(&MOVED, u64::MAX));
    }

    #[test]
    fn later_news_shortens_the_way_and_earlier_news_does_nothing() {
        assert_eq!(told(&MOVED, 6, 3, false), Decision::Write(Move { node: 6, count: 3, ..MOVED }));
        assert_eq!(told(&MOVED, 6, 3, true), Decision::Remove);
        assert_eq!(told(&MOVED, 6, 2, false), Decision::Keep);
        assert_eq!(told(&HELD, 6, 3, false), Decision::Keep);
    }

    #[test]
    fn a_flow_follows_its_own_connection_only() {
        const S: u64 = 1_000_000_000;
        let flow = Flow {
            bound_ns: 100 * S,
            last_seen_ns: 200 * S,
            packets: 1,
            bytes: 1,
            node: 1,
            key_hash: 0,
            first_ack: 0,
            last_ack: 0,
            closing: 0,
            moved: 0,
            syn_slot: 0,
        };
        let moved = repointed(&flow, 2, 1, 150 * S).unwrap();
        assert_eq!(moved, Flow { node: 2, moved: 1, bound_ns: 150 * S, ..flow });
        // Bound after the move: another connection.
        assert_eq!(repointed(&flow, 2, 1, 99 * S), None);
        // The same news again, and news of a later move that seems to be a little earlier.
        assert_eq!(repointed(&moved, 2, 1, 150 * S), None);
        assert_eq!(repointed(&moved, 3, 2, 149 * S), Some(Flow { node: 3, moved: 2, ..moved }));
        assert_eq!(repointed(&moved, 3, 2, 140 * S), None);
        // Late news of an earlier one.
        assert_eq!(repointed(&Flow { moved: 2, ..moved }, 2, 1, 300 * S), None);
    }
}
