//! Keeps what is published what the source and the configuration say: the only place that writes the maps.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tracing::{error, info, warn};

use super::{
    following::{Following, Step},
    in_force::InForce,
    last_ring::{self, LastRing},
    shared::{Agent, Source, lock, monotonic_ns},
    translate,
};
use crate::{
    config::{self, Config},
    control::Publication,
    dataplane::publish::{self, State},
    doctor::preflight,
    membership::Event,
    ring::Ring,
};

/// How long to wait before trying again to publish what could not be published.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// Publishes.
pub(super) struct Keeper {
    agent: Arc<Agent>,
    following: Following,
    /// What the next start goes on with.
    last_ring: LastRing,
    /// A ring that could not be published yet.
    pending: Option<Ring>,
}

impl Keeper {
    /// Goes on with the last ring, if this node had one.
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        let path = last_ring::path(&agent.config().node.socket);
        let following = match last_ring::read(&path) {
            Ok(Some((current, previous))) => {
                info!("going on with ring {}", current.name());
                Following::restored(current, previous)
            }
            Ok(None) => Following::default(),
            Err(error) => {
                warn!("{error:#}; the kernel goes on with the ring it has until the source tells one");
                Following::default()
            }
        };
        Self { agent, following, last_ring: LastRing::new(path), pending: None }
    }

    /// Publishes what is known before the source has said anything, so that configuration and maps agree from the
    /// start.
    ///
    /// # Errors
    /// If it cannot be put into the maps.
    pub(super) fn begin(&mut self) -> Result<()> {
        let config = self.agent.config();
        let current = self.following.current().map(Ring::epoch);
        match config.ring().filter(|ring| current.is_none_or(|current| ring.epoch() > current)) {
            Some(ring) => self.publish(&config, ring.clone()),
            None => self.republish(&config),
        }
    }

    /// The source has told something.
    pub(super) fn hear(&mut self, event: Event) {
        match self.following.hear(event, self.agent.now()) {
            Step::Publish(ring) => self.try_to_publish(ring),
            Step::Complain(what) => warn!("{what}"),
            Step::Relieve => info!("the source of membership is well again"),
            Step::Nothing => {}
        }
        self.show();
    }

    /// Whether something waits to be tried again.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Tries again.
    pub(super) fn retry(&mut self) {
        if let Some(ring) = self.pending.take() {
            self.try_to_publish(ring);
            self.show();
        }
    }

    fn try_to_publish(&mut self, ring: Ring) {
        let name = ring.name();
        match self.publish(&self.agent.config(), ring.clone()) {
            Ok(()) => self.pending = None,
            Err(error) => {
                error!("cannot publish ring {name}: {error:#}; the one before stays, and this one is tried again");
                self.agent.counters.publish_errors.add(1);
                self.pending = Some(ring);
            }
        }
    }

    /// The configuration in the file at `path` comes into force, except for what is fixed while the agent runs.
    ///
    /// # Errors
    /// If it cannot be used; everything stays as it was then.
    pub(super) fn reload(&mut self, path: &Path) -> Result<()> {
        let new = Config::load(path)?;
        let old = self.agent.config();
        anyhow::ensure!(
            fixed(&new) == fixed(&old),
            "interfaces, pin_dir, socket, max_flows, handshake_slot_shift, identity, `[membership]`, `[peers]` and \
             `[metrics]` change only when the agent is restarted"
        );
        self.republish(&new)?;
        self.agent.configuration.send_replace(Arc::new(new));
        Ok(())
    }

    /// Puts `ring` in force.
    fn publish(&mut self, config: &Config, ring: Ring) -> Result<()> {
        let began = Instant::now();
        let before = self.following.current().cloned();
        // Before the maps: what they hold must be known at the next start.
        if let Err(error) = self.last_ring.write(&ring, before.as_ref()) {
            warn!("{error:#}");
        }
        let in_force = InForce::new(config, Some(&ring), before.as_ref(), &self.agent.in_force(), monotonic_ns());
        self.write(config, &in_force)?;
        *lock(&self.agent.publishing_took) = began.elapsed();
        self.following.published(ring);
        self.tell(config, in_force);
        Ok(())
    }

    /// Puts what is in force into the maps once more, by another configuration.
    fn republish(&mut self, config: &Config) -> Result<()> {
        let (ring, previous) = (self.following.current(), self.following.previous());
        let in_force = InForce::new(config, ring, previous, &self.agent.in_force(), monotonic_ns());
        self.write(config, &in_force)?;
        self.tell(config, in_force);
        Ok(())
    }

    fn write(&self, config: &Config, in_force: &InForce) -> Result<()> {
        if let Some(ring) = &in_force.ring {
            translate::check_nodes(ring)?;
        }
        if let Some(address) = in_force.address {
            preflight::forwarding(config, address.ip())?;
        }
        let services = translate::services(config)?;
        let secrets = config.secrets()?.to_kernel();
        let mut dataplane = self.agent.dataplane.lock().expect("nothing panics with the lock held");
        let maps = &mut dataplane.maps;
        // Waits for programs that run, and so may block for some milliseconds.
        tokio::task::block_in_place(|| match &in_force.ring {
            Some(ring) => {
                let state = State {
                    ring,
                    previous: in_force.previous.as_ref(),
                    this: in_force.this(),
                    tunnel_port: config.node.tunnel_port,
                    secrets,
                    services: &services,
                };
                publish::publish(maps, &state)
            }
            None => publish::write_secrets(maps, secrets),
        })
        .context("cannot write the maps")
    }

    /// Tells everybody here what is in force.
    fn tell(&self, config: &Config, in_force: InForce) {
        let changed = in_force.ring.as_ref().map(Ring::name) != self.agent.in_force().ring.as_ref().map(Ring::name);
        let publication = in_force.ring.as_ref().map(|ring| {
            let services = config.services.clone();
            let publication = Publication::new(in_force.number, ring, in_force.previous.as_ref(), services);
            // Known also where the ring does not have us.
            Arc::new(Publication { address: in_force.address, ..publication })
        });
        if changed {
            lock(&self.agent.gateway).ring_since = self.agent.now();
        }
        self.agent.in_force.send_replace(Arc::new(in_force));
        self.agent.publications.send_replace(publication);
        if changed {
            self.agent.say_what_is_steered();
        }
    }

    /// Shows how the source is.
    fn show(&self) {
        let (troubles, rings) = self.following.counts();
        let mut source = lock(&self.agent.source);
        *source = Source { name: source.name, trouble: self.following.trouble().cloned(), troubles, rings };
    }
}

/// What stays as it was when the agent started.
fn fixed(config: &Config) -> impl PartialEq + use<> {
    let config::Node { interfaces, pin_dir, socket, max_flows, handshake_slot_shift, identity, .. } =
        config.node.clone();
    let node = (interfaces, pin_dir, socket, max_flows, handshake_slot_shift, identity);
    (node, config.membership.clone(), config.peers.clone(), config.metrics.clone())
}
