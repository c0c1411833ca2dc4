//! Removes flows that have ended.

use std::{sync::Arc, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{sync::watch, time::MissedTickBehavior};
use tracing::{debug, warn};

use super::{Agent, FLOW_WALK};
use crate::{config::Config, dataplane::ageing};

/// Walks the table now and then, for as long as the agent runs.
pub async fn keep(agent: Arc<Agent>, configuration: watch::Receiver<Arc<Config>>) {
    let mut ticks = tokio::time::interval(FLOW_WALK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let idle = Duration::from_secs(configuration.borrow().node.flow_idle_s.into());
        let agent = Arc::clone(&agent);
        // A full table takes a second or so of system calls.
        match tokio::task::spawn_blocking(move || agent.remove_ended_flows(idle)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => debug!(removed, "removed flows that have ended"),
            Ok(Err(error)) => warn!("cannot walk the flow table: {error:#}"),
            Err(_) => return,
        }
    }
}

impl Agent {
    /// Returns how many.
    fn remove_ended_flows(&self, idle: Duration) -> anyhow::Result<usize> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
        let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        let mut dataplane = self.dataplane.lock().expect("nothing panics with the lock held");
        let flows = &mut dataplane.maps.flows;
        let ended: Vec<_> = flows
            .iter()
            .filter_map(Result::ok)
            .filter(|(_, flow)| ageing::is_over(flow, now_ns, idle))
            .map(|(key, _)| key)
            .collect();
        let mut removed = 0;
        for key in ended {
            // Looked at once more: a new connection may have taken the 4-tuple since.
            if flows.get(&key, 0).is_ok_and(|flow| ageing::is_over(&flow, now_ns, idle)) && flows.remove(&key).is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }
}
