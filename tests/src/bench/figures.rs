//! Medians and tables.

use std::fmt;

/// What several batches took, in nanoseconds per packet, in ascending order.
pub struct Figures(Vec<u64>);

impl Figures {
    /// Of at least one batch.
    pub fn new(mut batches_ns: Vec<u64>) -> Self {
        assert!(!batches_ns.is_empty());
        batches_ns.sort_unstable();
        Self(batches_ns)
    }

    /// Half of the batches were at most this slow.
    pub fn median(&self) -> u64 {
        self.0[self.0.len() / 2]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}  {:>5}  {:>5}", self.median(), self.0[0], self.0[self.0.len() - 1])
    }
}

/// The value that so many of a hundred do not exceed; of values in ascending order, at least one.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::{Figures, percentile};

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([1, 50, 99, 100].map(|percent| percentile(&values, percent)), [2, 100, 198, 200]);
        assert_eq!([0, 50, 100].map(|percent| percentile(&[7], percent)), [7, 7, 7]);
    }

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let figures = Figures::new(vec![9, 1, 5]);
        assert_eq!(figures.median(), 5);
        assert_eq!(figures.to_string(), "     5      1      9");
    }
}
