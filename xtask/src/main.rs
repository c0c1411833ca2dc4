//! `cargo xtask`: everything about this repository that takes more than one plain cargo command.
//!
//! * [`build_ebpf`]: the kernel programs, with [`toolchain`] (a compiler that can build them), [`install`] (getting one)
//!   and [`linker`] (bpf-linker and its LLVM);
//! * [`setup`]: what the lab needs from the machine, with [`packages`];
//! * [`validator`], what the manifests are held to, and [`autobahn`], what the websocket codec is held to, each in a
//!   [`python`] environment of its own, and [`npm`], clients that gateways must understand;
//! * [`fuzz`]: a fuzzer against the parsers;
//! * [`run`]: tests, demo and benchmarks, which bring about whatever they stand on.

mod autobahn;
mod build_ebpf;
mod command;
mod elf;
mod fuzz;
mod host;
mod install;
mod linker;
mod npm;
mod packages;
mod python;
mod run;
mod setup;
mod toolchain;
mod validator;
mod version;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds the kernel programs of ringsteer and runs what stands on them.
///
/// Every command first brings about what it needs, and says so while it does: `cargo xtask demo` is enough on a fresh
/// machine.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BuildEbpf(build_ebpf::Args),
    Setup(setup::Args),
    Test(run::TestArgs),
    Fuzz(fuzz::Args),
    Demo(run::DemoArgs),
    Bench(run::BenchArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::BuildEbpf(args) => build_ebpf::main(&args),
        Command::Setup(args) => setup::main(&args),
        Command::Test(args) => run::test(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Demo(args) => run::demo(&args),
        Command::Bench(args) => run::bench(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
