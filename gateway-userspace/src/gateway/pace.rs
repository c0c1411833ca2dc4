//! How many sessions may begin in a second. Pure.

/// Lets so many through in a second, and after a pause that many at once.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    per_s: u32,
    /// Thousandths of a session that may begin now.
    credit: u64,
    at_ms: u64,
}

impl Pace {
    /// So many in a second, from `now_ms` on; 0 for any number.
    pub(super) fn new(per_s: u32, now_ms: u64) -> Self {
        Self { per_s, credit: u64::from(per_s) * 1000, at_ms: now_ms }
    }

    /// Whether another one may begin now.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        if self.per_s == 0 {
            return true;
        }
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_s.into());
        self.credit = self.credit.saturating_add(gained).min(u64::from(self.per_s) * 1000);
        self.at_ms = self.at_ms.max(now_ms);
        let enough = self.credit >= 1000;
        if enough {
            self.credit -= 1000;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_held_up_without_a_limit() {
        let mut pace = Pace::new(0, 0);
        assert!((0..10_000).all(|_| pace.take(0)));
    }

    proptest! {
        /// In no span of time do more begin than its seconds allow and one second's burst.
        #[test]
        fn no_more_than_allowed(per_s in 1..50u32, pauses in prop::collection::vec(0..400u64, 1..300)) {
            let mut pace = Pace::new(per_s, 0);
            let mut now_ms = 0;
            let mut begun = Vec::new();
            for pause in pauses {
                now_ms += pause;
                if pace.take(now_ms) {
                    begun.push(now_ms);
                }
            }
            for (first, from) in begun.iter().enumerate() {
                for (last, to) in begun.iter().enumerate().skip(first) {
                    let allowed = u64::from(per_s) * 1000 + (to - from) * u64::from(per_s);
                    prop_assert!((last - first + 1) as u64 * 1000 <= allowed);
                }
            }
            // After a second of rest a whole second's worth may begin.
            prop_assert!((0..per_s).all(|_| pace.take(now_ms + 1000)));
            prop_assert!(!pace.take(now_ms + 1000));
        }
    }
}
