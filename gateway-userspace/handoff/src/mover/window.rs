//! How many moves at once towards one node: as many as go without haste.
//!
//! A session is silent from its suspension until its new owner goes on, and the more are under way at once the longer
//! each waits for its turn, at either end. So there is a window, as TCP has one (congestion avoidance, RFC 5681 section
//! 3.1): one more after as many moves in time as it has room for, a quarter fewer after a move that took too long, once for
//! all that were under way together. What counts is how much longer a move takes than the quickest one did, for that is what
//! waiting comes to (as in LEDBAT, RFC 6817 section 2.4.2): a node may be far away, and nothing is won by having it wait.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    limits::Limits,
    name::{NodeId, SessionId},
};

/// Under way at once when nothing is known yet, and at least: with fewer there is nothing to do for one end while the other
/// one works.
const LEAST: usize = 4;

/// For how long at least it counts what the quickest took, and for twice as long at most. Then another way may lead there.
const PERIOD: Duration = Duration::from_secs(10);

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
    /// How many are under way.
    under_way: usize,
    quickest: Quickest,
    /// Moves in time since it was last looked at whether it should be larger.
    in_time: usize,
    /// Whether as many as there is room for were under way since then.
    filled: bool,
    /// When it was last made smaller. What had begun before says nothing new.
    smaller_since: Duration,
}

/// How long the quickest move took lately: what it takes without waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Quickest {
    /// In this period.
    now: Duration,
    /// In the one before.
    before: Duration,
    /// The end of this one.
    until: Duration,
}

// === impl Windows ===

impl Windows {
    /// How many moves more may be under way towards that node; `uncommitted` of those that are have not been committed.
    pub(super) fn room(&self, to: NodeId, uncommitted: usize, limits: &Limits) -> usize {
        let (most, under_way) = match (limits.move_goal, self.towards.get(&to)) {
            (None, _) => (usize::MAX, uncommitted),
            (Some(_), None) => (LEAST, 0),
            (Some(_), Some(window)) => (window.moves, window.under_way),
        };
        most.min(limits.concurrent_per_node).saturating_sub(under_way)
    }

    /// A move has begun.
    pub(super) fn begun(&mut self, session: SessionId, to: NodeId, now: Duration, limits: &Limits) {
        if limits.move_goal.is_some() {
            self.under_way.insert(session, (to, now));
            let window = self.towards.entry(to).or_insert_with(Window::new);
            // As TCP begins anew after a pause (RFC 5681 section 4.1): who began with many would not learn what few take.
            if window.under_way == 0 && window.quickest.is_forgotten(now) {
                *window = Window::new();
            }
            window.under_way += 1;
            window.filled |= window.under_way >= window.moves;
        }
    }

    /// A session goes on where it was to go.
    pub(super) fn done(&mut self, session: SessionId, now: Duration, limits: &Limits) {
        let (Some((begun, window)), Some(goal)) = (self.take(session), limits.move_goal) else { return };
        let took = now.saturating_sub(begun);
        if took - window.quickest.with(took, now) <= goal {
            window.in_time += 1;
            if window.in_time >= window.moves {
                window.in_time = 0;
                // Who does not fill a window does not learn how large it may be (RFC 7661).
                if std::mem::take(&mut window.filled) {
                    window.moves = (window.moves + 1).min(limits.concurrent_per_node.max(LEAST));
                }
            }
        } else if begun >= window.smaller_since {
            window.in_time = 0;
            window.moves = (window.moves - window.moves / 4).max(LEAST);
            window.smaller_since = now;
        }
    }

    /// A move has come to nothing, or its session to an end. That says nothing about time.
    pub(super) fn over(&mut self, session: SessionId) {
        self.take(session);
    }

    /// As [`super::Mover::check`]; `is` says of a session whether its move is under way.
    pub(super) fn check(&self, is: impl Fn(SessionId) -> bool) {
        assert!(self.under_way.keys().all(|&session| is(session)), "room is kept for moves that are over");
        for (&node, window) in &self.towards {
            assert_eq!(window.under_way, self.under_way.values().filter(|&&(to, _)| to == node).count());
        }
    }

    fn take(&mut self, session: SessionId) -> Option<(Duration, &mut Window)> {
        let (to, begun) = self.under_way.remove(&session)?;
        let window = self.towards.get_mut(&to).expect("whatever is under way has begun");
        window.under_way -= 1;
        Some((begun, window))
    }
}

// === impl Window ===

impl Window {
    fn new() -> Self {
        let quickest = Quickest { now: Duration::MAX, before: Duration::MAX, until: Duration::ZERO };
        Self { moves: LEAST, under_way: 0, quickest, in_time: 0, filled: false, smaller_since: Duration::ZERO }
    }
}

// === impl Quickest ===

impl Quickest {
    fn is_forgotten(&self, now: Duration) -> bool {
        now >= self.until + PERIOD
    }

    /// How long the quickest took, now that one has taken so long.
    fn with(&mut self, took: Duration, now: Duration) -> Duration {
        if now >= self.until {
            self.before = if self.is_forgotten(now) { Duration::MAX } else { self.now };
            self.now = Duration::MAX;
            self.until = now + PERIOD;
        }
        self.now = self.now.min(took);
        self.now.min(self.before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

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
            let room = windows.room(to, 0, &limits());
            let sessions = (0..room as u64).map(|number| SessionId { born: Incarnation(1), number });
            for session in sessions.clone() {
                windows.begun(session, to, now, &limits());
            }
            now += took(room);
            for session in sessions {
                windows.done(session, now, &limits());
            }
        }
        windows.room(to, 0, &limits())
    }

