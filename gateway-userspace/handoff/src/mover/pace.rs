//! Which moves may begin, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Session, giving::Stage};
use crate::{
    limits::Limits,
    name::{NodeId, SessionId},
};

/// How much of the permitted rate may be caught up with at once.
const BURST: Duration = Duration::from_millis(10);

/// The sessions that wait for their move, by where they should go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pace {
    /// Those that may go as soon as there is room: who is not open yet first, for a client waits for an answer; then the
    /// oldest.
    ready: BTreeMap<NodeId, BTreeSet<(bool, SessionId)>>,
    /// Those whose last attempt failed, by the time of the next.
    later: BTreeSet<(Duration, SessionId)>,
    stranded: BTreeSet<SessionId>,
    paused: bool,
    /// When the next may begin, by the rate.
    next: Duration,
    /// Whether the rate alone kept one back when somebody last wanted to begin.
    kept_back: bool,
}

// === impl Pace ===

impl Pace {
    /// Enters a session as it is now.
    pub(super) fn note(&mut self, session: SessionId, here: &Session) {
        match (here.stage, here.owner) {
            (Stage::Waiting(None), Some(to)) => {
                self.ready.entry(to).or_default().insert((here.opened, session));
            }
            (Stage::Waiting(Some(from)), Some(_)) => {
                self.later.insert((from, session));
            }
            (Stage::Stranded, _) => {
                self.stranded.insert(session);
            }
            _ => {}
        }
    }

    /// Takes it out; it must be as it was when it was entered.
    pub(super) fn forget(&mut self, session: SessionId, here: &Session) {
        match (here.stage, here.owner) {
            (Stage::Waiting(from), Some(to)) => {
                if let Some(ready) = self.ready.get_mut(&to) {
                    ready.remove(&(here.opened, session));
                    if ready.is_empty() {
                        self.ready.remove(&to);
                    }
                }
                if let Some(from) = from {
                    self.later.remove(&(from, session));
                }
            }
            (Stage::Stranded, _) => {
                self.stranded.remove(&session);
            }
            _ => {}
        }
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Those whose time to wait is over.
    pub(super) fn due(&mut self, now: Duration) -> Vec<SessionId> {
        let mut due = Vec::new();
        while let Some(&(at, session)) = self.later.first() {
            if at > now {
                break;
            }
            self.later.pop_first();
            due.push(session);
        }
        due
    }

    /// It is looked at anew who may begin.
    pub(super) fn look(&mut self) {
        self.kept_back = false;
    }

    /// Whether one may begin now.
    pub(super) fn permits(&mut self, now: Duration, moving: usize, limits: &Limits) -> bool {
        let room = !self.paused && moving < limits.concurrent;
        self.kept_back = room && limits.moves_per_s.is_some() && now < self.next;
        room && !self.kept_back
    }

    /// One has begun.
    pub(super) fn begun(&mut self, now: Duration, limits: &Limits) {
        if let Some(rate) = limits.moves_per_s {
            self.next = self.next.max(now.saturating_sub(BURST)) + Duration::from_secs(1) / rate.max(1);
        }
    }

    /// The nodes to which somebody could go.
    pub(super) fn targets(&self) -> Vec<NodeId> {
        self.ready.keys().copied().collect()
    }

    /// Who should go to that node next.
    pub(super) fn first(&self, to: NodeId) -> Option<SessionId> {
        self.ready.get(&to)?.first().map(|&(_, session)| session)
    }

    pub(super) fn waiting(&self) -> usize {
        self.ready.values().map(BTreeSet::len).sum::<usize>() + self.later.len()
    }

    pub(super) fn stranded(&self) -> usize {
        self.stranded.len()
    }

    /// When somebody may be permitted who was not. It may be over: time does not stand still between a look and this.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.paused {
            return None;
        }
        // What waits for something else than time is looked at when that happens.
        let rate = self.kept_back.then_some(self.next);
        self.later.first().map(|&(at, _)| at).into_iter().chain(rate).min()
    }

    /// As [`super::Mover::check`].
    pub(super) fn check<'a>(&self, sessions: impl Iterator<Item = (SessionId, &'a Session)>) {
        let (mut waiting, mut stranded) = (0, 0);
        for (session, here) in sessions {
            match here.stage {
                Stage::Waiting(at) => {
                    let to = here.owner.expect("who waits knows for whom");
                    let ready = self.ready.get(&to).is_some_and(|ready| ready.contains(&(here.opened, session)));
                    let later = at.is_some_and(|at| self.later.contains(&(at, session)));
                    assert!(ready != later, "in neither list, or in both");
                    waiting += 1;
                }
                Stage::Stranded => {
                    assert!(self.stranded.contains(&session));
                    stranded += 1;
                }
                _ => {}
            }
        }
        assert_eq!((waiting, stranded), (self.waiting(), self.stranded.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves begin at the permitted rate, however late who asks for the deadline and whoever is woken by it are, as long as
    /// that is within what may be caught up with.
    #[test]
    fn the_rate_is_reached_by_who_is_a_little_late() {
        let limits = Limits { moves_per_s: Some(500), ..Limits::default() };
        let (mut pace, mut now, mut begun) = (Pace::default(), Duration::from_secs(1), 0_u64);
        let from = now;
        while begun < 500 {
            pace.look();
            while pace.permits(now, 0, &limits) {
                pace.begun(now, &limits);
                begun += 1;
            }
            let late = Duration::from_micros(begun % 7 * 1000);
            now = now.max(pace.deadline().expect("the rate ends some time")) + late;
        }
        let took = now - from;
        assert!(took <= Duration::from_millis(1020), "500 moves at 500 a second began within {took:?}");
        assert!(took >= Duration::from_millis(980), "500 moves at 500 a second began within {took:?} already");
    }

    /// Nobody is woken for what does not depend on time.
    #[test]
    fn only_the_rate_wants_to_be_looked_at_again() {
        let limits = Limits { moves_per_s: Some(500), concurrent: 1, ..Limits::default() };
        let (mut pace, now) = (Pace::default(), Duration::from_secs(1));
        assert!(pace.permits(now, 0, &limits));
        pace.begun(now, &limits);
        assert!(!pace.permits(Duration::ZERO, 0, &limits));
        assert!(pace.deadline().is_some(), "kept back by the rate");
        assert!(!pace.permits(Duration::ZERO, 1, &limits));
        assert_eq!(pace.deadline(), None, "there is no room anyway");
        assert!(!pace.permits(Duration::ZERO, 0, &limits));
        pace.look();
        assert_eq!(pace.deadline(), None, "nobody wants to go");
        assert!(!pace.permits(Duration::ZERO, 0, &limits));
        pace.pause(true);
        assert_eq!(pace.deadline(), None, "paused");
    }
}
