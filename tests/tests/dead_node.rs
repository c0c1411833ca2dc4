//! A node dies and leaves the ring: its clients are told at once, though they say nothing themselves, and nobody else
//! notices.

use std::{
    io::ErrorKind,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control,
    ring::{Epoch, Member, MemberState, Ring},
};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab},
    on_each_family,
    probe::{Options, Probe},
    scrape::{AGENT, Scrape},
};

/// The node that dies. The first one is the edge.
const DEAD: usize = 1;

/// Clients of each node.
const CLIENTS: usize = 40;

/// The fleet's ring with another epoch and other members.
fn changed(ring: &Ring, epoch: u64, change: impl FnOnce(&mut Vec<Member>)) -> Result<Ring> {
    let mut members = ring.members().to_vec();
    change(&mut members);
    Ok(Ring::new(Epoch(epoch), ring.algorithm(), members)?)
}

/// Connects as many users of a node as that has clients.
fn connect(fleet: &Fleet<'_>, node: usize) -> Result<Vec<Probe>> {
    let owner = fleet.ring.members()[node].number;
    let users =
        (0..).map(|index| format!("user-{index}")).filter(|user| fleet.ring.owner(user.as_bytes()).number == owner);
    let address = fleet.websocket();
    fleet
        .lab
        .client(0)
        .run(|| users.take(CLIENTS).map(|user| Probe::open(address, &user, Options::default())).collect())
}

/// Takes a node off the network and kills it: what its kernel still sends reaches nobody.
fn kill(fleet: &Fleet<'_>, node: usize) -> Result<()> {
    fleet.lab.node(node).command("ip", &["link", "set", "eth0", "down"])?;
    fleet.agents[node].kill()?;
    fleet.gateways[node].kill()?;
    Ok(())
}

on_each_family!(the_clients_of_a_dead_node_are_told_and_no_others);

fn the_clients_of_a_dead_node_are_told_and_no_others(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let orphaned = connect(&fleet, DEAD)?;
    let mut others = [connect(&fleet, 0)?, connect(&fleet, 2)?].into_iter().flatten().collect::<Vec<_>>();
    others.iter_mut().try_for_each(|probe| probe.echo(100))?;
    kill(&fleet, DEAD)?;

    // Each client waits on its own, and says nothing: its next heartbeat would be half a minute away.
    let waiting: Vec<_> = orphaned
        .into_iter()
        .map(|mut probe| thread::spawn(move || anyhow::Ok((probe.wait_for_end()?, Instant::now(), probe))))
        .collect();
    let without = changed(&fleet.ring, 2, |members| drop(members.remove(DEAD)))?;
    let removed = Instant::now();
    for node in [0, 2] {
        fleet.give_ring(node, &without)?;
    }
    let mut told = Vec::new();
    for client in waiting {
        let (end, at, _) = client.join().expect("no panic")?;
        ensure!(end == Some(ErrorKind::ConnectionReset), "a client of the dead node was told {end:?}");
        told.push(at.duration_since(removed));
    }
    told.sort();
    println!("{} clients told, the first after {:?}, the last after {:?}", told.len(), told[0], told[told.len() - 1]);
    // They did not all come back in one instant.
    ensure!(told[told.len() - 1] - told[0] > Duration::from_millis(10), "all clients were told at once");
    others.iter_mut().try_for_each(|probe| probe.echo(100)).context("a client of another node")?;

    lab.router().block_on(async {
        let members = control::members(&fleet.socket(0)).await?;
        ensure!(members.orphaned_flows <= CLIENTS as u64, "{members:?}");
        ensure!(members.members.iter().map(|member| member.flows).sum::<u64>() == 2 * CLIENTS as u64, "{members:?}");
        anyhow::Ok(())
    })?;
    // None said a word, so the agent told them; but for one or the other whose last acknowledgement was still to come:
    // that one the kernel answered.
    let figures = Scrape::of(lab.node(0), AGENT)?;
    let by_agent = figures.value("ringsteer_clients_reset_total")?;
    let by_kernel = figures.value("ringsteer_packets_total{verdict=\"rst_node_gone\"}")?;
    println!("{by_agent} told by the agent, {by_kernel} by the kernel");
    ensure!(
        by_agent + by_kernel >= CLIENTS as f64 && by_agent > 0.0,
        "{by_agent} by the agent, {by_kernel} by the kernel"
    );
    ensure!(figures.value("ringsteer_client_reset_errors_total")? == 0.0, "some could not be told");
    // Who connects anew is let in, by who owns the user now.
    let again = lab.client(0).run(|| Probe::open(fleet.websocket(), "user-0", Options::default()))?;
    drop(again);
    Ok(())
}

/// A member that drains owns nothing any more, and what it has goes to others; nobody is reset.
#[test]
fn draining_resets_nobody() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::default())?;
    let mut probes = connect(&fleet, DEAD)?;
    let draining = changed(&fleet.ring, 2, |members| members[DEAD].state = MemberState::Draining)?;
    fleet.give_ring_to_all(&draining)?;
    lab.router().block_on(async {
        for node in 0..3 {
            fleet.wait_for_status(node, |status| status.ring.as_ref().is_some_and(|ring| ring.epoch.0 == 2)).await?;
        }
        anyhow::Ok(())
    })?;
    probes.iter_mut().try_for_each(|probe| probe.echo(100)).context("while its node drains")?;
    let is_empty = |status: &control::Status| status.gateways.iter().all(|gateway| gateway.report.sessions == 0);
    lab.router().block_on(fleet.wait_for_status(DEAD, is_empty))?;
    probes.iter_mut().try_for_each(|probe| probe.echo(100)).context("on their new nodes")?;
    // Its users' new connections go elsewhere.
    let user = (0..).map(|index| format!("user-{index}"));
    let mut moved = user.filter(|user| fleet.ring.owner(user.as_bytes()).number.get() as usize == DEAD + 1);
    let user = moved.next().context("every member owns somebody")?;
    lab.client(0).run(|| Probe::open(fleet.websocket(), &user, Options::default())?.echo(10))?;
    let since = Instant::now();
    loop {
        // The edge is told after the sessions have gone.
        let members = lab.router().block_on(control::members(&fleet.socket(0)))?;
        let drained = &members.members[DEAD];
        if drained.flows == 0 && drained.share == 0.0 {
            break;
        }
        ensure!(since.elapsed() < Duration::from_secs(60), "{members:?}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The agent was away when the node left: it finds the orphans when it starts.
#[test]
fn an_agent_that_was_away_tells_them_when_it_is_back() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions { ring_file: true, ..FleetOptions::default() })?;
    let mut orphaned = connect(&fleet, DEAD)?;
    kill(&fleet, DEAD)?;
    fleet.agents[0].kill()?;
    fleet.give_ring(0, &changed(&fleet.ring, 2, |members| drop(members.remove(DEAD)))?)?;
    fleet.agents[0].restart()?;
    for probe in &mut orphaned {
        let end = probe.wait_for_end()?;
        ensure!(end == Some(ErrorKind::ConnectionReset), "a client of the dead node was told {end:?}");
    }
    Ok(())
}
