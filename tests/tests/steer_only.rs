//! Steer-only: in front of a websocket server that is not ours, Debian's `python3-websockets`, unmodified. Clients reach
//! the node that owns their user all the same.

use std::{net::SocketAddr, process::Command, time::Duration};

use anyhow::{Result, ensure};
use ringsteer_tests::{
    fleet::{Fleet, Options as FleetOptions},
    lab::{Family, Lab},
    on_each_family,
    probe::{Options, Probe},
};

on_each_family!(an_unmodified_server_gets_its_users_steered);

/// The port of the foreign server.
const PORT: u16 = 9001;

/// The server: tells each client on which node it is. The library does all the rest.
const SERVER: &str = r#"
import asyncio, sys, websockets

async def serve(connection):
    await connection.send(sys.argv[1])
    async for message in connection:
        await connection.send(message)

async def main():
    async with websockets.serve(serve, sys.argv[2], int(sys.argv[3])):
        print("ready", flush=True)
        await asyncio.Future()

asyncio.run(main())
"#;

fn an_unmodified_server_gets_its_users_steered(family: Family) -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(1).build()?;
    let address = lab.virtual_address(family);
    let service = SocketAddr::new(address, PORT);
    let extra = format!("[[services]]\nname = \"foreign\"\naddress = \"{service}\"\nparameter = \"sendID\"\n");
    let fleet = Fleet::start(&lab, &FleetOptions { extra, gateways: false, ..FleetOptions::all(family) })?;
    for (index, node) in lab.nodes().iter().enumerate() {
        // Debian's interpreter: the package belongs to it.
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-c", SERVER, &format!("node-{}", index + 1), &address.to_string(), &PORT.to_string()]);
        node.spawn_command("server", command)?.wait_for_log_line("ready", Duration::from_secs(30))?;
    }
    let mut nodes_seen = std::collections::BTreeSet::new();
    lab.client(0).run(|| {
        for index in 0..40 {
            let user = format!("foreign-{index}");
            let mut probe = Probe::open(service, &user, Options::default())?;
            let owner = format!("node-{}", fleet.ring.owner(user.as_bytes()).number.get());
            let node = probe.text()?;
            ensure!(node == owner, "{user} is at {node}, its owner is {owner}");
            probe.echo(20_000)?;
            nodes_seen.insert(node);
        }
        anyhow::Ok(())
    })?;
    ensure!(nodes_seen.len() == 3, "only {nodes_seen:?} had users: nothing was shown");
    Ok(())
}
