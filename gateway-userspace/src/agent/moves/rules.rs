//! What a step of a move does to an entry of `moves`, and news of one to a flow. Pure.

use std::time::Duration;

use ringsteer_ebpf::layout::{flow::Flow, moves::Move};

use crate::control::{HOLD_LIFE_MS, MoveOutcome, MoveStep};

/// How much later than it happened a move may seem to have happened, by the time its news took: what is allowed for
/// where two moves are told apart by their counts anyway.
const NEWS_LATE: Duration = Duration::from_secs(2);

/// How long an entry is kept after every edge has been told: packets may still be on their way here.
pub const LINGER: Duration = Duration::from_secs(5);

/// How much earlier than another one a connection may have been accepted whose news come after those of that one, in
/// milliseconds: twelve days. Beyond that, the other way round, connections that live for 37 days are told apart.
const BIRTHS_APART_MS: u32 = 1 << 30;

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
    /// When it moved last, or was accepted, in nanoseconds since boot.
    pub moved_ns: u64,
    /// What its client acknowledged first, or its [`birth`] in mode "accept"; 0 if that is not known.
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
        // The last of them is no move, and is never asked here.
        (MoveStep::Hold | MoveStep::Move { .. } | MoveStep::Release, Some(_)) | (MoveStep::Accept { .. }, _) => {
            Refuse(MoveOutcome::Stale)
        }
    }
}

/// A flow after such news. Nothing if it is to stay as it is: the news is old, or about another connection.
pub fn repointed(flow: &Flow, news: &Whereabouts) -> Option<Flow> {
    let &Whereabouts { count, moved_ns, first_ack, .. } = news;
    if count <= flow.moved || is_another(flow.first_ack, first_ack) {
        return None;
    }
    // A connection that began after the move is another one, too. But news may come late, and then it seems to have moved
    // later than it has: time alone would not tell.
    let late_ns = if flow.moved == 0 { 0 } else { NEWS_LATE.as_nanos() as u64 };
    if flow.bound_ns > moved_ns.saturating_add(late_ns) {
        return None;
    }
    Some(at(flow, news))
}

/// The flow of a connection that is there now.
fn at(flow: &Flow, news: &Whereabouts) -> Flow {
    Flow { node: news.node, moved: news.count, bound_ns: flow.bound_ns.max(news.moved_ns), ..*flow }
}

/// The flow of a connection in mode "accept" after such news, at `now_ns`. Nothing if it is to stay as it is.
///
/// Of two connections on the same addresses and ports the one that was accepted later has the flow, in whatever order news of
/// them come.
pub fn followed(flow: Option<&Flow>, news: &Whereabouts, now_ns: u64) -> Option<Flow> {
    let &Whereabouts { node, count, moved_ns, first_ack } = news;
    match flow {
        // Where one was accepted so long ago that only its edge has a flow yet, nobody could say which one it is.
        Some(flow) if first_ack == 0 => repointed(flow, news),
        Some(flow) if flow.first_ack == first_ack => (count > flow.moved).then(|| at(flow, news)),
        Some(flow) if flow.first_ack != 0 && !is_later(first_ack, flow.first_ack) => None,
        _ => Some(Flow {
            bound_ns: moved_ns,
            last_seen_ns: now_ns,
            packets: 0,
            bytes: 0,
            node,
            key_hash: 0,
            first_ack,
            last_ack: 0,
            closing: 0,
            moved: count,
            syn_slot: 0,
        }),
    }
}

/// The name of a connection that is accepted in mode "accept", at `now_ms` (milliseconds of a clock that all nodes have),
/// beside a flow of an earlier one on the same addresses and ports: it is later than that one by name, too, even if our clock
/// is behind that of the node that named the other.
pub fn birth(now_ms: u64, earlier: Option<&Flow>) -> u32 {
    let now = now_ms as u32;
    match earlier {
        Some(flow) if flow.first_ack != 0 && !is_later(now, flow.first_ack) => named(flow.first_ack.wrapping_add(1)),
        _ => named(now),
    }
}

/// 0 is nobody's.
fn named(birth: u32) -> u32 {
    if birth == 0 { 1 } else { birth }
}

