//! Randomness that a failing test can replay.

/// The environment variable that fixes the seed.
pub const VARIABLE: &str = "RINGSTEER_SEED";

/// A seed from [`VARIABLE`], or a fresh one; printed, so that the output of a failed test says how to replay it.
///
/// # Panics
/// If the variable is set to something else than a number.
pub fn from_environment() -> u64 {
    let seed = match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is not a number below 2^64")),
        Err(_) => fastrand::u64(..),
    };
    eprintln!("seed: replay with {VARIABLE}={seed}");
    seed
}
