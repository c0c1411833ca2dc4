//! How the agent and its programs are.

use std::time::UNIX_EPOCH;

use anyhow::Result;

use crate::{
    agent::shared::{Agent, monotonic_ns},
    control::{AttachedMode, InterfaceStatus, RingStatus, Stats, Status},
    dataplane::attach::Mode,
    ring::{Ring, RingName},
};

impl Agent {
    pub(in crate::agent) fn status(&self) -> Result<Status> {
        let (config, in_force) = (self.config(), self.in_force());
        let peers = self.agreement().tally();
        let ring = |ring: &Ring| RingStatus {
            epoch: ring.epoch(),
            digest: ring.digest(),
            algorithm: ring.algorithm(),
            members: ring.members().len() as u32,
            state: in_force.number.and_then(|number| ring.member(number)).map(|member| member.state),
            previous: in_force.previous.as_ref().map(Ring::name),
        };
        Ok(Status {
            node: in_force.number,
            name: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at_unix_s: self.started_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            readiness: self.unready().into(),
            ring: in_force.ring.as_ref().map(ring),
            source: self.source_status(),
            peers,
            gateways: self.gateways.reports(),
            mode: config.node.mode,
            pin_dir: config.node.pin_dir.clone(),
            interfaces: self
                .attached
                .get()
                .into_iter()
                .flatten()
                .map(|one| InterfaceStatus {
                    name: one.interface.clone(),
                    xdp_mode: match one.mode {
                        Mode::Native => AttachedMode::Native,
                        Mode::Generic => AttachedMode::Generic,
                    },
                })
                .collect(),
            programs: self.programs.clone(),
            flows: self.readings.flows.count()?,
            max_flows: config.node.max_flows.into(),
            counters: self.kernel_counters()?,
        })
    }

    pub(in crate::agent) fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            taken_at_ms: monotonic_ns() / 1_000_000,
            counters: self.kernel_counters()?,
            flows: self.readings.flows.count()?,
            max_flows: self.config().node.max_flows.into(),
        })
    }

    /// The name of the ring in force.
    pub(in crate::agent) fn ring_name(&self) -> Option<RingName> {
        self.in_force().ring.as_ref().map(Ring::name)
    }
}
