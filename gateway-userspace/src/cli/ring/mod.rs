//! `ringsteer ring`: rings to look at, to compare, to try changes on and to check.

mod check;
mod diff;
mod input;
mod labels;
mod show;
mod simulate;

pub use labels::Labels;

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::output::{Verdict, exit_codes};

/// Show, compare, check rings, and try changes on them
///
/// A ring is named in one of these ways:
///
///   current       the one in force on this node
///   previous      the one that was in force before it
///   FILE          a ring file, a configuration with a ring in it, what `ring show -o json`
///                 printed, or a plain list of hosts, one a line
///   HOST,HOST,…   a list of hosts; one host alone ends in a comma
///   '-'           any of these files, from standard input
///
/// A list of hosts is taken for OpenIM's own ring of these names, in this order.
#[derive(Debug, Parser)]
#[command(verbatim_doc_comment, after_help = exit_codes!("`diff` found that the rings differ"))]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(show::Args),
    Diff(diff::Args),
    Simulate(simulate::Args),
    Check(check::Args),
}

impl Args {
    /// Does it.
    ///
    /// # Errors
    /// If a ring cannot be had, or is none.
    pub async fn run(self) -> Result<Verdict> {
        match self.command {
            Command::Show(args) => args.run().await,
            Command::Diff(args) => args.run().await,
            Command::Simulate(args) => args.run().await,
            Command::Check(args) => args.run().await,
        }
    }
}
