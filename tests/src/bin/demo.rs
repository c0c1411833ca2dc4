//! `cargo xtask demo`: five nodes, a thousand users, pushes, and rings that change.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use ringsteer_tests::{demo, lab::clean_up_on_interrupt};

/// Show what ringsteer does, on real traffic between network namespaces
///
/// First pushes are placed as OpenIM does it, by a ring that leaves out the port: most of them miss. Then the same
/// pushes go through ringsteer. Then all users talk and are pushed to without a pause, while the fleet changes its size, a
/// node is drained and its gateway started again. Exits non-zero if a single push through ringsteer misses, is lost, comes
/// twice or out of order, or is answered "offline", or if a single client is disconnected.
#[derive(Parser)]
struct Args {
    /// Nodes, each with an agent and a gateway
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=16))]
    nodes: u16,
    /// Users, each with one websocket
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=8000))]
    users: u16,
    /// Pushes a second while the ring changes; fewer are sent if the machine cannot do that
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pushes_per_s: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let begin = Instant::now();
    let progress = |what: &str| eprintln!("[{:6.2} s] {what}", begin.elapsed().as_secs_f64());
    if let Err(error) = clean_up_on_interrupt() {
        eprintln!("an interrupt will leave the lab behind until the next one is made: {error:#}");
    }
    let size = demo::Size { nodes: args.nodes.into(), users: args.users.into(), pushes_per_s: args.pushes_per_s };
    match demo::run(size, progress) {
        Ok((report, failures)) => {
            println!("{report}");
            if failures.is_empty() {
                println!("Every push reached its user, once and in order, and nobody was disconnected.");
                ExitCode::SUCCESS
            } else {
                println!("FAILED: {}.", failures.join("; "));
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
