//! Steering end to end over both families: any of them inside the tunnel, any outside. Keeps the promise *one ring*.

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab},
    on_each_mix,
    probe::{Options, Probe},
};

on_each_mix!(users_reach_their_owner);

/// Users of this many names cover every node of a ring of three.
const USERS: usize = 24;

/// 101 comes from the owner alone: the gateway refuses everybody else's users, so being let in is being at the owner.
fn users_reach_their_owner(clients: Family, nodes: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let fleet = Fleet::start(&lab, &FleetOptions::mixed(clients, nodes))?;
    let address = fleet.websocket();
    lab.client(0).run(|| -> Result<()> {
        for index in 0..USERS {
            let user = format!("user-{index}");
            // One dials as usual, one with small segments.
            for mss in [None, Some(1_220)] {
                let mut probe = Probe::open(address, &user, Options { mss, ..Options::default() })?;
                // Small, and large enough to need window scaling and many segments.
                for length in [1, 100, 20_000, 51_000] {
                    probe.echo(length).with_context(|| format!("{user}, {length} bytes"))?;
                }
            }
        }
        Ok(())
    })?;
    let mut counted = [0; 5];
    let counters = ["bound_by_key", "tunnelled", "untunnelled", "admitted", "bound_by_tuple"];
    for node in 0..3 {
        for (total, name) in counted.iter_mut().zip(counters) {
            *total += lab.router().block_on(fleet.counter(node, name))?;
        }
    }
    let [by_key, tunnelled, untunnelled, admitted, by_tuple] = counted;
    let connections = 2 * USERS as u64;
    ensure!(by_key == connections && admitted == connections && by_tuple == 0, "{counters:?}: {counted:?}");
    ensure!(tunnelled > connections && untunnelled > connections, "{counters:?}: {counted:?}");
    Ok(())
}
