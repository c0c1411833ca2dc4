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

/// Where a connection is, as all that may be its edge are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The node that has it.
    pub node: u32,
    /// How many times it has moved.
    pub count: u16,
    /// When it moved last, in nanoseconds since boot.
    pub moved_ns: u64,
    /// What its client acknowledged first; 0 if that is not known.
    pub first_ack: u32,
}

/// Whether two connections on the same addresses and ports are known to be different ones, by what their clients
/// acknowledged first.
pub fn is_another(first_ack: u32, than: u32) -> bool {
    first_ack != 0 && than != 0 && first_ack != than
}

/// What a step does to the entry of a connection, `entry`, at `now_ns` (nanoseconds since boot). `first_ack` says which
/// connection that is; what an earlier one on the same addresses and ports has left behind is in nobody's way.
pub fn decide(step: MoveStep, count: u16, first_ack: u32, entry: Option<&Move>, now_ns: u64) -> Decision {
    use Decision::{Keep, Refuse, Remove, Write};
    let count = u32::from(count);
    let own = entry.filter(|entry| !is_another(entry.first_ack, first_ack));
    if count == 0 || own.is_some_and(|entry| entry.count > count) {
        return Refuse(MoveOutcome::Stale);
    }
    let same = own.filter(|entry| entry.count == count);
    match (step, same) {
        (MoveStep::Hold, None) => {
            Write(Move { since_ns: now_ns, last_sent_ns: 0, held: 0, sent_on: 0, node: 0, count, first_ack, unused: 0 })
        }
        (MoveStep::Hold, Some(entry)) if entry.node == 0 => Keep,
        (MoveStep::Move { to }, Some(entry)) if entry.node == 0 => {
            let first_ack = if first_ack == 0 { entry.first_ack } else { first_ack };
            Write(Move { since_ns: now_ns, node: to.get().into(), first_ack, ..*entry })
        }
        (MoveStep::Move { to }, Some(entry)) if entry.node == u32::from(to.get()) => Keep,
        (MoveStep::Move { .. }, None) => Refuse(MoveOutcome::NotHeld),
        (MoveStep::Release, Some(entry)) if entry.node == 0 => Remove,
        (MoveStep::Release, None) => Keep,
        // What an earlier stay here has left behind, or an earlier connection: nobody takes by the same move what he gives.
        (MoveStep::Take, _) => entry.map_or(Keep, |_| Remove),
        (MoveStep::Hold | MoveStep::Move { .. } | MoveStep::Release, Some(_)) => Refuse(MoveOutcome::Stale),
    }
}