/// Whether the connection with this name was accepted after the one with the other. Names are milliseconds, 32 bits of them:
/// what seems to be much later is much older, or was bound in the other mode.
fn is_later(birth: u32, other: u32) -> bool {
    other.wrapping_sub(birth) > BIRTHS_APART_MS
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

    const S: u64 = 1_000_000_000;

    /// News of a connection in mode "accept".
    fn accepted(first_ack: u32, node: u32, count: u16) -> Whereabouts {
        Whereabouts { node, count, moved_ns: 100 * S, first_ack }
    }

    #[test]
    fn an_accepted_connection_gets_a_flow_of_its_own() {
        let flow = followed(None, &accepted(50, 3, 0), 101 * S).unwrap();
        assert_eq!((flow.node, flow.moved, flow.packets, flow.first_ack), (3, 0, 0, 50));
        assert_eq!((flow.bound_ns, flow.last_seen_ns), (100 * S, 101 * S));
        // Told again, it is the same.
        assert_eq!(followed(Some(&flow), &accepted(50, 3, 0), 102 * S), None);
        // It moves. However late its birth was heard of, that is after it.
        let late = Flow { bound_ns: 190 * S, ..flow };
        let moved = followed(Some(&late), &accepted(50, 4, 1), 111 * S).unwrap();
        assert_eq!((moved.node, moved.moved, moved.first_ack), (4, 1, 50));
        // What comes late of its birth changes nothing any more.
        assert_eq!(followed(Some(&moved), &accepted(50, 3, 0), 112 * S), None);
        // An edge that heard of neither makes one flow of both.
        assert_eq!(followed(None, &accepted(50, 4, 1), 111 * S).map(|flow| (flow.node, flow.moved)), Some((4, 1)));
        // When only its edge has a flow yet, nobody else knows its name.
        let unnamed = Whereabouts { moved_ns: 190 * S, ..accepted(0, 5, 2) };
        assert_eq!(followed(Some(&moved), &unnamed, 190 * S).map(|flow| (flow.node, flow.first_ack)), Some((5, 50)));
        let elsewhere = followed(None, &unnamed, 190 * S).unwrap();
        assert_eq!((elsewhere.node, elsewhere.first_ack), (5, 0));
        // And the next one that is accepted has a name.
        assert_eq!(followed(Some(&elsewhere), &accepted(51, 3, 0), 191 * S).map(|flow| flow.node), Some(3));
    }

    /// Two connections, one after the other, on the same addresses and ports. The first was accepted by node 1 and has moved
    /// twice, the second was accepted where the first one was then and has moved back to node 1.
    #[test]
    fn in_whatever_order_news_come_the_later_connection_has_the_flow() {
        let news = [accepted(50, 1, 0), accepted(50, 2, 1), accepted(50, 3, 2), accepted(51, 3, 0), accepted(51, 1, 1)];
        let mut orders = vec![vec![]];
        for _ in news {
            let longer = |order: Vec<usize>| {
                let rest = (0..news.len()).filter(|next| !order.contains(next)).collect::<Vec<_>>();
                rest.into_iter().map(move |next| [&order[..], &[next]].concat())
            };
            orders = orders.into_iter().flat_map(longer).collect();
        }
        assert_eq!(orders.len(), 120);
        for order in orders {
            let mut flow: Option<Flow> = None;
            for &next in &order {
                flow = followed(flow.as_ref(), &news[next], 200 * S).or(flow);
            }
            let flow = flow.unwrap();
            assert_eq!((flow.node, flow.moved, flow.first_ack), (1, 1, 51), "{order:?}");
        }
    }

    #[test]
    fn whoever_is_accepted_later_has_a_later_name() {
        let flow = |first_ack| followed(None, &accepted(first_ack, 3, 0), 0).unwrap();
        let day_ms = 24 * 60 * 60 * 1000;
        assert_eq!(birth(1000, None), 1000);
        assert_eq!(birth(1000, Some(&flow(999))), 1000);
        // A clock that is behind, or has gone back.
        assert_eq!(birth(1000, Some(&flow(1000))), 1001);
        assert_eq!(birth(1000, Some(&flow(31_000))), 31_001);
        assert_eq!(birth(1000, Some(&flow(u32::MAX))), 1000);
        assert_eq!(birth(u64::from(u32::MAX), Some(&flow(u32::MAX))), 1, "0 is nobody's");
        assert_eq!(birth(1 << 32, None), 1);
        // What is more than that ahead is long ago, by a number that has gone round.
        assert_eq!(birth(1000, Some(&flow(1000 + 13 * day_ms))), 1000);
        assert!(is_later(1000, 1000 - 7), "and a little earlier is earlier");
        for ago in [1, 12 * day_ms, 37 * day_ms] {
            assert!(is_later(5u32, 5u32.wrapping_sub(ago)), "{ago} ms");
            assert!(ago > 12 * day_ms || !is_later(5u32.wrapping_sub(ago), 5), "{ago} ms");
        }
    }
}
