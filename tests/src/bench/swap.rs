//! `bench swap`: from the moment a new ring stands in its file to the moment the kernel steers by it.
//!
//! A real agent follows a ring file. The benchmark replaces the file, then reads the pinned `ring` map until the new
//! epoch is there. The agent's work in between is all included: hearing of the change, reading and checking the file,
//! computing the points, writing the nodes, filling the new inner map and swapping it in.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv6Addr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use clap::Parser;
use ringsteer_ebpf::layout::ring::Ring;

use super::figures::Figures;
use crate::{
    fleet,
    lab::{Family, Host, INTERFACE, Lab},
};

/// Time from a new ring in its file to the kernel steering by it
#[derive(Debug, Parser)]
pub struct Args {
    /// Ring changes; the figures are over these
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..=999))]
    changes: u16,
    /// Members of the ring
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(2..=1600))]
    members: u16,
    /// The ring's algorithm
    #[arg(long, default_value = "openim")]
    algorithm: String,
}

/// How long to wait for the kernel.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(1).clients(1).build()?;
    let host = lab.node(0);
    let ring = host.run_dir().join("ring.toml");
    replace(&ring, &text(host, args, 1))?;
    fs::write(host.run_dir().join("agent.toml"), configuration(host, &ring))?;
    let agent = host.spawn_command("agent", fleet::command(host, "agent")?)?;
    agent.wait_for_log_line("steering", PATIENCE)?;
    let kernel = Kernel::open(host)?;
    kernel.wait_for(1)?;
    let mut took_us = Vec::new();
    for epoch in 2..=u64::from(args.changes) + 1 {
        let text = text(host, args, epoch);
        let mark = agent.log_mark();
        let began = Instant::now();
        replace(&ring, &text)?;
        kernel.wait_for(epoch)?;
        took_us.push(began.elapsed().as_micros() as u64);
        // The agent still waits until no packet sees the old ring, and tells others. The next change comes after that.
        agent.wait_for_log(mark, PATIENCE, |line| line.contains("steering"))?;
    }
    println!(
        "{} members ({}), {} changes: from the file to the kernel's map\n{:<24} {:>6}  {:>5}  {:>5}",
        args.members, args.algorithm, args.changes, "", "median", "least", "most"
    );
    println!("{:<24} {}", "microseconds", Figures::new(took_us));
    Ok(())
}

/// The kernel's ring.
struct Kernel(ArrayOfMaps<MapData, Array<MapData, Ring>>);

impl Kernel {
    fn open(host: &Host) -> Result<Self> {
        let data = MapData::from_pin(host.pin_dir().join("ring")).context("cannot open the pinned ring")?;
        Ok(Self(Map::ArrayOfMaps(data).try_into()?))
    }

    /// Waits until the ring in force has this epoch. Looks again at once: it is the moment that is measured.
    fn wait_for(&self, epoch: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let inner = self.0.get(&0, 0).context("cannot read the pinned ring")?;
            if Box::new(inner.get(&0, 0).context("cannot read the ring in force")?).epoch == epoch {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the kernel has not got ring {epoch} within {PATIENCE:?}");
        }
    }
}

/// Replaces the file whole.
fn replace(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)?;
    Ok(fs::rename(draft, path)?)
}

/// A ring with this node and others that do not exist. With each epoch another of them is away.
fn text(host: &Host, args: &Args, epoch: u64) -> String {
    let mut text = format!("[ring]\nepoch = {epoch}\nalgorithm = \"{}\"\n", args.algorithm);
    let mut member = |number: u64, address: IpAddr| {
        let identity = identity(number);
        let _ =
            writeln!(text, "[[ring.members]]\nnumber = {number}\nidentity = \"{identity}\"\naddress = \"{address}\"");
    };
    member(1, host.address(Family::V6));
    for number in (2..=u64::from(args.members) + 1).filter(|number| number % u64::from(args.members) != epoch % 97 + 2)
    {
        // Nobody lives there, and nothing is sent to them: no connection is steered. What counts is that they differ.
        member(number, Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, number as u16).into());
    }
    text
}

/// The agent's configuration.
fn configuration(host: &Host, ring: &Path) -> String {
    format!(
        "[node]\nname = \"bench\"\nidentity = \"{}\"\ninterfaces = [\"{INTERFACE}\"]\npin_dir = \"{}\"\nsocket = \"{}\"\n\
         [secrets]\ncurrent = \"6c6162206f6e6c792c206e6f74207365\"\n[membership]\nsource = \"file\"\npath = \"{}\"\n",
        identity(1),
        host.pin_dir().display(),
        host.run_dir().join("agent.sock").display(),
        ring.display()
    )
}

fn identity(number: u64) -> String {
    format!("openim-msggateway-{number}.openim-msggateway-headless.default.svc.cluster.local:88")
}
