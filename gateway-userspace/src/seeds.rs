//! The seeds of simulations in tests, and what to say when one of them fails.

/// The seed that replays a simulation.
const VARIABLE: &str = "RINGSTEER_SEED";

/// The first `count` seeds, or the one that is to be replayed.
///
/// # Panics
/// If that one is no number.
pub fn seeds(count: u64) -> Vec<u64> {
    match std::env::var(VARIABLE) {
        Ok(seed) => vec![seed.parse().expect("RINGSTEER_SEED is a number")],
        Err(_) => (0..count).collect(),
    }
}

/// Prints where it happened when a test panics.
pub struct Place {
    /// Of the simulation.
    pub seed: u64,
    /// So far.
    pub step: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in step {}; {VARIABLE}={} replays it", self.step, self.seed);
        }
    }
}
