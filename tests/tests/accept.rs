//! Mode "accept" end to end, with agents to which the kernel seems to be one before 6.8: clients through the virtual address
//! reach their owners, by way of the gateway that accepts them; pushes find them; and they follow the ring.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{config::Mode, control::Status};
use ringsteer_tests::{
    client::{Login, Shape},
    demo::{stream::Stream, users},
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab, Process},
    on_each_family,
    probe::{Options, Outcome, Probe},
    rounds::Rounds,
    scrape::{GATEWAY, Scrape},
    tempers,
};

on_each_family!(
    users_reach_their_owners_are_pushed_to_and_follow_the_ring,
    clients_of_every_temper_reach_their_owner_and_talk,
    a_reused_four_tuple_serves_the_new_user,
    who_comes_while_the_agents_are_away_is_known_when_they_are_back,
);

const NODES: usize = 3;
const USERS: usize = 60;
const PUSHES_PER_S: u32 = 200;

/// How long something may take that has to happen.
const LIMIT: Duration = Duration::from_secs(60);

/// The nodes that own users, ring by ring.
const RINGS: [&[usize]; 5] = [&[0], &[1, 2], &[2], &[0, 1], &[0, 1, 2]];

fn lab() -> Result<Lab> {
    Lab::builder().nodes(NODES).clients(1).build()
}

fn fleet(lab: &Lab, family: Family) -> Result<Fleet<'_>> {
    Fleet::start(lab, &FleetOptions { ring_file: true, ..FleetOptions::in_mode(family, Mode::Accept) })
}

/// The sum of a counter over all nodes.
fn counter(fleet: &Fleet<'_>, name: &str) -> Result<u64> {
    (0..NODES).map(|node| fleet.lab.router().block_on(fleet.counter(node, name))).sum()
}

/// The sum of a gateway's figure over all nodes.
fn figure(lab: &Lab, name: &str) -> Result<f64> {
    (0..NODES).map(|node| Scrape::of(lab.node(node), GATEWAY)?.value(name)).sum()
}

/// How many newcomers have come to this.
fn newcomers(lab: &Lab, outcome: &str) -> Result<f64> {
    figure(lab, &format!("ringsteer_newcomers_total{{outcome=\"{outcome}\"}}"))
}

/// The kernel has made no socket for us, and nobody has answered a SYN for it.
fn nobody_was_bound_late(fleet: &Fleet<'_>) -> Result<()> {
    for name in ["syn_answered", "bound_by_key", "bound_by_tuple", "admitted"] {
        ensure!(counter(fleet, name)? == 0, "{name}");
    }
    Ok(())
}

