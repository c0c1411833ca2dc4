//! The figures of the gateway.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Shared, openim::Watched};
use crate::{
    handoff,
    peer::counters::Counts,
    push::Outcome,
    telemetry::{Figures, Subject},
    websocket::close::CloseCode,
};

/// What can become of a push, as [`Outcome::name`] has it.
const OUTCOMES: [&str; 3] = ["delivered", "offline", "unknown"];

/// What can become of a client that comes to the wrong node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newcomer {
    /// It went to its owner before it was answered.
    Moved,
    /// It came here so.
    Taken,
    /// It could not go, and was told who its owner is.
    TurnedAway,
}

/// Their names.
const NEWCOMERS: [&str; 3] = ["moved", "taken", "turned_away"];

/// Counted since the gateway's start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Sessions that began.
    opened: AtomicU64,
    /// Users of pushes that came in here, by what became of that: see [`OUTCOMES`].
    pushes: [AtomicU64; 3],
    /// Users that other gateways were asked to push to.
    forwarded: AtomicU64,
    /// Users that other gateways asked us to push to.
    received: AtomicU64,
    /// Users of pushes that were made before.
    repeated: AtomicU64,
    /// Requests for a push without a valid token.
    unauthorized: AtomicU64,
    /// Requests answered otherwise, by HTTP status.
    refused: Mutex<BTreeMap<u16, u64>>,
    /// OpenIM's clients that were not let in, by the code they were told.
    logins_refused: Mutex<BTreeMap<u16, u64>>,
    /// Sessions closed for what their clients sent, by close code.
    violations: Mutex<BTreeMap<u16, u64>>,
    /// Sessions that another login has ended.
    kicked: AtomicU64,
    /// Clients that came to the wrong node, by what became of them: see [`NEWCOMERS`].
    newcomers: [AtomicU64; 3],
}

// === impl Counters ===

impl Counters {
    /// A session began.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A push to one user came in here, and this became of it.
    pub(super) fn pushed(&self, outcome: &Outcome) {
        let place = OUTCOMES.iter().position(|name| *name == outcome.name());
        self.pushes[place.expect("every outcome has a name")].fetch_add(1, Ordering::Relaxed);
    }

    /// Another gateway is asked to push to so many users.
    pub(super) fn push_forwarded(&self, users: usize) {
        self.forwarded.fetch_add(users as u64, Ordering::Relaxed);
    }

    /// Another gateway asks us to push to so many users.
    pub(super) fn push_received(&self, users: usize) {
        self.received.fetch_add(users as u64, Ordering::Relaxed);
    }

