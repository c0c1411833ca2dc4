//! How many moves at once towards one node: as many as go without haste.
//!
//! A session is silent from its suspension until its new owner goes on, and the more are under way at once the longer
//! each waits for its turn, at either end. So there is a window, as TCP has one (congestion avoidance, RFC 5681 section
//! 3.1): one more after as many moves in time as it has room for, a quarter fewer after a move that took too long, once for
//! all that were under way together.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    limits::Limits,
    name::{NodeId, SessionId},
};

/// Under way at once when nothing is known yet, and at least: with fewer there is nothing to do for one end while the other
/// one works.
const LEAST: usize = 8;

/// The windows towards all nodes. Keeps nothing if there is no goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Windows {
    towards: BTreeMap<NodeId, Window>,
    /// Where those under way are going, and since when.
    under_way: BTreeMap<SessionId, (NodeId, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Window {
    moves: usize,
    /// Moves in time since it was last changed.
    in_time: usize,
    /// When it was last made smaller. What had begun before says nothing new.
    smaller_since: Duration,
}

// === impl Windows ===

impl Windows {
    /// How many moves may be under way towards that node.
    pub(super) fn room(&self, to: NodeId, limits: &Limits) -> usize {
        match limits.move_goal {
            None => limits.concurrent_per_node,
            Some(_) => self.towards.get(&to).map_or(LEAST, |window| window.moves).min(limits.concurrent_per_node),
        }
    }

    /// A move has begun.
    pub(super) fn begun(&mut self, session: SessionId, to: NodeId, now: Duration, limits: &Limits) {
        if limits.move_goal.is_some() {
            self.under_way.insert(session, (to, now));
        }
    }

    /// A move has been committed.
    pub(super) fn committed(&mut self, session: SessionId, now: Duration, limits: &Limits) {
        let (Some((to, begun)), Some(goal)) = (self.under_way.remove(&session), limits.move_goal) else { return };
        let fresh = Window { moves: LEAST, in_time: 0, smaller_since: Duration::ZERO };
        let window = self.towards.entry(to).or_insert(fresh);
        if now.saturating_sub(begun) <= goal {
            window.in_time += 1;
            if window.in_time >= window.moves {
                window.in_time = 0;
                window.moves = (window.moves + 1).min(limits.concurrent_per_node.max(LEAST));
            }
        } else if begun >= window.smaller_since {
            window.in_time = 0;
            window.moves = (window.moves - window.moves / 4).max(LEAST);
            window.smaller_since = now;
        }
    }

    /// A move has come to nothing, or its session to an end. That says nothing about time.
    pub(super) fn over(&mut self, session: SessionId) {
        self.under_way.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Incarnation;

    const GOAL: Duration = Duration::from_millis(5);

    fn limits() -> Limits {
        Limits { move_goal: Some(GOAL), concurrent_per_node: 64, ..Limits::default() }
    }

    /// Moves as many at once as there is room for, time after time, each taking `took` of how many there are; gives the
    /// room at the end.
    fn settle(windows: &mut Windows, to: NodeId, from: Duration, took: impl Fn(usize) -> Duration) -> usize {
        let mut now = from;
        for _ in 0..500 {
            let room = windows.room(to, &limits());
            let sessions = (0..room as u64).map(|number| SessionId { born: Incarnation(1), number });
            for session in sessions.clone() {
                windows.begun(session, to, now, &limits());
            }
            now += took(room);
            for session in sessions {
                windows.committed(session, now, &limits());
            }
        }
        windows.room(to, &limits())
    }

    /// Moves to the first node, one after another; gives the room afterwards.
    fn one_by_one(windows: &mut Windows, moves: usize, from: Duration, took: Duration) -> usize {
        let session = SessionId { born: Incarnation(1), number: 1 };
        for _ in 0..moves {
            windows.begun(session, NodeId(1), from, &limits());
            windows.committed(session, from + took, &limits());
        }
        windows.room(NodeId(1), &limits())
    }

    /// One more after as many moves in time as there is room for; a quarter fewer after one that was late, and then those
    /// in time count from the beginning.
    #[test]
    fn it_grows_and_shrinks_move_by_move() {
        let (mut windows, late) = (Windows::default(), GOAL + Duration::from_nanos(1));
        let mut room = |moves, took| one_by_one(&mut windows, moves, Duration::from_secs(1), took);
        assert_eq!(room(0, GOAL), LEAST);
        for at_once in LEAST..12 {
            assert_eq!(room(at_once - 1, GOAL), at_once);
            assert_eq!(room(1, GOAL), at_once + 1);
        }
        assert_eq!(room(11, GOAL), 12);
        assert_eq!(room(1, late), 9);
        assert_eq!(room(8, GOAL), 9);
        assert_eq!(room(1, GOAL), 10);
    }

    #[test]
    fn without_a_goal_there_is_none() {
        let limits = Limits { move_goal: None, ..limits() };
        let (mut windows, session) = (Windows::default(), SessionId { born: Incarnation(1), number: 1 });
        windows.begun(session, NodeId(1), Duration::ZERO, &limits);
        assert_eq!(windows, Windows::default(), "nothing is kept");
        windows.committed(session, Duration::from_secs(1), &limits);
        assert_eq!(windows.room(NodeId(1), &limits), 64);
    }

    #[test]
    fn there_are_never_more_than_the_limit_permits() {
        let few = Limits { concurrent_per_node: 4, ..limits() };
        let mut windows = Windows::default();
        assert_eq!(windows.room(NodeId(1), &few), 4);
        settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::ZERO);
        assert_eq!(windows.room(NodeId(1), &few), 4);
    }

    /// A session that does not go after all is forgotten, and its time with it.
    #[test]
    fn what_comes_to_nothing_says_nothing() {
        let (mut windows, session) = (Windows::default(), SessionId { born: Incarnation(1), number: 1 });
        windows.begun(session, NodeId(1), Duration::ZERO, &limits());
        windows.over(session);
        assert_eq!(windows, Windows::default());
    }

    /// The more at once the longer each takes: there are as many as just meet the goal.
    #[test]
    fn as_many_as_meet_the_goal() {
        let mut windows = Windows::default();
        let each = |at_once: usize| Duration::from_micros(200) * at_once as u32;
        let room = settle(&mut windows, NodeId(1), Duration::ZERO, each);
        assert!((18..=26).contains(&room), "{room} at once, 25 take 5 ms");
        assert!(windows.under_way.is_empty());
    }

    /// Nodes that are quick get all there may be, and slow ones no less than a few; each for itself.
    #[test]
    fn each_node_has_its_own() {
        let mut windows = Windows::default();
        assert_eq!(settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::from_millis(1)), 64);
        assert_eq!(settle(&mut windows, NodeId(2), Duration::ZERO, |_| Duration::from_millis(500)), LEAST);
        assert_eq!(windows.room(NodeId(1), &limits()), 64);
        // It becomes slow: fewer, at once.
        assert_eq!(settle(&mut windows, NodeId(1), Duration::from_secs(1000), |_| Duration::from_millis(500)), LEAST);
    }

    /// Many late ones that were under way together are one piece of news.
    #[test]
    fn one_delay_counts_once() {
        let mut windows = Windows::default();
        settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::from_millis(1));
        let begun = Duration::from_secs(1000);
        let sessions = (0..64).map(|number| SessionId { born: Incarnation(1), number });
        for session in sessions.clone() {
            windows.begun(session, NodeId(1), begun, &limits());
        }
        for session in sessions {
            windows.committed(session, begun + 2 * GOAL, &limits());
        }
        assert_eq!(windows.room(NodeId(1), &limits()), 48);
    }
}
