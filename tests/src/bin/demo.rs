//! `cargo xtask demo`: five nodes, a thousand users, a push to every one of them.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use ringsteer_tests::{demo, lab::clean_up_on_interrupt};

/// Show what ringsteer does, on real traffic between network namespaces
///
/// First pushes are placed as OpenIM does it, by a ring that leaves out the port: most of them miss. Then the same
/// pushes go through ringsteer. In the end the fleet changes its size while new users arrive. Exits non-zero if a single
/// push through ringsteer misses, or a single newcomer is not on the node that owns it.
#[derive(Parser)]
struct Args {
    /// Nodes, each with an agent and a gateway
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// Users, each with one websocket
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=8000))]
    users: u16,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let begin = Instant::now();
    let progress = |what: &str| eprintln!("[{:6.2} s] {what}", begin.elapsed().as_secs_f64());
    if let Err(error) = clean_up_on_interrupt() {
        eprintln!("an interrupt will leave the lab behind until the next one is made: {error:#}");
    }
    match demo::run(demo::Size { nodes: args.nodes.into(), users: args.users.into() }, progress) {
        Ok((report, right)) => {
            println!("{report}");
            if right {
                println!("Every push reached its user, every newcomer its owner.");
                ExitCode::SUCCESS
            } else {
                println!("FAILED: pushes or newcomers were misrouted or lost.");
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
