//! `bench logins`: how many clients log in in a second.
//!
//! Each of them is an OpenIM client: a connection to the virtual address, steered, a request with a token that the gateway
//! proves, a place in the table of sessions, 101. Next to it, taking turns, the same number of plain websockets at the
//! broadcast server of `bench fanout`, which asks nobody who they are.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result};
use clap::Parser;

use super::{
    crowd::PATIENCE,
    fanout::{BROADCAST_PORT, broadcaster},
    figures::Figures,
    idle::{crowd, crowd_with},
};
use crate::{
    lab::{Family, Lab, Process},
    openim::Scene,
};

/// Clients that log in
#[derive(Debug, Parser)]
pub struct Args {
    /// Users who log in in each round
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=15_000))]
    users: u32,
    /// Nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=8))]
    nodes: u32,
    /// Rounds; the figures are medians over these
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(args.nodes as usize).clients(2).stores(1).build()?;
    let scene = Scene::set(&lab, Family::V4)?;
    let count = args.users as usize;
    let plain_address = SocketAddr::new(lab.node(0).address(Family::V4), BROADCAST_PORT);
    let _server = broadcaster(lab.node(0), plain_address)?;
    let mut taken: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for _ in 0..args.rounds {
        let secret = ["--token-secret-file".as_ref(), scene.secret_file().as_os_str()];
        let logins = crowd_with(&lab, 0, scene.address, 0..count, secret)?;
        taken.entry("OpenIM logins").or_default().push(connected_us(&logins)?);
        logins.kill()?;
        let plain = crowd(&lab, 1, plain_address, 0, count, None)?;
        taken.entry("broadcast").or_default().push(connected_us(&plain)?);
        plain.kill()?;
        for node in 0..args.nodes as usize {
            scene.wait_for_sessions(node, 0)?;
        }
    }
    println!(
        "{count} users, {} nodes, {} rounds, 64 at once; medians\n{:<16} {:>10}",
        args.nodes, args.rounds, "", "logins/s"
    );
    for (way, took_us) in taken {
        println!("{way:<16} {:>10}", count as u64 * 1_000_000 / Figures::new(took_us).median().max(1));
    }
    Ok(())
}

/// How long a crowd took until everybody had his 101.
fn connected_us(crowd: &Process) -> Result<u64> {
    let line = crowd.wait_for_log_line("connected ", PATIENCE)?;
    line.split_whitespace().nth(2).context("no time")?.parse().context("not a time")
}
