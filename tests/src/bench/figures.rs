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

#[cfg(test)]
mod tests {
    use super::Figures;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let figures = Figures::new(vec![9, 1, 5]);
        assert_eq!(figures.median(), 5);
        assert_eq!(figures.to_string(), "     5      1      9");
    }
}
