//! How long to wait before doing what others may do as well: never all at once, and never too often. Pure; the
//! randomness comes from a seed, so that a simulation can be replayed.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Random waits (SplitMix64).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

/// Ever longer waits between attempts at something that fails.
#[derive(Clone, Debug)]
pub struct Backoff {
    jitter: Jitter,
    first: Duration,
    longest: Duration,
    next: Duration,
}

// === impl Jitter ===

impl Jitter {
    /// Those that follow from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Others in each process.
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(std::process::id()))
    }

    /// From nothing up to `limit`.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        limit.mul_f64(mixed as f64 / u64::MAX as f64)
    }
}

// === impl Backoff ===

impl Backoff {
    /// The first wait is `first` at most, each further one up to twice as long, none longer than `longest`.
    pub fn new(first: Duration, longest: Duration, jitter: Jitter) -> Self {
        Self { jitter, first, longest, next: first }
    }

    /// How long to wait now: at least half of what it may be.
    pub fn wait(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
        half + self.jitter.up_to(half)
    }

    /// It has not failed: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest, Jitter::seeded(7));
        let mut expected = first;
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait >= expected / 2 && wait <= expected, "{wait:?} of {expected:?}");
            expected = (expected * 2).min(longest);
        }
        backoff.reset();
        assert!(backoff.wait() <= first);
    }

    #[test]
    fn jitter_spreads_and_can_be_replayed() {
        let limit = Duration::from_secs(1);
        let waits = |seed| {
            let mut jitter = Jitter::seeded(seed);
            (0..1000).map(|_| jitter.up_to(limit)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
        for quarter in 0..4 {
            let from = limit * quarter / 4;
            let count = waits(3).iter().filter(|wait| (from..from + limit / 4).contains(wait)).count();
            assert!((200..300).contains(&count), "{count} of 1000 in quarter {quarter}");
        }
    }
}
