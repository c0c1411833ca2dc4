//! Builds a lab, says how to look into it, and keeps it until Ctrl-C.

use anyhow::Result;
use clap::Parser;
use ringsteer_tests::lab::{self, Lab, clean_up_on_interrupt};
use std::process::Command;
use std::time::Instant;

/// A lab to look into: hosts as network namespaces, until Ctrl-C.
#[derive(Parser)]
struct Arguments {
    /// Nodes of the fleet.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Client hosts.
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// Run this with `sh -c` on every node.
    #[arg(long, value_name = "COMMAND")]
    on_nodes: Option<String>,
    /// Only remove what labs with a dead owner left behind.
    #[arg(long)]
    sweep: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.sweep {
        for name in Lab::sweep()? {
            println!("removed {name}");
        }
        return Ok(());
    }
    clean_up_on_interrupt()?;
    let start = Instant::now();
    let lab = Lab::builder().nodes(arguments.nodes).clients(arguments.clients).build()?;
    println!(
        "{} up after {} ms; virtual addresses {}",
        lab.name(),
        start.elapsed().as_millis(),
        lab::addresses::VIRTUAL
    );
    for host in lab.hosts() {
        println!("  {:8} {:33} ip netns exec {} sh", host.name(), host.addresses().to_string(), host.namespace());
    }
    for node in lab.nodes() {
        if let Some(line) = &arguments.on_nodes {
            let mut command = Command::new("sh");
            command.args(["-c", line]);
            let process = node.spawn_command("command", command)?;
            println!("  process {} logs to {}", process.pid(), process.log_path().display());
        }
    }
    println!("Ctrl-C removes it.");
    loop {
        std::thread::park();
    }
}
