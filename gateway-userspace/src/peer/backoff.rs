//! When to dial again: soon at first, then more and more rarely, and never many nodes in step.

use std::time::Duration;

use crate::random::Spread;

/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait. A node that comes back is heard this much later at most.
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one dialler.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    spread: Spread,
}

impl Backoff {
    /// Waits that no dialler with another seed has.
    pub fn new(seed: u64) -> Self {
        Self { next: FIRST, spread: Spread::new(seed) }
    }

    /// How long to wait now: between half of the present wait and all of it.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole / 2 + whole.mul_f64(self.spread.fraction()) / 2
    }

    /// The link was up: the next wait is short again.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ() {
        let (mut one, mut other) = (Backoff::new(1), Backoff::new(2));
        let mut whole = FIRST;
        let mut same = 0;
        for _ in 0..10 {
            let waits = [one.wait(), other.wait()];
            for wait in waits {
                assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            }
            same += usize::from(waits[0] == waits[1]);
            whole = (whole * 2).min(LONGEST);
        }
        assert_eq!(same, 0);
        one.reset();
        assert!(one.wait() <= FIRST);
    }
}
