//! Removes flows that have ended.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use super::{
    FLOW_WALK,
    shared::{Agent, monotonic_ns},
};
use crate::dataplane::ageing;

/// Walks the table now and then, for as long as the agent runs.
pub(super) async fn keep(agent: Arc<Agent>) {
    let mut ticks = tokio::time::interval(FLOW_WALK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let walker = Arc::clone(&agent);
        match tokio::task::spawn_blocking(move || walker.remove_ended_flows()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => {
                agent.counters.flows_ended.add(removed);
                debug!(removed, "removed flows that have ended");
            }
            Ok(Err(error)) => {
                agent.counters.walk_errors.add(1);
                warn!("cannot walk the flow table: {error:#}");
            }
            Err(_) => return,
        }
    }
}

impl Agent {
    /// Returns how many.
    fn remove_ended_flows(&self) -> anyhow::Result<u64> {
        let idle = Duration::from_secs(self.config().node.flow_idle_s.into());
        let now_ns = monotonic_ns();
        let mut ended = Vec::new();
        self.readings.flows.each(|key, flow| {
            if ageing::is_over(flow, now_ns, idle) {
                ended.push(*key);
            }
            ControlFlow::Continue(())
        })?;
        let mut flows = self.readings.flow_changes()?;
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