fn users_reach_their_owners_are_pushed_to_and_follow_the_ring(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = fleet(&lab, family)?;
    for node in 0..NODES {
        let status = lab.router().block_on(fleet.status(node))?;
        let programs: Vec<_> = status.programs.iter().map(|program| program.name.as_str()).collect();
        ensure!(status.mode == Mode::Accept && programs == ["steer"], "{:?} with {programs:?}", status.mode);
    }
    let users = users::connect(&fleet, USERS)?;
    let crowd = users.crowd();
    let mut rounds = Rounds::of(&fleet);
    lab.router().block_on(rounds.settle(&users.names()))?;
    // Some had come to their owners by chance.
    let (moved, taken) = (newcomers(&lab, "moved")?, newcomers(&lab, "taken")?);
    ensure!(moved > 0.0 && moved < USERS as f64 && moved == taken, "{moved} moved, {taken} taken");
    ensure!(newcomers(&lab, "turned_away")? == 0.0);
    ensure!(counter(&fleet, "tunnelled")? > 0 && counter(&fleet, "syn_passed_on")? >= USERS as u64);
    nobody_was_bound_late(&fleet)?;

    // Every member knows where they are, for it may be their edge.
    let at_edge = |status: &Status| status.flows >= USERS as u64;
    for node in 0..NODES {
        lab.router().block_on(fleet.wait_for_status(node, at_edge))?;
    }

    let stream = Stream::start(&fleet, crowd, &fleet.ring, PUSHES_PER_S)?;
    crowd.talk(true);
    let followed = RINGS.iter().try_for_each(|active| -> Result<()> {
        rounds.next(active)?;
        stream.follow(rounds.current());
        lab.router().block_on(async {
            rounds.settle(&users.names()).await?;
            let (pushed, since) = (stream.delivered(), Instant::now());
            while stream.delivered() < pushed + USERS as u64 {
                ensure!(since.elapsed() < LIMIT, "pushes stand still: {:?}", stream.trouble());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })
    });
    stream.finish(&fleet, crowd, followed, LIMIT)?;
    nobody_was_bound_late(&fleet)
}

fn clients_of_every_temper_reach_their_owner_and_talk(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = fleet(&lab, family)?;
    let client = lab.client(0);
    tempers::all_talk(client, fleet.websocket(), 12)?;
    // Requests that show the kernel nothing are no different here.
    let address = fleet.websocket();
    client.run(|| {
        for shape in [Shape::Native, Shape::Wasm, Shape::Js] {
            let user = format!("{shape:?}");
            let request = Login::new(&user).request(shape);
            let mut probe = Probe::connect(address, Options::default())?;
            let outcome = probe.ask(&[&request[..20], &request[20..]])?;
            ensure!(outcome == Outcome::Upgraded, "{user}: {outcome:?}");
            probe.echo(300)?;
        }
        Ok(())
    })?;
    // The largest segments fit the tunnel: none was dropped for want of room, and no router had to say so.
    for name in ["drop_no_headroom", "drop_fragment", "icmp_steered"] {
        ensure!(counter(&fleet, name)? == 0, "{name}");
    }
    ensure!(counter(&fleet, "tunnelled")? > 0);
    nobody_was_bound_late(&fleet)
}

/// A 4-tuple that is used again at once belongs to the new connection, however the old one ended, whoever owns it, and
/// however often the old one had moved.
fn a_reused_four_tuple_serves_the_new_user(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = fleet(&lab, family)?;
    let address = fleet.websocket();
    type Ending = fn(Probe) -> Result<()>;
    let endings: [(&str, Ending); 3] = [
        ("reset by the client", Probe::reset),
        ("closed by the server", Probe::close_by_server),
        ("vanished in silence", Probe::vanish),
    ];
    lab.client(0).run(|| {
        let mut port = 20_000;
        for (name, end) in endings {
            // Among these are users of every owner, and connections that are at their owner at once and that are not.
            for pair in 0..6 {
                port += 1;
                let options = Options { source_port: Some(port), ..Options::default() };
                let mut probe = Probe::open(address, &format!("first-{pair}"), options)?;
                probe.echo(1000)?;
                end(probe)?;
                let again = || -> Result<()> {
                    let mut probe = Probe::open(address, &format!("second-{pair}"), options)?;
                    probe.echo(1000)
                };
                again().with_context(|| format!("after connection {pair} was {name}"))?;
            }
        }
        anyhow::Ok(())
    })?;
    nobody_was_bound_late(&fleet)
}

/// Clients come while the agents are away: their packets go by their addresses, and all edges hear of them when the agents
/// are back. Otherwise they would be lost with the next ring.
fn who_comes_while_the_agents_are_away_is_known_when_they_are_back(family: Family) -> Result<()> {
    let lab = lab()?;
    let fleet = fleet(&lab, family)?;
    let mut rounds = Rounds::of(&fleet);
    // One node owns all, and so nobody has to be moved, which the agents are needed for.
    rounds.send_to(&[1], &[])?;
    fleet.agents.iter().try_for_each(|agent| agent.kill().map(drop))?;
    let address = fleet.websocket();
    let users: Vec<String> = (0..6).map(|index| format!("early-{index}")).collect();
    let mut probes = lab
        .client(0)
        .run(|| users.iter().map(|user| Probe::open(address, user, Options::default())).collect::<Result<Vec<_>>>())?;
    fleet.agents.iter().try_for_each(Process::restart)?;
    let told = |status: &Status| status.flows >= users.len() as u64;
    for node in 0..NODES {
        lab.router().block_on(fleet.wait_for_status(node, told)).context("all edges hear of them")?;
    }
    // By the next rings none of their addresses hashes to where they are.
    for active in [&[0, 2][..], &[1], &[0, 2]] {
        rounds.send_to(active, &users)?;
        probes.iter_mut().try_for_each(|probe| probe.echo(1000))?;
    }
    Ok(())
}
