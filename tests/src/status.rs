//! What tests wait for in a node's status ([`Fleet::wait_for_status`](crate::fleet::Fleet::wait_for_status)).

use ringsteer::{
    control::{GatewayReport, Status},
    ring::Ring,
};

/// Whether agent and gateway of a node follow `ring`.
pub fn follows(ring: &Ring) -> impl Fn(&Status) -> bool {
    let name = ring.name();
    move |status| {
        let gateway = |gateway: &GatewayReport| gateway.report.ring == Some(name);
        status.ring.as_ref().is_some_and(|ring| ring.epoch == name.epoch)
            && !status.gateways.is_empty()
            && status.gateways.iter().all(gateway)
    }
}

/// Whether the node's gateway follows `ring`, and has exactly so many sessions.
pub fn has(ring: &Ring, sessions: u64) -> impl Fn(&Status) -> bool {
    let name = ring.name();
    move |status| {
        let gateway = |one: &GatewayReport| one.report.ring == Some(name) && one.report.sessions == sessions;
        !status.gateways.is_empty() && status.gateways.iter().all(gateway)
    }
}
