//! Which sessions went from this node to which one lately: a push may look for them here. Bounded in time and number. Pure.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::round::Went;

/// How long one is remembered: longer than a question that was on its way when the session went.
const FOR: Duration = Duration::from_secs(15);

/// How many; beyond, the oldest are forgotten early.
const MOST: usize = 1 << 17;

/// The sessions. Times count from whenever the caller says.
#[derive(Debug, Default)]
pub struct Departures {
    by_user: HashMap<Box<[u8]>, Vec<(Duration, Went)>>,
    /// In the order in which they went.
    order: VecDeque<(Duration, Box<[u8]>)>,
}

// === impl Departures ===

impl Departures {
    /// A session of `user` goes.
    pub fn note(&mut self, user: &[u8], went: Went, now: Duration) {
        self.forget(now);
        self.by_user.entry(user.into()).or_default().push((now, went));
        self.order.push_back((now, user.into()));
    }

    /// Those of a user.
    pub fn of(&self, user: &[u8], now: Duration) -> Vec<Went> {
        // Most of the time nobody has gone.
        if self.order.is_empty() {
            return vec![];
        }
        let lately = |(when, _): &&(Duration, Went)| now.saturating_sub(*when) < FOR;
        self.by_user.get(user).into_iter().flatten().filter(lately).map(|(_, went)| went.clone()).collect()
    }

    fn forget(&mut self, now: Duration) {
        while let Some((when, user)) = self.order.front() {
            if now.saturating_sub(*when) < FOR && self.order.len() < MOST {
                return;
            }
            if let Some(all) = self.by_user.get_mut(user) {
                // A user's are in that order, too.
                all.remove(0);
                if all.is_empty() {
                    self.by_user.remove(user);
                }
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[test]
    fn who_went_is_remembered_for_a_while() {
        let mut departures = Departures::default();
        let to = fixtures::member(2, "x:1").address;
        let went = |time| Went { connection: "c".into(), time, to };
        let second = Duration::from_secs;
        departures.note(b"u", went(1), second(0));
        departures.note(b"u", went(2), second(10));
        departures.note(b"v", went(1), second(10));
        assert_eq!(departures.of(b"u", second(10)), [went(1), went(2)]);
        assert_eq!(departures.of(b"u", second(16)), [went(2)]);
        assert_eq!(departures.of(b"w", second(16)), []);
        departures.note(b"w", went(1), second(30));
        assert_eq!((departures.by_user.len(), departures.order.len()), (1, 1));
        assert_eq!(departures.of(b"w", second(30)), [went(1)]);
    }

    #[test]
    fn there_are_never_too_many() {
        let mut departures = Departures::default();
        let to = fixtures::member(2, "x:1").address;
        for number in 0..=MOST as u32 {
            let went = Went { connection: "c".into(), time: 1, to };
            departures.note(&number.to_be_bytes(), went, Duration::ZERO);
        }
        assert_eq!((departures.order.len(), departures.by_user.len()), (MOST, MOST));
        assert_eq!(departures.of(&0_u32.to_be_bytes(), Duration::ZERO), []);
    }
}
