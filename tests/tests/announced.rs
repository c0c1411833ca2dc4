//! Nodes that announce themselves in etcd: what dies leaves with its lease, and what drains keeps what it has.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control,
    ring::{Identity, MemberState, Ring},
};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Etcd, Family, Lab},
    probe::{Options, Probe},
    scrape::{AGENT, Scrape},
};

/// Clients of each node.
const CLIENTS: usize = 12;

/// The node that something happens to. The first one is the edge.
const OTHER: usize = 1;

/// Nothing here takes longer, unless it never ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a fleet whose nodes announce themselves, and waits until all of them are in one ring.
fn start<'lab>(lab: &'lab Lab, etcd: &Etcd) -> Result<Fleet<'lab>> {
    let membership = format!(
        "[membership]\nsource = \"etcd\"\nendpoints = [\"{}\"]\nlease_ttl_s = 1\ngrace_s = 1\n",
        etcd.endpoint(Family::V4)
    );
    let fleet = Fleet::start(lab, &FleetOptions { membership: Some(membership), ..FleetOptions::default() })?;
    for node in 0..lab.nodes().len() {
        let others = lab.nodes().len() as u32 - 1;
        lab.router().block_on(fleet.wait_for_status(node, |s| s.peers.agrees == others && s.readiness.ready))?;
    }
    Ok(fleet)
}

/// The identity of a node: its number is for the ring to say.
fn identity(fleet: &Fleet<'_>, node: usize) -> Identity {
    fleet.ring.members()[node].identity.clone()
}

/// Users of a node.
fn users_of(ring: &Ring, owner: Identity) -> impl Iterator<Item = String> {
    (0..).map(|index| format!("user-{index}")).filter(move |user| ring.owner(user.as_bytes()).identity == owner)
}

fn connect(fleet: &Fleet<'_>, ring: &Ring, node: usize) -> Result<Vec<Probe>> {
    let (address, users) = (fleet.websocket(), users_of(ring, identity(fleet, node)).take(CLIENTS).collect::<Vec<_>>());
    let open = |user: &String| Probe::open(address, user, Options::default());
    fleet.lab.client(0).run(|| users.iter().map(open).collect())
}

#[test]
fn a_node_that_dies_leaves_with_its_lease_and_its_clients_are_told() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    let fleet = start(&lab, &etcd)?;
    let ring = lab.router().block_on(fleet.ring_of(0))?;
    let orphaned = connect(&fleet, &ring, OTHER)?;
    let mut others: Vec<_> = [connect(&fleet, &ring, 0)?, connect(&fleet, &ring, 2)?].into_iter().flatten().collect();

    lab.node(OTHER).command("ip", &["link", "set", "eth0", "down"])?;
    fleet.agents[OTHER].kill()?;
    fleet.gateways[OTHER].kill()?;
    let waiting: Vec<_> = orphaned
        .into_iter()
        .map(|mut probe| thread::spawn(move || anyhow::Ok((probe.wait_for_end()?, Instant::now(), probe))))
        .collect();
    let without = |status: &control::Status| status.ring.as_ref().is_some_and(|ring| ring.members == 2);
    lab.router().block_on(fleet.wait_for_status(0, without))?;
    let removed = Instant::now();
    let mut last = Duration::ZERO;
    for client in waiting {
        let (end, at, _) = client.join().expect("no panic")?;
        ensure!(end == Some(ErrorKind::ConnectionReset), "a client of the dead node was told {end:?}");
        last = last.max(at.saturating_duration_since(removed));
    }
    println!("the last client was told {last:?} after the edge was seen to have the ring without its node");
    others.iter_mut().try_for_each(|probe| probe.echo(100)).context("a client of another node")
}

#[test]
fn a_node_that_drains_keeps_what_it_has_until_it_is_told_to_stop() -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).stores(1).build()?;
    let etcd = Etcd::start(lab.store(0))?;
    let fleet = start(&lab, &etcd)?;
    let ring = lab.router().block_on(fleet.ring_of(0))?;
    let mut held = connect(&fleet, &ring, OTHER)?;
    // What the edge thinks of the other node.
    let becomes = |state: MemberState| {
        let owner = identity(&fleet, OTHER);
        let seen = async || {
            let ring = fleet.ring_of(0).await?;
            let member = ring.members().iter().find(|member| member.identity == owner).cloned();
            anyhow::Ok(member.context("it has left the ring")?.state)
        };
        lab.router().block_on(async {
            let since = Instant::now();
            while seen().await? != state {
                ensure!(since.elapsed() < PATIENCE, "the other node never became {state}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
    };
    let socket = fleet.socket(OTHER);
    let announced = lab.router().block_on(control::announce(&socket, MemberState::Draining, None))?;
    ensure!(announced == MemberState::Draining);
    becomes(MemberState::Draining)?;
    held.iter_mut().try_for_each(|probe| probe.echo(100)).context("while its node drains")?;
    // New users go elsewhere: their gateway lets them in only where they belong.
    let user = users_of(&ring, identity(&fleet, OTHER)).nth(CLIENTS).context("every member owns many")?;
    lab.client(0).run(|| Probe::open(fleet.websocket(), &user, Options::default())?.echo(10))?;

    // Started again it still drains, as was said.
    fleet.agents[OTHER].kill()?;
    fleet.agents[OTHER].restart()?;
    lab.router().block_on(fleet.wait_for_status(OTHER, |status| status.readiness.ready))?;
    ensure!(Scrape::of(lab.node(OTHER), AGENT)?.value("ringsteer_draining")? == 1.0, "it has forgotten that it drains");
    becomes(MemberState::Draining)?;
    held.iter_mut().try_for_each(|probe| probe.echo(100)).context("after a restart")?;
    lab.router().block_on(control::announce(&socket, MemberState::Active, None))?;
    becomes(MemberState::Active)?;
    held.iter_mut().try_for_each(|probe| probe.echo(100)).context("when it is back")
}
