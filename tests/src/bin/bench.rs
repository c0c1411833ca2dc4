//! `cargo xtask bench`: how fast it is.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringsteer_tests::bench::{codec, crowd, dataplane, fanout, handoff, idle, logins, path, push, swap};

/// Benchmarks; each prints medians of several batches
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    Codec(codec::Args),
    #[command(hide = true)]
    Broadcast(fanout::BroadcastArgs),
    #[command(hide = true)]
    Crowd(crowd::Args),
    Dataplane(dataplane::Args),
    Fanout(fanout::Args),
    Handoff(handoff::Args),
    Idle(idle::Args),
    Logins(logins::Args),
    Path(path::Args),
    Push(push::Args),
    Swap(swap::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().benchmark {
        Benchmark::Codec(args) => codec::run(&args),
        Benchmark::Broadcast(args) => fanout::serve(&args),
        Benchmark::Fanout(args) => fanout::run(&args),
        Benchmark::Handoff(args) => handoff::run(&args),
        Benchmark::Crowd(args) => crowd::run(&args),
        Benchmark::Idle(args) => idle::run(&args),
        Benchmark::Dataplane(args) => dataplane::run(&args),
        Benchmark::Logins(args) => logins::run(&args),
        Benchmark::Push(args) => push::run(&args),
        Benchmark::Path(args) => path::run(&args),
        Benchmark::Swap(args) => swap::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
