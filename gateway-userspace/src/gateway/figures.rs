//! The figures of the gateway.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Shared;
use crate::{
    peer::counters::Counts,
    telemetry::{Figures, Subject},
};

/// Counted since the gateway's start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Sessions that began.
    opened: AtomicU64,
    /// Pushes that reached a session.
    delivered: AtomicU64,
    /// Pushes for users of ours without a session.
    offline: AtomicU64,
    /// Requests answered otherwise, by HTTP status.
    refused: Mutex<BTreeMap<u16, u64>>,
}

// === impl Counters ===

impl Counters {
    /// A session began.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A push reached so many sessions.
    pub(super) fn pushed(&self, sessions: usize) {
        let counter = if sessions > 0 { &self.delivered } else { &self.offline };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered with an error.
    pub(super) fn refused(&self, status: u16) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }
}

impl Shared {
    /// The links to the other gateways.
    fn links_figures(&self, figures: &mut Figures) {
        let links = self.links();
        let Counts { opened, messages, unknown_messages, failures } = links.counts();
        figures.gauge("gateway_links", "Other gateways to which a link is up", links.linked());
        figures.counter("gateway_links_opened", "Links with other gateways that came up", opened);
        figures.counter("gateway_messages", "Messages from other gateways", messages);
        figures.counter(
            "gateway_unknown_messages",
            "Messages from other gateways that this version does not know",
            unknown_messages,
        );
        figures.counters(
            "gateway_link_ends",
            "Links with other gateways that ended or never came up, by who made them (in, out) and why",
            failures.into_iter().map(|((way, reason), count)| {
                (vec![("way", way.name().to_owned()), ("reason", reason.to_owned())], count)
            }),
        );
    }
}

impl Subject for Shared {
    fn figures(&self) -> anyhow::Result<Figures> {
        let mut figures = Figures::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        figures.info("build_info", "The gateway's version", vec![("role", "gateway".into()), ("version", version)]);
        figures.gauge("ready", "1 if this gateway can let users in; /readyz says why not", self.unready().is_empty());
        let ring = self.published().map(|published| published.ring.clone());
        let epoch = ring.as_ref().map_or(0, |ring| ring.epoch().0);
        figures.gauge("ring_epoch", "Epoch of the ring that this gateway follows; 0 without one", epoch);
        figures.gauges(
            "ring_info",
            "The ring that this gateway follows",
            ring.map(|ring| (vec![("digest", ring.digest().to_string())], 1u64)),
        );
        let (users, sessions, slow) = {
            let table = self.sessions();
            (table.users(), table.sessions(), table.slow_consumers())
        };
        figures.gauge("users", "Users with a session here", users);
        figures.gauge("sessions", "Sessions of all users", sessions);
        figures.counter("slow_consumers", "Sessions closed because their clients took messages too slowly", slow);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { opened, delivered, offline, refused } = &self.counters;
        figures.counter("sessions_opened", "Sessions that began", count(opened));
        figures.counters(
            "pushes",
            "Pushes for users of this node, by whether a session took them",
            [("delivered", delivered), ("offline", offline)]
                .map(|(outcome, counter)| (vec![("outcome", outcome.to_owned())], count(counter))),
        );
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        figures.counters(
            "refusals",
            "Requests answered with an error, by HTTP status; 421 is for a user of another node",
            refused.into_iter().map(|(status, count)| (vec![("status", status.to_string())], count)),
        );
        self.links_figures(&mut figures);
        Ok(figures)
    }

    fn unready(&self) -> Vec<String> {
        if self.stopping.is_cancelled() {
            return vec!["the gateway is stopping".to_owned()];
        }
        match self.published() {
            Some(_) => vec![],
            None => vec!["the agent of this node has published no ring yet".to_owned()],
        }
    }
}
