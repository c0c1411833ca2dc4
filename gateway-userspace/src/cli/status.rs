//! `ringsteer status`: what the agent of this node says of itself.

use std::fmt::{self, Display};

use anyhow::Result;
use clap::Parser;

use super::{
    node::Node,
    output::{self, Output},
};
use crate::control::{self, Status};

/// Show what runs on this node: programs, interfaces, ring, flows and the kernel's counters
///
/// Exits with 1 if the agent does not answer; the kernel may steer all the same.
#[derive(Debug, Parser)]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<()> {
        let status = control::status(&self.node.socket()?).await?;
        output::print(&match self.output {
            Output::Table => Table(&status).to_string(),
            Output::Json => output::json(&status)?,
        })
    }
}

/// The status as people read it.
struct Table<'a>(&'a Status);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        writeln!(f, "node        {} (member {})", status.name, status.node.get())?;
        writeln!(f, "agent       ringsteer {}, process {}", status.version, status.pid)?;
        writeln!(
            f,
            "ring        epoch {}, digest {}, {} members",
            status.epoch.0,
            status.digest.short(),
            status.members
        )?;
        for interface in &status.interfaces {
            let mode = format!("{:?}", interface.xdp_mode).to_lowercase();
            writeln!(f, "interface   {}, XDP {mode}", interface.name)?;
        }
        for program in &status.programs {
            writeln!(f, "program     {}, id {}, tag {}", program.name, program.id, program.tag)?;
        }
        writeln!(f, "flows       {} of {}", status.flows, status.max_flows)?;
        writeln!(f, "pins        {}", status.pin_dir.display())?;
        for (name, value) in status.counters.iter().filter(|(_, value)| **value > 0) {
            writeln!(f, "counter     {name:<24} {value:>12}")?;
        }
        Ok(())
    }
}
