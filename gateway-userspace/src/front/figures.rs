//! The figures of the front.

use std::sync::{
    PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use ringsteer_batch::{Status, UserResult};

use super::Shared;
use crate::telemetry::{Figures, Subject};

/// Counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    messages: AtomicU64,
    delivered: AtomicU64,
    offline: AtomicU64,
    unknown: AtomicU64,
    steered: AtomicU64,
    misdirected: AtomicU64,
    retried: AtomicU64,
    unauthorized: AtomicU64,
}

// === impl Counters ===

impl Counters {
    /// A message is done.
    pub(super) fn pushed(&self, results: &[UserResult]) {
        self.messages.fetch_add(1, Relaxed);
        for result in results {
            let counter = match result.status {
                Status::Delivered => &self.delivered,
                Status::Offline => &self.offline,
                Status::Unknown => &self.unknown,
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// The owner itself answered for so many users.
    pub(super) fn steered(&self, users: usize) {
        self.steered.fetch_add(users as u64, Relaxed);
    }

    /// Another node answered for them.
    pub(super) fn misdirected(&self, users: usize) {
        self.misdirected.fetch_add(users as u64, Relaxed);
    }

    /// A batch had no answer, and is sent again.
    pub(super) fn retried(&self) {
        self.retried.fetch_add(1, Relaxed);
    }

    /// Somebody wanted to push without a valid token.
    pub(super) fn unauthorized(&self) {
        self.unauthorized.fetch_add(1, Relaxed);
    }
}

impl Subject for Shared {
    fn figures(&self) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        figures.info("build_info", "The front's version", vec![("role", "front".into()), ("version", version)]);
        figures.gauge("ready", "1 if this front can push; /readyz says why not", self.unready().is_empty());
        let epoch = self.published.borrow().as_ref().map_or(0, |published| published.ring.epoch().0);
        figures.gauge("ring_epoch", "Epoch of the ring that this front follows; 0 without one", epoch);
        let counters = &self.counters;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        figures.counter("front_messages", "Messages taken", count(&counters.messages));
        figures.counters(
            "front_users",
            "Users of all messages, by what became of the push to them",
            [("delivered", &counters.delivered), ("offline", &counters.offline), ("unknown", &counters.unknown)]
                .map(|(outcome, counter)| (vec![("outcome", outcome.to_owned())], count(counter))),
        );
        figures.counters(
            "front_answers",
            "Users of all batches, by who answered: their owner, to whom the kernel steered the batch, or another node, \
             which passed it on",
            [("owner", &counters.steered), ("another", &counters.misdirected)]
                .map(|(who, counter)| (vec![("from", who.to_owned())], count(counter))),
        );
        figures.counter("front_retries", "Batches that had no answer and were sent again", count(&counters.retried));
        figures.counter("front_unauthorized", "Requests without a valid token", count(&counters.unauthorized));
        let webhook = self.webhook.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(webhook) = &*webhook {
            let calls = &webhook.counters;
            figures.gauge("webhook_waiting", "Calls of the webhook that wait for their turn", webhook.waiting());
            figures.counters(
                "webhook_calls",
                "Calls of the webhook, by what became of them: heard; refused by it; lost after too many attempts; \
                 dropped because too many waited",
                [
                    ("heard", &calls.delivered),
                    ("refused", &calls.refused),
                    ("lost", &calls.lost),
                    ("dropped", &calls.dropped),
                ]
                .map(|(outcome, counter)| (vec![("outcome", outcome.to_owned())], count(counter))),
            );
            figures.counter("webhook_failures", "Attempts at calls that came to nothing", count(&calls.failed));
        }
        Ok(figures)
    }

    fn unready(&self) -> Vec<String> {
        if self.stopping.is_cancelled() {
            return vec!["the front is stopping".to_owned()];
        }
        match &*self.published.borrow() {
            Some(_) => vec![],
            None => vec!["no agent has published a ring yet".to_owned()],
        }
    }
}
