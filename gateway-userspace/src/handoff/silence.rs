//! How long sessions are silent while they move, as their old owner sees it: from when one was told to stop until its new
//! owner has said that it goes on there. What is on the way in the network at either end comes to that for its client.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

/// Bounds of what is told apart, in seconds. A client that was told to say again what it said waits for 0.2 at least
/// (`TCP_RTO_MIN` of Linux), a word that was lost is said again after 0.5.
const BOUNDS: [f64; 19] = [
    0.000_5, 0.001, 0.001_5, 0.002, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.3,
    0.5, 1.0,
];

/// All of them, since the gateway began.
#[derive(Clone, Debug)]
pub struct Silence(Histogram);

// === impl Silence ===

impl Silence {
    pub(super) fn new() -> Self {
        Self(Histogram::new(BOUNDS))
    }

    /// One more, so long.
    pub(super) fn note(&self, silence: Duration) {
        self.0.observe(silence.as_secs_f64());
    }

    /// As Prometheus takes it, in seconds.
    pub fn histogram(&self) -> &Histogram {
        &self.0
    }
}
