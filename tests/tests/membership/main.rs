//! A fleet whose members are kept in a store, from beginning to end: it comes up, a node joins, the store is away and
//! comes back, a node dies. With agents, gateways, real connections, and the same for every store.
//!
//! * `etcd`: a real one, on a host beside the nodes; the nodes announce themselves;
//! * `kubernetes`: the API server of `tests/api-server`, on such a host; the test says which pods there are, as the
//!   controllers of a cluster do.
//!
//! What each source of membership promises in detail is tested where it is written, by one contract for all. This is
//! about the whole: what stands in the store is what every kernel steers by.

mod etcd;
mod kubernetes;

use std::{
    io::ErrorKind,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{control, ring::Ring};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab},
    on_each_family,
    probe::{Options, Probe},
};

use crate::{etcd::InEtcd, kubernetes::InKubernetes};

/// Where a fleet's members and its ring are kept.
trait Store: Sized {
    /// Starts it on the lab's store host, empty.
    fn start(lab: &Lab, family: Family) -> Result<Self>;

    /// The agents' `[membership]`.
    fn membership(&self) -> String;

    /// What the agents find in their environment.
    fn environment(&self) -> Vec<(&'static str, PathBuf)>;

    /// These nodes, and no others, are there: where somebody else than the nodes says so.
    fn set_nodes(&self, lab: &Lab, nodes: &[usize]) -> Result<()>;

    /// The ring as it stands in the store.
    fn ring(&self, lab: &Lab) -> Result<Ring>;

    /// It can be reached no more.
    fn stop(&self) -> Result<()>;

    /// It can again, and has lost nothing.
    fn resume(&self, lab: &Lab) -> Result<()>;
}

/// Users that arrive at a time.
const ARRIVING: usize = 24;

/// The node that joins later. The first one is the edge.
const LATE: usize = 2;

/// How long sessions may take to follow a ring.
const LIMIT: Duration = Duration::from_secs(30);

/// The node that dies.
const DEAD: usize = 1;

fn a_fleet_lives_by_etcd(family: Family) -> Result<()> {
    live_by::<InEtcd>(family)
}

fn a_fleet_lives_by_kubernetes(family: Family) -> Result<()> {
    live_by::<InKubernetes>(family)
}

on_each_family!(a_fleet_lives_by_etcd, a_fleet_lives_by_kubernetes);

fn live_by<S: Store>(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).stores(1).build()?;
    let store = S::start(&lab, family)?;

    // It comes up.
    store.set_nodes(&lab, &[0, 1])?;
    let (membership, environment) = (Some(store.membership()), store.environment());
    let options = FleetOptions { membership, environment, first: Some(LATE), ..FleetOptions::all(family) };
    let mut fleet = Fleet::start(&lab, &options)?;
    let mut users = Users { family, held: Vec::new() };
    let first = agreed(&fleet, &store, &[0, 1]).context("when the fleet came up")?;
    users.arrive(&fleet, &first).context("when the fleet came up")?;

    // A node joins.
    fleet.start_next()?;
    store.set_nodes(&lab, &[0, 1, LATE])?;
    let grown = agreed(&fleet, &store, &[0, 1, LATE]).context("when a node had joined")?;
    ensure!(grown.epoch() > first.epoch());
    users.follow(&fleet, &grown).context("when a node had joined")?;
    users.arrive(&fleet, &grown).context("when a node had joined")?;
    ensure!(users.held.iter().any(|held| held.node == LATE), "nobody arrived at the new node");
    users.all_live().context("when a node had joined")?;

    // The store is away: the last ring stays in force, also for an agent that is started in the meantime.
    store.stop()?;
    let all = [0, 1, LATE];
    for node in all {
        lab.router().block_on(fleet.wait_for_status(node, |s| s.source.trouble.is_some() && s.readiness.ready))?;
    }
    users.arrive(&fleet, &grown).context("while the store was away")?;
    fleet.agents[0].kill()?;
    fleet.agents[0].restart()?;
    lab.router().block_on(fleet.wait_for_status(0, |s| s.source.trouble.is_some()))?;
    settled(&fleet, &all).context("after an agent had been started without the store")?;
    users.arrive(&fleet, &grown).context("after an agent had been started without the store")?;
    users.all_live().context("while the store was away")?;

    // It is back, and nothing has changed.
    store.resume(&lab)?;
    for node in all {
        lab.router().block_on(fleet.wait_for_status(node, |s| s.source.trouble.is_none()))?;
    }
    let same = agreed(&fleet, &store, &all).context("when the store was back")?;
    ensure!(same.name() == grown.name(), "the ring was {} and is {}", grown.name(), same.name());
    users.all_live().context("when the store was back")?;

