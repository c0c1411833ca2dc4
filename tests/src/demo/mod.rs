//! The demo: a fleet, a thousand users with open websockets, a push to every one of them; first the original bug, then
//! ringsteer; then the fleet changes its size while new users arrive.
//!
//! * [`users`]: the users and their connections;
//! * [`pushes`]: pushes, and what became of them;
//! * [`resize`]: one node, five, three, with connections arriving all the time;
//! * [`report`]: the tables.

pub mod pushes;
pub mod report;
pub mod resize;
pub mod users;

use std::time::Duration;

use anyhow::{Result, ensure};
use ringsteer::ring::Identity;
use ringsteer_ebpf::layout::stats::Stats;

use crate::{
    fleet::{DIRECT_PUSH_PORT, Fleet, Options, host_names, ring_of},
    lab::{Family, Lab},
};

/// How large a demo.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes, each with an agent and a gateway.
    pub nodes: usize,
    /// Users, each with one websocket.
    pub users: usize,
}

/// How long a user waits for a push that was reported delivered.
const ARRIVAL: Duration = Duration::from_secs(10);

/// Runs it. `Ok(true)` if every push of the steered part arrived where its user is, and every connection of the resized
/// fleet is on its owner.
pub fn run(size: Size, progress: impl Fn(&str)) -> Result<(report::Report, bool)> {
    progress(&format!("making the lab: {} nodes, clients, a router, a pusher, each a network namespace", size.nodes));
    let lab = Lab::builder().nodes(size.nodes).clients(1).build()?;
    progress("starting an agent and a gateway on each node");
    let fleet = Fleet::start(&lab, &Options { ring_file: true, ..Options::default() })?;

    progress(&format!("connecting {} users through {}", size.users, fleet.websocket()));
    let mut users = users::connect(&fleet, size.users)?;

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
    let arrived = users::arrivals(&fleet, &mut users, "steered", ARRIVAL);
    let arrived_passed_on = users::arrivals(&fleet, &mut users, "passed-on", ARRIVAL);
    let arrived_before = users::arrivals(&fleet, &mut users, "portless", ARRIVAL);

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
    let resized = resize::run(&fleet, progress)?;
    let all = |outcome: &pushes::Outcome, arrived| outcome.delivered == size.users && arrived == size.users;
    let right = all(&after, arrived)
        && after.forwarded == 0
        && all(&passed_on, arrived_passed_on)
        && passed_on.forwarded == before.misrouted
        && resized.is_right();
    let report = report::Report::new(&fleet, &users, [before, passed_on, after], arrived, counters, resized);
    Ok((report, right))
}
