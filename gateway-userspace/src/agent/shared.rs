//! What the agent's tasks share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tracing::info;

use super::{counters::Counters, following::Trouble, in_force::InForce, moves::Moving, readiness, translate};
use crate::{
    config::{Config, Membership, Serve},
    control::{Gateways, ProgramStatus, Publication, SourceStatus},
    dataplane::{Dataplane, attach::Attached, readings::Readings},
    peer::{self, agreement::Agreement},
    ring::{Digest, MemberNumber, MemberState, Ring, RingName},
};

/// The running agent.
pub(super) struct Agent {
    /// For whoever writes the maps; nobody else waits for that.
    pub(super) dataplane: Mutex<Dataplane>,
    /// For everybody else.
    pub(super) readings: Readings,
    /// Where the programs are attached, once they are.
    pub(super) attached: OnceLock<Vec<Attached>>,
    pub(super) programs: Vec<ProgramStatus>,
    pub(super) started: Instant,
    pub(super) started_at: SystemTime,
    pub(super) configuration: watch::Sender<Arc<Config>>,
    pub(super) in_force: watch::Sender<Arc<InForce>>,
    pub(super) publications: watch::Sender<Option<Arc<Publication>>>,
    /// The source's name, and what is wrong with it.
    pub(super) source: Mutex<Source>,
    /// The state in which this node announces itself; see [`super::announced`].
    pub(super) announced: watch::Sender<MemberState>,
    pub(super) agreement: Mutex<Agreement>,
    pub(super) gateways: Arc<Gateways>,
    /// The ring that the gateways follow, and since when; and since when ours is in force.
    pub(super) gateway: Mutex<Gateway>,
    pub(super) network: OnceLock<peer::Network>,
    /// How long it took to publish the ring in force.
    pub(super) publishing_took: Mutex<Duration>,
    /// The shares of the ring of that digest: for some algorithms they take seconds to find.
    pub(super) shares: Mutex<Option<(Digest, Arc<Shares>)>>,
    pub(super) counters: Counters,
    /// Connections that go to another node.
    pub(super) moving: Moving,
    /// Set when the agent stops: threads that are at work end soon.
    pub(super) stopping: AtomicBool,
}

/// Where rings come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) trouble: Option<Trouble>,
    pub(super) troubles: u64,
    pub(super) rings: u64,
}

/// The share of each member, in ring order.
pub(super) type Shares = Vec<(MemberNumber, f64)>;

/// What the gateways follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gateway {
    pub(super) ring: Option<RingName>,
    pub(super) since: Duration,
    pub(super) ring_since: Duration,
}

// === impl Agent ===

impl Agent {
    /// The time since the start, which all of the agent counts by.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configuration.borrow())
    }

    pub(super) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    pub(super) fn agreement(&self) -> MutexGuard<'_, Agreement> {
        lock(&self.agreement)
    }

    /// Where rings come from, as others are told.
    pub(super) fn source_status(&self) -> SourceStatus {
        let Source { name, trouble, troubles, rings } = lock(&self.source).clone();
        let trouble_s = trouble.as_ref().map_or(0, |trouble| self.now().saturating_sub(trouble.since).as_secs());
        SourceStatus { name: name.into(), trouble: trouble.map(|trouble| trouble.what), trouble_s, troubles, rings }
    }

    /// Why others cannot rely on this node; nothing if they can.
    pub(super) fn unready(&self) -> Vec<String> {
        let ring = self.in_force().ring.as_ref().map(Ring::name);
        // A node without services of our gateway is to have none.
        let has_gateway = self.config().services.iter().any(|service| service.serve != Serve::None);
        let Gateway { ring: followed, since, ring_since } = *lock(&self.gateway);
        let gateway = has_gateway.then_some(readiness::GatewayFact { ring: followed, since, ring_since });
        readiness::reasons(&readiness::Facts { ring, agreement: &self.agreement(), gateway, now: self.now() })
    }

    /// Attaches the programs.
    pub(super) fn attach(&self) -> anyhow::Result<()> {
        let config = self.config();
        let mut dataplane = self.dataplane.lock().expect("nothing panics with the lock held");
        let attached = dataplane.attach(&config.node.interfaces, &translate::modes(config.node.xdp_mode))?;
        for one in &attached {
            let how = if one.replaced { "replaced the running programs on" } else { "attached to" };
            info!(interface = %one.interface, mode = ?one.mode, "{how} {}", one.interface);
        }
        // Empty: this is called once.
        let _ = self.attached.set(attached);
        drop(dataplane);
        self.say_what_is_steered();
        Ok(())
    }

    /// Logs what happens to packets from now on, if anything does: that takes programs and a ring.
    pub(super) fn say_what_is_steered(&self) {
        let in_force = self.in_force();
        let (Some(_), Some(ring)) = (self.attached.get(), &in_force.ring) else { return };
        let member = in_force.number.map_or("no member".to_owned(), |number| format!("member {number}"));
        info!(
            node = %self.config().node.name, epoch = ring.epoch().0, members = ring.members().len(),
            "steering by ring {} as {member}", ring.name()
        );
    }

    /// The shares of a ring, found once. May block.
    pub(super) fn shares(&self, ring: &Ring) -> Arc<Shares> {
        // Held meanwhile: whoever else wants to know waits for the same.
        let mut known = lock(&self.shares);
        match &*known {
            Some((digest, shares)) if *digest == ring.digest() => Arc::clone(shares),
            _ => {
                let shares = Arc::new(ring.shares());
                *known = Some((ring.digest(), Arc::clone(&shares)));
                shares
            }
        }
    }

    /// Whether agent and gateway are told to stop at the same time, and the gateway's sessions need the agent to get away.
    pub(super) fn outlives_its_gateways(&self) -> bool {
        matches!(self.config().membership, Membership::Kubernetes(_))
    }

    /// The kernel's counters, by name.
    pub(super) fn kernel_counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        Ok(self.readings.stats()?.named().map(|(name, value)| (name.into(), value)).collect())
    }
}

/// Locks what is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// CLOCK_TAI in milliseconds: what nodes have in common.
pub(super) fn tai_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_TAI).map_or(0, |now| now.tv_sec() as u64 * 1000 + now.tv_nsec() as u64 / 1_000_000)
}

/// CLOCK_MONOTONIC in nanoseconds: what the programs time flows by.
pub(super) fn monotonic_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
