//! What a dead agent has left behind: the maps in the kernel, by which packets are steered on, and the ring on disk. Only
//! read, never changed.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::{
    agent::last_ring,
    config::{Config, Service},
    control::{FlowEntry, FlowsEnd, KernelPlacement, Placement, ServiceStatus, Stats},
    dataplane::{
        inspect::{PinnedLink, links},
        readings::Readings,
    },
    inspect::{
        self,
        flows::Wanted,
        nodes::NodeEntry,
        placement::{algorithm, by_kernel, by_ring},
        rebuild,
    },
    ring::{Epoch, Ring, ShortDigest},
};

/// The maps, and what explains them.
pub struct Pinned {
    directory: PathBuf,
    readings: Readings,
    /// The services of the configuration, for their names.
    services: Vec<Service>,
    last_ring: PathBuf,
}

/// Where a user belongs, as far as it can be told.
pub struct Found {
    /// By the kernel's points.
    pub kernel: KernelPlacement,
    /// By the ring that these points are of, if its members are known.
    pub userspace: Option<Placement>,
    /// By the ring before, if that is known.
    pub previous: Option<Placement>,
}

/// The members as the maps have them.
pub struct Members {
    /// Epoch of the ring in the kernel.
    pub epoch: Epoch,
    /// Its digest, as far as the map has it.
    pub digest: ShortDigest,
    /// The nodes.
    pub nodes: Vec<NodeEntry>,
    /// How many flows each holds.
    pub held: HashMap<u32, u64>,
    /// The ring, if its members are known.
    pub ring: Option<Ring>,
}

impl Pinned {
    /// Opens what is pinned in `directory`, by an agent that listened on `socket`.
    ///
    /// # Errors
    /// If nothing is pinned there, or this user may not read it.
    pub fn open(directory: &Path, config: Option<&Config>, socket: &Path) -> Result<Self> {
        ensure!(
            directory.is_dir(),
            "nothing is pinned in {}; start `ringsteer agent`, which pins them there",
            directory.display()
        );
        let readings = Readings::open(directory).context("reading them takes root")?;
        Ok(Self {
            directory: directory.to_owned(),
            readings,
            services: config.map(|config| config.services.clone()).unwrap_or_default(),
            last_ring: last_ring::path(socket),
        })
    }

    /// Where they are pinned.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The counters.
    ///
    /// # Errors
    /// As the other questions: if the kernel refuses.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            taken_at_ms: monotonic_ns()? / 1_000_000,
            counters: self.readings.stats()?.named().map(|(name, value)| (name.into(), value)).collect(),
            flows: self.readings.flows.count().context("cannot walk the flow table")?,
            max_flows: self.readings.max_flows()?,
        })
    }

    /// The links that hold the programs on interfaces.
    pub fn links(&self) -> Result<Vec<PinnedLink>> {
        links(&self.directory).context("cannot read the pinned links")
    }

    /// What is steered.
    pub fn services(&self) -> Result<Vec<ServiceStatus>> {
        inspect::services::all(&self.readings, &self.services)
    }

    /// The flows `wanted`; of this `user`, if one is given.
    pub fn flows(&self, wanted: &Wanted, user: Option<&str>) -> Result<(Vec<FlowEntry>, FlowsEnd)> {
        let mut wanted = wanted.clone();
        if let Some(user) = user {
            wanted.key_hash = Some(algorithm(&*self.readings.ring_in_force()?)?.hash_key(user.as_bytes()));
        }
        let mut flows = Vec::new();
        let end = inspect::flows::each(&self.readings, &self.services, &wanted, monotonic_ns()?, |flow| {
            flows.push(flow);
            ControlFlow::Continue(())
        })?;
        Ok((flows, end))
    }

    /// The members.
    pub fn members(&self) -> Result<Members> {
        let image = self.readings.ring_in_force()?;
        let mut held: HashMap<u32, u64> = HashMap::new();
        let walked = self.readings.flows.each(|_, flow| {
            *held.entry(flow.node).or_default() += 1;
            ControlFlow::Continue(())
        });
        walked.context("cannot walk the flow table")?;
        let (epoch, digest) = (Epoch(image.epoch), ShortDigest::from(image.digest));
        let ring = self.rings().ok().map(|(ring, _)| ring).filter(|ring| rebuild::is_it(ring, &image));
        Ok(Members { epoch, digest, nodes: self.nodes()?, held, ring })
    }

    /// The nodes that the maps name.
    pub fn nodes(&self) -> Result<Vec<NodeEntry>> {
        inspect::nodes::all(&self.readings)
    }

    /// Where `user` belongs.
    pub fn find(&self, user: &str) -> Result<Found> {
        let image = self.readings.ring_in_force()?;
        let kernel = by_kernel(&image, &self.readings, user)?;
        let rings = self.rings().ok().filter(|(ring, _)| rebuild::is_it(ring, &image));
        let place = |ring: &Ring| by_ring(ring, user);
        let userspace = rings.as_ref().map(|(current, _)| place(current));
        let previous = rings.as_ref().and_then(|(_, previous)| previous.as_ref().map(place));
        Ok(Found { kernel, userspace, previous })
    }

    /// The ring in the kernel, with its members, and the one before it. The agent has written both down; where that is gone
    /// the maps may still tell the first.
    pub fn rings(&self) -> Result<(Ring, Option<Ring>)> {
        let image = self.readings.ring_in_force()?;
        // Written before the maps are: an agent that died in between has left a file that is one ring ahead.
        let kept = match last_ring::read(&self.last_ring) {
            Ok(Some((current, previous))) if rebuild::is_it(&current, &image) => Some((current, previous)),
            Ok(Some((_, Some(previous)))) if rebuild::is_it(&previous, &image) => Some((previous, None)),
            _ => None,
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let ring = rebuild::ring(&image, &self.nodes()?).with_context(|| {
            format!(
                "they hold ring {} of epoch {} but not the order of its members, and {} does not have it; `ringsteer nodes` \
                 lists what they hold",
                ShortDigest::from(image.digest),
                image.epoch,
                self.last_ring.display()
            )
        })?;
        Ok((ring, None))
    }
}

/// CLOCK_MONOTONIC, by which the programs time flows.
fn monotonic_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
