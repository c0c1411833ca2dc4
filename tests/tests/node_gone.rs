//! A node leaves the ring while its clients are connected: the edge tells them, at once and so that they believe it,
//! and nobody else notices.

use std::{fs, io, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab, Signal},
    on_each_family,
    probe::{Options, PATIENCE, Probe},
};

on_each_family!(its_clients_are_reset_and_no_others);

/// A user of the member with this number.
fn user_of(fleet: &Fleet<'_>, number: u16) -> String {
    let owned = |user: &String| fleet.ring.owner(user.as_bytes()).number.get() == number;
    (0..).map(|index| format!("user-{index}")).find(owned).expect("every member owns somebody")
}

fn its_clients_are_reset_and_no_others(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::all(family))?;
    let (client, address) = (lab.client(0), fleet.websocket());
    let open = |number| client.run(|| Probe::open(address, &user_of(&fleet, number), Options::default()));
    let (mut stays, mut goes) = (open(3)?, open(2)?);

    // The edge hears that member 2 is no more.
    let path = lab.node(0).run_dir().join("agent.toml");
    let text = fs::read_to_string(&path)?.replace("epoch = 1\n", "epoch = 2\n");
    let from = text.find("\n[[ring.members]]\nnumber = 2\n").context("member 2 is not in the configuration")?;
    let to = text.find("\n[[ring.members]]\nnumber = 3\n").context("member 3 is not in the configuration")?;
    fs::write(&path, [&text[..from], &text[to..]].concat())?;
    let mark = fleet.agents[0].log_mark();
    fleet.agents[0].signal(Signal::HUP);
    fleet.agents[0].wait_for_log(mark, PATIENCE, |line| line.contains("read the configuration again"))?;

    // For a moment the edge may still know the way, and the node is there.
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        ensure!(Instant::now() < deadline, "the client of the node that is gone is still connected");
        if let Err(error) = goes.echo(100) {
            break error;
        }
    };
    let Some(reset) = error.downcast_ref::<io::Error>() else { bail!("not an error of the connection: {error:#}") };
    ensure!(reset.kind() == io::ErrorKind::ConnectionReset, "{error:#}");
    stays.echo(1_000).context("a client of another node")?;
    let counter = |name: &'static str| lab.router().block_on(fleet.counter(0, name));
    ensure!(counter("rst_node_gone")? >= 1, "something else reset it");
    ensure!(counter("drop_unknown_node")? == 0, "something was dropped instead of answered");
    Ok(())
}
