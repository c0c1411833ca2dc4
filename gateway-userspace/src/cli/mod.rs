//! The command line: one binary, the roles as subcommands, and what an operator asks.
//!
//! | file | subject |
//! |---|---|
//! | `config` | what the configuration says |
//! | `drain` | a node is to leave |
//! | `handoff` | how sessions move from node to node |
//! | `doctor` | whether this host is fit to steer |
//! | `node` | the agent of this node, for the subcommands that ask it |
//! | `pinned` | what a dead agent has left: maps and the ring on disk |
//! | `names` | what the numbers of nodes mean |
//! | `output` | facts, tables, JSON, exit codes |
//! | `status` | how this node is |
//! | `who` | where a user belongs and is |
//! | `nodes`, `services`, `flows` | what the maps hold |
//! | `stats` | the counters, and how they move |
//! | `token` | a token to try things out with |
//! | `connect` | a client in a terminal |
//! | `ring` | rings to look at, to compare, to try changes on |

mod config;
mod connect;
mod doctor;
mod drain;
mod flows;
mod handoff;
mod names;
mod node;
mod nodes;
pub(crate) mod output;
mod pinned;
mod ring;
mod services;
mod stats;
mod status;
mod token;
mod who;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use self::output::Verdict;
use crate::{agent, config::Setting, front, gateway, msg};

/// Steers websocket connections to the node that owns their user, in the kernel
#[derive(Debug, Parser)]
#[command(name = "ringsteer", version)]
pub struct Cli {
    /// What to log to stderr: error, warn, info, debug, trace, or a filter such as `info,ringsteer::gateway=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: EnvFilter,
    /// A value that goes before the configuration file's and the environment's, such as `node.max_flows=100000`; may be
    /// repeated
    #[arg(long, global = true, value_name = "TABLE.KEY=VALUE")]
    set: Vec<Setting>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Agent(agent::Args),
    Load(agent::Load),
    Prepare(agent::Prepare),
    Gateway(gateway::Args),
    Msg(msg::Args),
    Config(config::Args),
    Push(front::Args),
    Status(status::Args),
    Who(who::Args),
    Nodes(nodes::Args),
    Services(services::Args),
    Flows(flows::Args),
    Stats(stats::Args),
    Ring(ring::Args),
    Drain(drain::Args),
    Handoff(handoff::Args),
    Doctor(doctor::Args),
    Token(token::Args),
    Connect(connect::Args),
    Uninstall(agent::Uninstall),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let Cli { log, set, command } = Cli::parse();
    Setting::set_for_this_process(set);
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).with_ansi(colours).compact().init();
    match run(command) {
        Ok(verdict) => verdict.into(),
        Err(error) => {
            eprintln!("ringsteer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Agent(args) => runtime.block_on(args.run())?,
        Command::Load(args) => args.run()?,
        Command::Prepare(args) => runtime.block_on(args.run())?,
        Command::Gateway(args) => runtime.block_on(args.run())?,
        Command::Msg(args) => runtime.block_on(args.run())?,
        Command::Config(args) => return args.run(),
        Command::Push(args) => runtime.block_on(args.run())?,
        Command::Status(args) => return runtime.block_on(args.run()),
        Command::Who(args) => return runtime.block_on(args.run()),
        Command::Nodes(args) => return runtime.block_on(args.run()),
        Command::Services(args) => return runtime.block_on(args.run()),
        Command::Flows(args) => return runtime.block_on(args.run()),
        Command::Stats(args) => return runtime.block_on(args.run()),
        Command::Ring(args) => return runtime.block_on(args.run()),
        Command::Drain(args) => return runtime.block_on(args.run()),
        Command::Handoff(args) => return runtime.block_on(args.run()),
        Command::Doctor(args) => return runtime.block_on(args.run()),
        Command::Token(args) => return args.run(),
        Command::Connect(args) => return runtime.block_on(args.run()),
        Command::Uninstall(args) => runtime.block_on(args.run())?,
    }
    Ok(Verdict::Fine)
}