/// A flow after such news. Nothing if it is to stay as it is: the news is old, or about another connection.
pub fn repointed(flow: &Flow, news: &Whereabouts) -> Option<Flow> {
    let &Whereabouts { node, count, moved_ns, first_ack } = news;
    if count <= flow.moved || is_another(flow.first_ack, first_ack) {
        return None;
    }
    // A connection that began after the move is another one, too. But news may come late, and then it seems to have moved
    // later than it has: time alone would not tell.
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

/// What becomes of the entry of a connection that this node has sent on, when it hears of a later move of it; `ours` says
/// that this is the node it is at now.
pub fn told(entry: &Move, news: &Whereabouts, ours: bool) -> Decision {
    let &Whereabouts { node, count, first_ack, .. } = news;
    if entry.node == 0 || entry.count >= u32::from(count) || is_another(entry.first_ack, first_ack) {
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

    /// What the client of the connection acknowledged first, and that of a later one on the same addresses and ports.
    const FIRST: u32 = 1000;
    const LATER: u32 = 77;

    const HELD: Move =
        Move { since_ns: 5, last_sent_ns: 0, held: 3, sent_on: 0, node: 0, count: 2, first_ack: FIRST, unused: 0 };
    const MOVED: Move = Move { since_ns: 7, node: 4, ..HELD };

    fn to(number: u16) -> MoveStep {
        MoveStep::Move { to: MemberNumber::new(number).unwrap() }
    }

    /// What a step of this connection does.
    fn decide(step: MoveStep, count: u16, entry: Option<&Move>, now_ns: u64) -> Decision {
        super::decide(step, count, FIRST, entry, now_ns)
    }

    /// News of this connection.
    fn moved(node: u32, count: u16, moved_ns: u64) -> Whereabouts {
        Whereabouts { node, count, moved_ns, first_ack: FIRST }
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
        for step in [MoveStep::Release, to(5), MoveStep::Hold] {
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
        let again = Move { since_ns: 9, held: 0, count: 4, ..HELD };
        assert_eq!(decide(MoveStep::Hold, 4, Some(&MOVED), 9), Decision::Write(again));
    }

    #[test]
    fn what_an_earlier_connection_has_left_behind_is_in_nobodys_way() {
        let later = |step, count, entry: &Move| super::decide(step, count, LATER, Some(entry), 9);
        // However often that one had moved, and even if it is still held, by a gateway that does not know yet that it is over.
        for entry in [HELD, MOVED, Move { count: 1, ..MOVED }] {
            let held = Move {
                since_ns: 9,
                last_sent_ns: 0,
                held: 0,
                sent_on: 0,
                node: 0,
                count: 1,
                first_ack: LATER,
                unused: 0,
            };
            assert_eq!(later(MoveStep::Take, 1, &entry), Decision::Remove);
            assert_eq!(later(MoveStep::Hold, 1, &entry), Decision::Write(held));
            // It was not held itself.
            assert_eq!(later(to(4), 1, &entry), Decision::Refuse(MoveOutcome::NotHeld));
            assert_eq!(later(MoveStep::Release, 1, &entry), Decision::Keep);
        }
        // Before the socket was looked into nobody knows which connection is held. Yet whoever takes one does not give it.
        for entry in [HELD, MOVED].map(|entry| Move { first_ack: 0, ..entry }) {
            assert_eq!(later(MoveStep::Take, 2, &entry), Decision::Remove);
        }
        // And what comes late of the earlier one changes nothing of the later one's.
        let moved_since = Move { count: 1, first_ack: LATER, ..MOVED };
        assert_eq!(decide(to(5), 2, Some(&moved_since), 9), Decision::Refuse(MoveOutcome::NotHeld));
        assert_eq!(decide(MoveStep::Release, 2, Some(&moved_since), 9), Decision::Keep);
        for ours in [false, true] {
            assert_eq!(told(&moved_since, &moved(6, 3, 0), ours), Decision::Keep);
        }
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
        assert_eq!(told(&MOVED, &moved(6, 3, 0), false), Decision::Write(Move { node: 6, count: 3, ..MOVED }));
        assert_eq!(told(&MOVED, &moved(6, 3, 0), true), Decision::Remove);
        assert_eq!(told(&MOVED, &moved(6, 2, 0), false), Decision::Keep);
        assert_eq!(told(&HELD, &moved(6, 3, 0), false), Decision::Keep);
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
            first_ack: FIRST,
            last_ack: 0,
            closing: 0,
            moved: 0,
            syn_slot: 0,
        };
        let once = repointed(&flow, &moved(2, 1, 150 * S)).unwrap();
        assert_eq!(once, Flow { node: 2, moved: 1, bound_ns: 150 * S, ..flow });
        // Bound after the move: another connection.
        assert_eq!(repointed(&flow, &moved(2, 1, 99 * S)), None);
        // The same news again, and news of a later move that seems to be a little earlier.
        assert_eq!(repointed(&once, &moved(2, 1, 150 * S)), None);
        assert_eq!(repointed(&once, &moved(3, 2, 149 * S)), Some(Flow { node: 3, moved: 2, ..once }));
        assert_eq!(repointed(&once, &moved(3, 2, 140 * S)), None);
        // Late news of an earlier one.
        assert_eq!(repointed(&Flow { moved: 2, ..once }, &moved(2, 1, 300 * S)), None);
        // News so late that the move seems to be a later connection's.
        let later = Flow { first_ack: LATER, ..flow };
        assert_eq!(repointed(&later, &moved(2, 1, 150 * S)), None);
        let own = Whereabouts { first_ack: LATER, ..moved(3, 1, 160 * S) };
        assert_eq!(repointed(&later, &own).map(|flow| flow.node), Some(3));
        // Where nobody has said which connection it is, time has to tell.
        let nameless = |at| Whereabouts { first_ack: 0, ..moved(2, 1, at) };
        assert_eq!(repointed(&flow, &nameless(150 * S)).map(|flow| flow.node), Some(2));
        assert_eq!(repointed(&flow, &nameless(99 * S)), None);
    }
}
