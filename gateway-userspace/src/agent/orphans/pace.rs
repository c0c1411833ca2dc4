//! How fast clients are told that their node is gone. Pure.
//!
//! All of them at once would come back in one instant, and one after the other they would wait for nothing. So a few
//! are told within moments, many over half a second, and very many as fast as the others can take them.

use std::time::Duration;

/// Between two clients when there are few.
const GAP: Duration = Duration::from_millis(2);

/// Over how long clients are spread, unless there are very many.
const SPREAD: Duration = Duration::from_millis(500);

/// Clients told in a second at most. The nodes that are left have to take them in.
const MOST_A_SECOND: u32 = 20_000;

/// The pace for so many clients.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    clients: usize,
    whole: Duration,
}

impl Pace {
    /// A pace for so many clients.
    pub fn new(clients: usize) -> Self {
        let count = u32::try_from(clients).unwrap_or(u32::MAX);
        let whole =
            GAP.saturating_mul(count).min(SPREAD).max(Duration::from_secs(1).saturating_mul(count) / MOST_A_SECOND);
        Self { clients, whole }
    }

    /// How many are to have been told after so much time: the first at once, all of them in the end.
    pub fn due(&self, elapsed: Duration) -> usize {
        if elapsed >= self.whole {
            return self.clients;
        }
        let part = elapsed.as_secs_f64() / self.whole.as_secs_f64();
        // The first one needs no time, so it is the others that are spread.
        1 + (part * (self.clients - 1) as f64) as usize
    }

    /// How long to wait before the next ones, so that neither time nor clients are wasted.
    pub fn step(&self) -> Duration {
        Duration::from_millis(1).max(self.whole / u32::try_from(self.clients).unwrap_or(u32::MAX).max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_are_quick_many_within_half_a_second_and_very_many_at_a_bearable_rate() {
        for (clients, whole_ms) in [(1, 2), (10, 20), (250, 500), (10_000, 500), (20_000, 1000), (1_000_000, 50_000)] {
            let pace = Pace::new(clients);
            assert_eq!(pace.due(Duration::from_millis(whole_ms)), clients, "{clients}");
            assert!(clients == 1 || pace.due(Duration::from_millis(whole_ms - 1)) < clients, "{clients}");
        }
        assert_eq!(Pace::new(0).due(Duration::ZERO), 0);
    }

    proptest! {
        #[test]
        fn the_first_at_once_then_evenly_and_never_faster_than_the_limit(
            clients in 1..200_000usize,
            times in prop::collection::vec(0..20_000u64, 1..40),
        ) {
            let pace = Pace::new(clients);
            prop_assert_eq!(pace.due(Duration::ZERO), 1);
            let mut times = times;
            times.sort_unstable();
            let mut before = 0;
            for time in times {
                let elapsed = Duration::from_millis(time);
                let due = pace.due(elapsed);
                prop_assert!(due >= before && due <= clients);
                prop_assert!(due as f64 <= 1.0 + elapsed.as_secs_f64() * f64::from(MOST_A_SECOND));
                before = due;
            }
            prop_assert!(pace.step() >= Duration::from_millis(1) && pace.step() <= GAP.max(Duration::from_millis(1)));
        }
    }
}