    /// A push to one user was made before, or is being made.
    pub(super) fn push_repeated(&self) {
        self.repeated.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody wanted to push without a valid token.
    pub(super) fn push_unauthorized(&self) {
        self.unauthorized.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered with an error.
    pub(super) fn refused(&self, status: u16) {
        count_by(&self.refused, status);
    }

    /// A client of OpenIM was not let in.
    pub(super) fn login_refused(&self, code: u16) {
        count_by(&self.logins_refused, code);
    }

    /// A session is closed for what its client sent.
    pub(super) fn violated(&self, code: CloseCode) {
        count_by(&self.violations, code.number());
    }

    /// This has become of a client that came to the wrong node.
    pub(super) fn newcomer(&self, what: Newcomer) {
        self.newcomers[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A session is ended by another login.
    pub(super) fn kicked(&self) {
        self.kicked.fetch_add(1, Ordering::Relaxed);
    }
}

fn count_by(counters: &Mutex<BTreeMap<u16, u64>>, key: u16) {
    *counters.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
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

impl Shared {
    /// Sessions that ended or never were, and those in motion.
    fn session_figures(&self, figures: &mut Figures) {
        let counted = |counts: &Mutex<BTreeMap<u16, u64>>, label: &'static str| {
            let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            counts.into_iter().map(|(key, count)| (vec![(label, key.to_string())], count)).collect::<Vec<_>>()
        };
        let Counters { logins_refused, violations, kicked, newcomers, .. } = &self.counters;
        let in_motion = self.sessions().in_motion();
        figures.gauge("sessions_in_motion", "Sessions that are being taken apart or put together", in_motion);
        figures.counters(
            "violations",
            "Sessions closed for what their clients sent, by close code",
            counted(violations, "code"),
        );
        figures.counters(
            "logins_refused",
            "Clients of OpenIM that were not let in, by the code they were told",
            counted(logins_refused, "code"),
        );
        figures.counters(
            "newcomers",
            "Clients that came to the wrong node and went to their owner before they were answered (moved), that came here \
             so (taken), or that could not go and were told who their owner is (turned_away)",
            NEWCOMERS.into_iter().zip(newcomers).map(|(outcome, counter)| {
                (vec![("outcome", outcome.to_owned())], counter.load(Ordering::Relaxed))
            }),
        );
        let kicked = kicked.load(Ordering::Relaxed);
        figures.counter("sessions_kicked", "Sessions that another login of their user has ended", kicked);
        figures.gauge("tokens_kicked", "Tokens that log nobody in any more, at any gateway", self.tokens_kicked());
    }
}

impl Shared {
    /// Clients that watch others.
    fn presence_figures(&self, figures: &mut Figures) {
        let Watched { users, watches, readers, streams, told, heard, refused } = self.watched();
        figures.gauge("users_watched", "Users whose status sessions here are told of", users);
        figures.gauge("watches", "The same, times sessions that are told", watches);
        figures.counter(
            "watches_refused",
            "Users that a session was not told of because too many are watched",
            refused,
        );
        figures.counter("statuses_told", "What sessions were told of users whom they watch", told);
        figures.gauge(
            "watched_elsewhere",
            "Users here or expected here, times gateways that are told of them",
            readers,
        );
        figures.counter("statuses_heard", "What other gateways have said of users who are watched here", heard);
        figures.counter(
            "watch_streams",
            "How often another gateway was asked for everything that is watched here: at first, and after each loss",
            streams,
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
        let Counters { opened, pushes, forwarded, received, repeated, unauthorized, refused, .. } = &self.counters;
        let moves = self.moves.get().map(handoff::Handle::progress).unwrap_or_default();
        let ways = [("moved", moves.moved), ("taken", moves.taken), ("failed", moves.failed), ("lost", moves.lost)];
        figures.counters(
            "moves",
            "Sessions that went to other nodes (moved), came from them (taken), could not be moved and stayed (failed), \
             or were lost with the gateway that had them last",
            ways.map(|(way, count)| (vec![("outcome", way.to_owned())], count)),
        );
        let handoff::Refusals { foreign, stale, ring, not_mine, broken } = moves.refused;
        let in_vain =
            [("foreign", foreign), ("stale", stale), ("ring", ring), ("not_mine", not_mine), ("broken", broken)];
        figures.counters(
            "moves_refused",
            "What other gateways said about moves that was refused and changed nothing, by reason: of a move in which they \
             have no part (foreign), of a life or a move that is over (stale), offers by a ring that is not in force here \
             (ring), of users of other nodes (not_mine) or of which no session could be made (broken), no message at all (malformed), from a node that no ring has \
             (stranger), more than there was room for (crowded)",
            in_vain
                .into_iter()
                .chain(self.misheard.by_reason())
                .map(|(reason, count)| (vec![("reason", reason.to_owned())], count)),
        );
        let under_way = [
            ("waiting", moves.waiting),
            ("moving", moves.moving),
            ("committed", moves.committed),
            ("arriving", moves.copies),
            ("stranded", moves.stranded),
        ];
        figures.gauges(
            "moves_under_way",
            "Sessions that belong to other nodes, and those on their way, by how far they have come",
            under_way.map(|(stage, count)| (vec![("stage", stage.to_owned())], count)),
        );
        if let Some(handle) = self.moves.get() {
            figures.histogram(
                "move_silence_seconds",
                "How long sessions that went to other nodes were silent: from their end here until they were told to go on there",
                handle.silence().histogram(),
            );
        }
        figures.gauge("moves_paused", "1 while no move begins because an operator wants it so", moves.paused);
        let moves_per_s = moves.moves_per_s.unwrap_or_default();
        figures.gauge("moves_rate_limit", "How many moves may begin in a second; 0 for any number", moves_per_s);
        figures.counter("sessions_opened", "Sessions that began", count(opened));
        figures.counters(
            "pushes",
            "Users of pushes that came in at this gateway, by what became of them: delivered to a session, offline, or \
             unknown because a node that may have one did not answer",
            OUTCOMES
                .into_iter()
                .zip(pushes)
                .map(|(outcome, counter)| (vec![("outcome", outcome.to_owned())], count(counter))),
        );
        figures.counter("pushes_forwarded", "Users of pushes that other gateways were asked for", count(forwarded));
        figures.counter("pushes_received", "Users of pushes that other gateways asked this one for", count(received));
        figures.counter("pushes_repeated", "Users of pushes that were not delivered twice", count(repeated));
        figures.counter("pushes_unauthorized", "Requests for a push without a valid token", count(unauthorized));
        let (remembered, crowded_out) = self.pushes.remembered();
        figures.gauge("pushes_remembered", "Pushes to a user each that are known by their ids", remembered);
        figures.counter(
            "pushes_forgotten_early",
            "Pushes forgotten before their time because there were too many: a repeat would be delivered twice",
            crowded_out,
        );
        self.session_figures(&mut figures);
        self.presence_figures(&mut figures);
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
        if self.leaving.is_cancelled() {
            return vec!["the gateway is stopping".to_owned()];
        }
        match self.published() {
            Some(_) => vec![],
            None => vec!["the agent of this node has published no ring yet".to_owned()],
        }
    }
}