    // A node dies.
    lab.node(DEAD).command("ip", &["link", "set", "eth0", "down"])?;
    fleet.agents[DEAD].kill()?;
    fleet.gateways[DEAD].kill()?;
    store.set_nodes(&lab, &[0, LATE])?;
    let (dead, live) = users.held.into_iter().partition(|held| held.node == DEAD);
    users = Users { family, held: live };
    let shrunk = agreed(&fleet, &store, &[0, LATE]).context("when a node had died")?;
    ensure!(shrunk.epoch() > same.epoch());
    let dead: Vec<Held> = dead;
    ensure!(!dead.is_empty(), "the node that died had no users");
    for mut held in dead {
        let end = held.probe.wait_for_end().with_context(|| format!("{} of the dead node", held.user))?;
        ensure!(end == Some(ErrorKind::ConnectionReset), "{} of the dead node was told {end:?}", held.user);
    }
    users.arrive(&fleet, &shrunk).context("when a node had died")?;
    users.all_live().context("when a node had died")
}

/// Waits until as many nodes are members, these are ready and their gateways follow the ring, and all know that the
/// others do.
fn settled(fleet: &Fleet<'_>, nodes: &[usize]) -> Result<()> {
    let others = nodes.len() as u32 - 1;
    for &node in nodes {
        let wanted = |status: &control::Status| {
            let Some(ring) = &status.ring else { return false };
            let follows = |gateway: &control::GatewayReport| {
                gateway.report.ring.is_some_and(|name| (name.epoch, name.digest) == (ring.epoch, ring.digest))
            };
            ring.members as usize == nodes.len()
                && status.peers.agrees == others
                && status.gateways.iter().any(follows)
                && status.readiness.ready
        };
        fleet.lab.router().block_on(fleet.wait_for_status(node, wanted))?;
    }
    Ok(())
}

/// Waits until these nodes are the members, and steer by the ring that stands in the store. Gives that ring.
fn agreed(fleet: &Fleet<'_>, store: &impl Store, nodes: &[usize]) -> Result<Ring> {
    settled(fleet, nodes)?;
    let stored = store.ring(fleet.lab)?;
    for &node in nodes {
        let ring = fleet.lab.router().block_on(fleet.ring_of(node))?;
        ensure!(ring.name() == stored.name(), "node {node} steers by {}, the store has {}", ring.name(), stored.name());
    }
    let identity = |&node: &usize| fleet.ring.members()[node].identity.clone();
    let (mut wanted, mut members): (Vec<_>, Vec<_>) =
        (nodes.iter().map(identity).collect(), stored.members().iter().map(|one| one.identity.clone()).collect());
    wanted.sort();
    members.sort();
    ensure!(members == wanted, "the members are {members:?}");
    Ok(stored)
}

/// The nodes whose gateways have a session of the user; each running one is asked about itself.
fn holders(fleet: &Fleet<'_>, user: &str) -> Result<Vec<usize>> {
    let mut holders = Vec::new();
    for (node, _) in fleet.agents.iter().enumerate().filter(|(_, agent)| agent.is_running()) {
        let sessions = fleet.lab.router().block_on(control::sessions(&fleet.socket(node), user, false))?;
        if sessions.nodes.iter().any(|one| one.here && !one.sessions.is_empty()) {
            holders.push(node);
        }
    }
    Ok(holders)
}

/// The node that owns the user by `ring`.
fn node_of(fleet: &Fleet<'_>, family: Family, ring: &Ring, user: &str) -> Result<usize> {
    let owner = ring.owner(user.as_bytes());
    (0..fleet.lab.nodes().len())
        .find(|&node| fleet.lab.node(node).address(family) == owner.address.ip())
        .context("the owner is none of the nodes")
}

/// Users with a connection.
struct Users {
    family: Family,
    held: Vec<Held>,
}

/// One of them.
struct Held {
    user: String,
    /// The node that holds the session.
    node: usize,
    probe: Probe,
}

impl Users {
    /// Some more connect, and each is on the owner that `ring` gives, and nowhere else.
    fn arrive(&mut self, fleet: &Fleet<'_>, ring: &Ring) -> Result<()> {
        for index in self.held.len()..self.held.len() + ARRIVING {
            let user = format!("user-{index}-{}", ring.epoch());
            let node = node_of(fleet, self.family, ring, &user)?;
            let probe = fleet.lab.client(0).run(|| Probe::open(fleet.websocket(), &user, Options::default()))?;
            let holders = holders(fleet, &user)?;
            ensure!(holders == [node], "{user} belongs to node {node} and is at {holders:?}");
            self.held.push(Held { user, node, probe });
        }
        Ok(())
    }

    /// Those who have another owner by `ring` are moved to it.
    fn follow(&mut self, fleet: &Fleet<'_>, ring: &Ring) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        for held in &mut self.held {
            held.node = node_of(fleet, self.family, ring, &held.user)?;
            loop {
                let holders = holders(fleet, &held.user)?;
                if holders == [held.node] {
                    break;
                }
                ensure!(Instant::now() < deadline, "{} belongs to node {}, is at {holders:?}", held.user, held.node);
            }
        }
        Ok(())
    }

    /// Every connection carries a message there and back.
    fn all_live(&mut self) -> Result<()> {
        self.held.iter_mut().try_for_each(|held| {
            held.probe.echo(100).with_context(|| format!("the connection of {} at node {}", held.user, held.node))
        })
    }
}
