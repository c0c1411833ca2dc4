//! Which pushes have been made: a push that is repeated under its id is not delivered twice, and gets the first answer
//! again. Bounded in time and number. Pure.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::Outcome;

/// Pushes of one id to one user. A digest, because ids and names may be long and there are many of them; with 128 bits no
/// two of them will ever meet by chance, and who could make them meet holds a token for pushing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For how long.
    pub window: Duration,
    /// Pushes to one user each; beyond, the oldest are forgotten early.
    pub entries: usize,
}

/// What is known of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Known<W> {
    /// Nothing: it is to be made, and [`Memory::finish`]ed. `W` is given back.
    New(W),
    /// It has been made.
    Done(Outcome),
    /// It is being made; `W` will be given back with the outcome.
    UnderWay,
}

/// The pushes of the last while. `W` is where somebody waits for an outcome. Times count from whenever the caller says.
#[derive(Debug)]
pub struct Memory<W> {
    limits: Limits,
    /// When they began, and how they stand.
    pushes: HashMap<Key, (Duration, State<W>)>,
    /// In the order in which they began; one that came to nothing and began anew is here twice.
    order: VecDeque<(Duration, Key)>,
    /// Forgotten before their time.
    crowded_out: u64,
}

#[derive(Debug)]
enum State<W> {
    UnderWay(Vec<W>),
    Done(Outcome),
}

// === impl Key ===

impl Key {
    /// The key of the push `id` to `user`.
    pub fn new(id: &str, user: &[u8]) -> Self {
        // The length keeps apart what the two strings together would not.
        let length = (id.len() as u64).to_be_bytes();
        let digest = Sha256::new().chain_update(length).chain_update(id).chain_update(user).finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }
}

// === impl Memory ===

impl<W> Memory<W> {
    /// A memory of nothing.
    pub fn new(limits: Limits) -> Self {
        Self { limits, pushes: HashMap::new(), order: VecDeque::new(), crowded_out: 0 }
    }

    /// A push is wanted.
    pub fn begin(&mut self, key: Key, waiter: W, now: Duration) -> Known<W> {
        self.forget(now);
        match self.pushes.entry(key) {
            Entry::Occupied(mut entry) => match &mut entry.get_mut().1 {
                State::Done(outcome) => Known::Done(outcome.clone()),
                State::UnderWay(waiters) => {
                    waiters.push(waiter);
                    Known::UnderWay
                }
            },
            Entry::Vacant(entry) => {
                entry.insert((now, State::UnderWay(vec![])));
                self.order.push_back((now, key));
                Known::New(waiter)
            }
        }
    }

    /// The outcome of a push that was new. Whoever waits for it is given back. What is not known is not remembered: the
    /// next attempt is a new one.
    pub fn finish(&mut self, key: Key, outcome: &Outcome) -> Vec<W> {
        let Some((_, state)) = self.pushes.get_mut(&key) else { return vec![] };
        let before = std::mem::replace(state, State::Done(outcome.clone()));
        if *outcome == Outcome::Unknown {
            self.pushes.remove(&key);
        }
        match before {
            State::UnderWay(waiters) => waiters,
            State::Done(_) => vec![],
        }
    }

    /// Pushes remembered.
    pub fn len(&self) -> usize {
        self.pushes.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.pushes.is_empty()
    }