    /// Moves to the first node, one after another, while as many as there is room for are under way; gives the room
    /// when none are.
    fn one_by_one(windows: &mut Windows, moves: usize, from: Duration, took: Duration) -> usize {
        let mut under_way = VecDeque::new();
        for number in 0..moves as u64 {
            while windows.room(NodeId(1), 0, &limits()) > 0 {
                let session = SessionId { born: Incarnation(number), number: under_way.len() as u64 };
                under_way.push_back(session);
                windows.begun(session, NodeId(1), from, &limits());
            }
            windows.done(under_way.pop_front().expect("there is room for some"), from + took, &limits());
        }
        for session in under_way {
            windows.over(session);
        }
        windows.room(NodeId(1), 0, &limits())
    }

    /// One more after as many moves in time as there is room for; a quarter fewer after one that was late, and then those
    /// in time count from the beginning. In time is what takes no longer than the goal beyond what the quickest took.
    #[test]
    fn it_grows_and_shrinks_move_by_move() {
        let (mut windows, late) = (Windows::default(), 2 * GOAL + Duration::from_nanos(1));
        let mut room = |moves, took| one_by_one(&mut windows, moves, Duration::from_secs(1), took);
        assert_eq!(room(0, GOAL), LEAST);
        for at_once in LEAST..12 {
            assert_eq!(room(at_once - 1, GOAL), at_once);
            assert_eq!(room(1, GOAL), at_once + 1);
        }
        assert_eq!(room(11, 2 * GOAL), 12);
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
        windows.done(session, Duration::from_secs(1), &limits);
        assert_eq!(windows.room(NodeId(1), 0, &limits), 64);
    }

    #[test]
    fn there_are_never_more_than_the_limit_permits() {
        let few = Limits { concurrent_per_node: 4, ..limits() };
        let mut windows = Windows::default();
        assert_eq!(windows.room(NodeId(1), 0, &few), 4);
        settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::ZERO);
        assert_eq!(windows.room(NodeId(1), 0, &few), 4);
    }

    /// A session that does not go after all is forgotten, and its time with it.
    #[test]
    fn what_comes_to_nothing_says_nothing() {
        let (mut windows, session) = (Windows::default(), SessionId { born: Incarnation(1), number: 1 });
        let before = {
            settle(&mut windows, NodeId(1), Duration::ZERO, |_| GOAL);
            windows.clone()
        };
        windows.begun(session, NodeId(1), Duration::ZERO, &limits());
        assert_eq!(windows.room(NodeId(1), 0, &limits()) + 1, before.room(NodeId(1), 0, &limits()));
        windows.over(session);
        assert_eq!(windows, before);
    }

    /// The more at once the longer each takes: there are as many as just meet the goal.
    #[test]
    fn as_many_as_meet_the_goal() {
        let mut windows = Windows::default();
        let each = |at_once: usize| Duration::from_micros(200) * at_once as u32;
        let room = settle(&mut windows, NodeId(1), Duration::ZERO, each);
        assert!((21..=30).contains(&room), "{room} at once; 29 take 5 ms longer than the least, 4, do");
        assert!(windows.under_way.is_empty());
    }

    /// Nodes that are quick get all there may be, and busy ones no less than a few; each for itself.
    #[test]
    fn each_node_has_its_own() {
        let (mut windows, busy) = (Windows::default(), |at_once| Duration::from_millis(10) * at_once as u32);
        assert_eq!(settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::from_millis(1)), 64);
        assert!(settle(&mut windows, NodeId(2), Duration::ZERO, busy) <= LEAST + 1);
        assert_eq!(windows.room(NodeId(1), 0, &limits()), 64);
        // It becomes busy: fewer.
        assert!(settle(&mut windows, NodeId(1), Duration::from_secs(1), busy) <= LEAST + 1);
    }

    /// What is far away is not busy. If another way leads there, it is as far as that soon.
    #[test]
    fn far_is_not_busy() {
        let (mut windows, far) = (Windows::default(), |_| Duration::from_millis(100));
        assert_eq!(settle(&mut windows, NodeId(1), Duration::ZERO, far), 64);
        assert_eq!(settle(&mut windows, NodeId(1), Duration::from_secs(50), |_| Duration::from_millis(200)), 64);
        assert_eq!(settle(&mut windows, NodeId(1), Duration::from_secs(150), far), 64);
    }

    /// What does not need it gets no more room.
    #[test]
    fn only_who_fills_it_gets_more() {
        let (mut windows, session) = (Windows::default(), SessionId { born: Incarnation(1), number: 1 });
        for _ in 0..100 {
            windows.begun(session, NodeId(1), Duration::ZERO, &limits());
            windows.done(session, GOAL, &limits());
        }
        assert_eq!(windows.room(NodeId(1), 0, &limits()), LEAST);
    }

    /// After a pause nothing is known any more.
    #[test]
    fn it_begins_anew() {
        let (mut windows, session) = (Windows::default(), SessionId { born: Incarnation(1), number: 1 });
        assert_eq!(settle(&mut windows, NodeId(1), Duration::ZERO, |_| GOAL), 64);
        windows.begun(session, NodeId(1), Duration::from_secs(60), &limits());
        assert_eq!(windows.room(NodeId(1), 0, &limits()), LEAST - 1);
    }

    /// Many late ones that were under way together are one piece of news.
    #[test]
    fn one_delay_counts_once() {
        let mut windows = Windows::default();
        settle(&mut windows, NodeId(1), Duration::ZERO, |_| Duration::from_millis(1));
        let begun = Duration::from_secs(1);
        let sessions = (0..64).map(|number| SessionId { born: Incarnation(1), number });
        for session in sessions.clone() {
            windows.begun(session, NodeId(1), begun, &limits());
        }
        for session in sessions {
            windows.done(session, begun + 2 * GOAL, &limits());
        }
        assert_eq!(windows.room(NodeId(1), 0, &limits()), 48);
    }
}
