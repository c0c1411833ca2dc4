//! `bench idle`: what an idle connection costs the gateway in memory of its own.
//!
//! The resident memory of a gateway's process without connections and with many, from several client processes, and the
//! difference by the number of them. The kernel's memory for sockets is not in it. The figure falls with the number, for
//! what the gateway has once counts, too. What is left after all have gone tells how much of it the allocator keeps.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    ops::Range,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use super::crowd::PATIENCE;
use crate::{
    fleet::{DIRECT_WEBSOCKET_PORT, Fleet, Options},
    lab::{Family, Lab, Process},
};

/// Memory of an idle connection
#[derive(Debug, Parser)]
pub struct Args {
    /// Connections; a gateway may open 20 000 files
    #[arg(long, default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(1000..=19_000))]
    connections: u32,
    /// Client processes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,
}

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(args.processes as usize).build()?;
    let fleet = Fleet::start(&lab, &Options::default())?;
    let gateway = fleet.gateways[0].pid();
    let address = SocketAddr::new(lab.node(0).address(Family::V4), DIRECT_WEBSOCKET_PORT);
    let each = (args.connections / args.processes) as usize;
    let connections = each * args.processes as usize;
    let before = resident(gateway)?;
    let begun = Instant::now();
    let crowds = (0..args.processes as usize)
        .map(|index| crowd(&lab, index, address, index * each, each, None))
        .collect::<Result<Vec<_>>>()?;
    for crowd in &crowds {
        crowd.wait_for_log_line("connected", PATIENCE)?;
    }
    let took = begun.elapsed();
    let with = resident(gateway)?;
    for crowd in &crowds {
        crowd.kill()?;
    }
    wait_for_sessions(&fleet, 0)?;
    let after = resident(gateway)?;
    println!("{connections} connections from {} processes, in {:.1} s", args.processes, took.as_secs_f64());
    println!("{:<34} {:>12}", "resident memory of the gateway", "bytes");
    for (what, bytes) in [("without connections", before), ("with them", with), ("when they have gone", after)] {
        println!("  {what:<32} {bytes:>12}");
    }
    println!("  {:<32} {:>12}", "of each connection", with.saturating_sub(before) / connections as u64);
    Ok(())
}

/// Starts a process with so many clients, who talk if that is given: how often each says something.
pub fn crowd(
    lab: &Lab,
    client: usize,
    address: SocketAddr,
    first: usize,
    count: usize,
    talk: Option<Duration>,
) -> Result<Process> {
    let talk = talk.map(|every| format!("--talk-ms={}", every.as_millis()));
    crowd_with(lab, client, address, first..first + count, talk)
}

/// The same with other options, and for users of these numbers.
pub fn crowd_with(
    lab: &Lab,
    client: usize,
    address: SocketAddr,
    users: Range<usize>,
    options: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["crowd", &address.to_string(), &users.start.to_string(), &users.len().to_string()]);
    command.args(options);
    lab.client(client).spawn_command("crowd", command)
}

/// Waits until the gateway of the first node has told its agent that it has so many sessions.
fn wait_for_sessions(fleet: &Fleet<'_>, wanted: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        loop {
            let status = fleet.status(0).await?;
            if status.gateways.iter().map(|gateway| gateway.report.sessions).sum::<u64>() == wanted {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the gateway keeps sessions whose clients have gone");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
