//! When to look at which session again: one list for all of them, where a timer for each would cost more than the
//! session.
//!
//! Nothing is ever taken out. A session that is still busy when its time comes says until when it may be silent now, and
//! is put back; that is once in its whole time of silence, however much it talks.

use std::collections::BTreeMap;

/// Keys by the time at which each is due, to a tick.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    tick_ms: u64,
    /// By number of the tick.
    slots: BTreeMap<u64, Vec<K>>,
}

impl<K> Deadlines<K> {
    /// An empty list. What is due within the same tick is due together, at its end.
    ///
    /// # Panics
    /// If `tick_ms` is 0.
    pub fn new(tick_ms: u64) -> Self {
        assert!(tick_ms > 0);
        Self { tick_ms, slots: BTreeMap::new() }
    }

    /// Notes that `key` is due at `at_ms`. True if nothing was due as early.
    pub fn insert(&mut self, at_ms: u64, key: K) -> bool {
        let slot = at_ms.div_ceil(self.tick_ms);
        let earliest = self.slots.first_key_value().is_none_or(|(&first, _)| slot < first);
        self.slots.entry(slot).or_default().push(key);
        earliest
    }

    /// When something is due next.
    pub fn next_ms(&self) -> Option<u64> {
        self.slots.first_key_value().map(|(slot, _)| slot.saturating_mul(self.tick_ms))
    }

    /// Takes out what is due at one moment not after `now_ms`. Call it until it has nothing more.
    pub fn due(&mut self, now_ms: u64) -> Option<Vec<K>> {
        self.next_ms().filter(|next| *next <= now_ms)?;
        self.slots.pop_first().map(|(_, keys)| keys)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_early_and_nothing_more_than_a_tick_late(
            times in prop::collection::vec(0..10_000u64, 0..100),
            step in 1..1000u64,
        ) {
            let mut deadlines = Deadlines::new(64);
            for &time in &times {
                let earliest = deadlines.next_ms();
                let first = deadlines.insert(time, time);
                prop_assert_eq!(first, earliest != deadlines.next_ms());
            }
            let (mut now, mut seen) = (0, Vec::new());
            while seen.len() < times.len() {
                now += step;
                while let Some(due) = deadlines.due(now) {
                    for at in due {
                        prop_assert!(at <= now && now < at + 64 + step, "{} at {}", at, now);
                        seen.push(at);
                    }
                }
                prop_assert!(deadlines.next_ms().is_none_or(|next| next > now));
            }
            prop_assert_eq!(deadlines.next_ms(), None);
            let mut times = times;
            times.sort_unstable();
            seen.sort_unstable();
            prop_assert_eq!(seen, times);
        }
    }
}
