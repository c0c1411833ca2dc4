//! The demo: a fleet, a thousand users with open websockets, a push to every one of them; first the original bug, then
//! ringsteer. Then everybody talks and is pushed to without a pause, while the ring changes, a node is drained and its
//! gateway started again.
//!
//! * [`users`]: the users, their connections, and what each has seen;
//! * [`pushes`]: a push to every user, and what became of it;
//! * [`stream`]: pushes all the time;
//! * [`rings`]: what happens to the fleet meanwhile;
//! * [`report`]: the tables.

pub mod pushes;
pub mod report;
pub mod rings;
pub mod stream;
pub mod users;

use std::time::Duration;

use anyhow::{Result, ensure};
use ringsteer::ring::Identity;
use ringsteer_ebpf::layout::stats::Stats;

use crate::{
    fleet::{DIRECT_PUSH_PORT, Fleet, Options, host_names, ring_of},
    lab::{Etcd, Family, Lab},
};

/// How large a demo.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes, each with an agent and a gateway.
    pub nodes: usize,
    /// Users, each with one websocket.
    pub users: usize,
    /// Pushes a second while the ring changes.
    pub pushes_per_s: u32,
}

/// How long a user waits for a push that was reported delivered.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Runs it. What went wrong is listed beside the report; nothing, if every push of the steered part arrived where its
/// user is, and nobody noticed what happened to the rings.
pub fn run(size: Size, progress: impl Fn(&str)) -> Result<(report::Report, Vec<String>)> {
    progress(&format!("making the lab: {} nodes, clients, a router, a pusher, each a network namespace", size.nodes));
    let lab = Lab::builder().nodes(size.nodes).clients(1).stores(1).build()?;
    progress("starting etcd, and an agent and a gateway on each node");
    let etcd = Etcd::start(lab.store(0))?;
    // A lease that a busy machine does not lose.
    let endpoint = etcd.endpoint(Family::V4);
    let membership =
        format!("[membership]\nsource = \"etcd\"\nendpoints = [\"{endpoint}\"]\nlease_ttl_s = 30\ngrace_s = 60\n");
    let mut fleet = Fleet::start(&lab, &Options { membership: Some(membership), ..Options::default() })?;
    fleet.ring = rings::agreed(&fleet, &(0..size.nodes).collect())?;

    progress(&format!("connecting {} users through {}", size.users, fleet.websocket()));
    let users = users::connect(&fleet, size.users)?;

    // The original bug: the pusher's ring spells the nodes without port, and it dials the node it finds.
    progress("pushing as OpenIM does: by a ring of names without port");
    let names = host_names(size.nodes);
    let portless =
        ring_of(&lab, Family::V4, &names, |name| Identity::port_optional(name).expect("a name without port"))?;
    let by_portless = |user: &str| (portless.owner(user.as_bytes()).address.ip(), DIRECT_PUSH_PORT).into();
    let before = pushes::to_all(&fleet, &users, "portless", false, by_portless)?;
    progress("pushing the same way; gateways pass on what is another's");
    let passed_on = pushes::to_all(&fleet, &users, "passed-on", true, by_portless)?;

    progress(&format!("pushing through {}: steered by the kernel", fleet.push()));
    let after = pushes::to_all(&fleet, &users, "steered", true, |_| fleet.push())?;
    let arrived = users::arrivals(&fleet, &users, "steered", ARRIVAL);
    let arrived_passed_on = users::arrivals(&fleet, &users, "passed-on", ARRIVAL);
    let arrived_before = users::arrivals(&fleet, &users, "portless", ARRIVAL);

    let mut counters: Stats = bytemuck::Zeroable::zeroed();
    for node in 0..size.nodes {
        let status = lab.router().block_on(fleet.status(node))?;
        report::add_counters(&mut counters, &status.counters)?;
    }
    ensure!(
        arrived_before == before.delivered,
        "{arrived_before} users saw a push that {} were told of",
        before.delivered
    );
    let mut failures = Vec::new();
    let all = |outcome: &pushes::Outcome, arrived| outcome.delivered == size.users && arrived == size.users;
    if !all(&after, arrived) || after.forwarded > 0 {
        failures.push("steered pushes were misrouted or lost".to_owned());
    }
    if !all(&passed_on, arrived_passed_on) || passed_on.forwarded != before.misrouted {
        failures.push("pushes to the wrong nodes were not passed on".to_owned());
    }
    let changed = rings::run(&fleet, &users, size.pushes_per_s, progress)?;
    failures.extend(changed.failures());
    let report = report::Report::new(&fleet, &users, [before, passed_on, after], arrived, counters, changed);
    Ok((report, failures))
}