    /// Pushes that were forgotten before their time, for want of room.
    pub fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// Forgets what is old, and the oldest if there is too much. A push that is still under way goes like any other: who
    /// waits for it is dropped, and has to ask again.
    fn forget(&mut self, now: Duration) {
        while let Some(&(began, key)) = self.order.front() {
            let old = now.saturating_sub(began) >= self.limits.window;
            if !old && self.order.len() < self.limits.entries {
                return;
            }
            self.order.pop_front();
            // One that came to nothing has gone already, and may have begun anew since.
            if self.pushes.get(&key).is_some_and(|(last, _)| *last == began) {
                self.pushes.remove(&key);
                self.crowded_out += u64::from(!old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_repeat_gets_the_first_answer() {
        let mut memory = Memory::new(Limits { window: second(60), entries: 100 });
        let key = Key::new("m1", b"u");
        assert_eq!(memory.begin(key, 'a', second(0)), Known::New('a'));
        // While the first is under way, the second waits for it.
        assert_eq!(memory.begin(key, 'b', second(1)), Known::UnderWay);
        assert_eq!(memory.begin(Key::new("m1", b"v"), 'c', second(1)), Known::New('c'));
        assert_eq!(memory.finish(key, &Outcome::Offline), ['b']);
        assert_eq!(memory.begin(key, 'd', second(59)), Known::Done(Outcome::Offline));
        // Its time is over, counted from its beginning.
        assert_eq!(memory.begin(key, 'e', second(60)), Known::New('e'));
        assert_eq!(memory.crowded_out(), 0);
    }

    #[test]
    fn what_is_not_known_may_be_tried_again() {
        let mut memory = Memory::new(Limits { window: second(60), entries: 100 });
        let key = Key::new("m1", b"u");
        assert_eq!(memory.begin(key, 'a', second(0)), Known::New('a'));
        assert_eq!(memory.begin(key, 'b', second(0)), Known::UnderWay);
        assert_eq!(memory.finish(key, &Outcome::Unknown), ['b']);
        assert_eq!(memory.begin(key, 'c', second(1)), Known::New('c'));
        memory.finish(key, &Outcome::Offline);
        // Remembered for its whole time, although the first attempt is older.
        assert_eq!(memory.begin(key, 'd', second(60)), Known::Done(Outcome::Offline));
        assert_eq!(memory.begin(key, 'd', second(61)), Known::New('d'));
    }

    #[test]
    fn keys_do_not_run_into_each_other() {
        assert_ne!(Key::new("ab", b"c"), Key::new("a", b"bc"));
        assert_ne!(Key::new("", b"abc"), Key::new("abc", b""));
    }

    proptest! {
        /// Against a list of everything that ever happened.
        #[test]
        fn never_twice_within_the_window(steps in prop::collection::vec((0..6u8, 0..5u64, 0..3u8), 1..200)) {
            let limits = Limits { window: second(10), entries: 1000 };
            let mut memory = Memory::new(limits);
            let mut now = 0;
            let mut begun: std::collections::BTreeMap<u8, (u64, Option<Outcome>)> = Default::default();
            for (user, pause, what) in steps {
                now += pause;
                begun.retain(|_, (at, _)| now - *at < 10);
                let key = Key::new("m", &[user]);
                match (memory.begin(key, (), second(now)), begun.get(&user)) {
                    (Known::New(()), None) => { begun.insert(user, (now, None)); }
                    (Known::UnderWay, Some((_, None))) => {}
                    (Known::Done(outcome), Some((_, Some(expected)))) => prop_assert_eq!(&outcome, expected),
                    (known, expected) => prop_assert!(false, "{known:?}, expected {expected:?}"),
                }
                let outcome = match what { 0 => continue, 1 => Outcome::Unknown, _ => Outcome::Offline };
                if matches!(begun.get(&user), Some((_, None))) {
                    memory.finish(key, &outcome);
                    if outcome == Outcome::Unknown {
                        begun.remove(&user);
                    } else {
                        begun.insert(user, (begun[&user].0, Some(outcome)));
                    }
                }
                prop_assert_eq!(memory.len(), begun.len());
            }
        }

        #[test]
        fn there_is_never_more_than_allowed(users in prop::collection::vec(0..50u8, 0..300)) {
            let mut memory = Memory::new(Limits { window: second(1000), entries: 7 });
            for (at, user) in users.iter().enumerate() {
                let key = Key::new("m", &[*user]);
                memory.begin(key, (), second(at as u64));
                memory.finish(key, &Outcome::Offline);
                prop_assert!(memory.len() <= 7 && memory.order.len() <= 7);
            }
        }
    }
}
