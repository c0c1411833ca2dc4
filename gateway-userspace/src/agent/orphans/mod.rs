//! Tells clients whose node has left the ring, so that they connect anew at once instead of waiting out a timeout.
//!
//! A node that dies leaves the ring when its lease or endpoint goes, and so does one that an operator takes out without
//! draining it; both are the same to its clients, for nothing they send reaches it any more. Flows whose node is no
//! member any more are orphans. This edge finds its own and ends each with a RST.
//!
//! * [`pace`]: how fast, pure;
//! * [`reset`]: one RST.
//!
//! The kernel program answers whatever an orphan's client sends with a RST of its own (`rst_node_gone`). That also
//! reaches a client that has received more than it had acknowledged, to which ours looked stale. So the flow stays, as
//! one that is closing, and is removed like others that are.

mod pace;
mod reset;

use std::{
    net::SocketAddr,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    thread::sleep,
    time::Instant,
};

use anyhow::{Context as _, Result};
use aya::maps::MapError;
use ringsteer_ebpf::layout::flow::{Flow, FlowKey};
use tokio::{sync::watch, task::spawn_blocking};
use tracing::{debug, info, warn};

use self::pace::Pace;
use super::{in_force::InForce, shared::Agent};
use crate::{dataplane::readings::Flows, inspect, random::Spread};

/// Looks for orphans with each new ring, and once at the start, for as long as the agent runs.
pub(super) async fn keep(agent: Arc<Agent>) {
    let mut rings = agent.in_force.subscribe();
    // The ring that the agent begins with may have changed while there was none.
    rings.mark_changed();
    while rings.changed().await.is_ok() {
        let in_force = Arc::clone(&rings.borrow_and_update());
        let (worker, news) = (Arc::clone(&agent), rings.clone());
        match spawn_blocking(move || worker.tell_orphans(&in_force, &news)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                agent.counters.walk_errors.add(1);
                warn!("cannot look for clients whose node is gone: {error:#}");
            }
            Err(_) => return,
        }
    }
}

impl Agent {
    /// Tells the clients of all orphans. Breaks off when there is `news`: those not told yet are found again then.
    fn tell_orphans(&self, in_force: &InForce, news: &watch::Receiver<Arc<InForce>>) -> Result<()> {
        let mut orphans = Vec::new();
        self.readings.flows.each(|key, flow| {
            // One that is closing has been told, or ends anyhow. One that no packet has come for enters the fleet elsewhere.
            if flow.closing == 0 && flow.packets > 0 && in_force.is_orphan(flow.node, flow.bound_ns) {
                orphans.push(*key);
            }
            ControlFlow::Continue(())
        })?;
        if orphans.is_empty() {
            return Ok(());
        }
        let seed = Spread::seed();
        info!(clients = orphans.len(), seed, "resetting clients whose node is no member any more");
        Spread::new(seed).shuffle(&mut orphans);
        let services = inspect::flows::names(&self.readings, &self.config().services)?;
        let mut flows = self.readings.flow_changes()?;
        let (pace, began) = (Pace::new(orphans.len()), Instant::now());
        let mut waiting = orphans.iter();
        while !waiting.as_slice().is_empty() {
            let told = orphans.len() - waiting.len();
            for key in waiting.by_ref().take(pace.due(began.elapsed()) - told) {
                let service = services.get(&key.service).map(|(address, _)| *address);
                match tell(&mut flows, in_force, key, service) {
                    Ok(true) => self.counters.clients_reset.add(1),
                    Ok(false) => {}
                    Err(error) => {
                        self.counters.reset_errors.add(1);
                        debug!("cannot reset a client whose node is gone: {error:#}");
                    }
                }
            }
            if news.has_changed().unwrap_or(true) || self.stopping.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !waiting.as_slice().is_empty() {
                sleep(pace.step());
            }
        }
        Ok(())
    }
}

/// Tells one client, unless it has been told or has a new connection on the same addresses and ports.
fn tell(flows: &mut Flows, in_force: &InForce, key: &FlowKey, service: Option<SocketAddr>) -> Result<bool> {
    let flow = match flows.get(key, 0) {
        Ok(flow) => flow,
        Err(MapError::KeyNotFound) => return Ok(false),
        Err(error) => return Err(error).context("cannot read the flow"),
    };
    if flow.closing != 0 || !in_force.is_orphan(flow.node, flow.bound_ns) {
        return Ok(false);
    }
    // Before the RST: after it, the client may bind a new flow under this key, which must not be overwritten.
    flows.insert(key, Flow { closing: 1, ..flow }, BPF_EXIST).context("cannot mark the flow")?;
    let service = service.context("its service is gone, too")?;
    let client = SocketAddr::new(inspect::address::unmapped(&key.client), key.client_port);
    reset::send(service, client, flow.last_ack).with_context(|| format!("{client}"))?;
    Ok(true)
}

/// Change it only if it is still there (`include/uapi/linux/bpf.h`).
const BPF_EXIST: u64 = 2;
