//! `ringsteer status`: what the agent of this node says of itself.

use std::fmt::{self, Display};

use anyhow::Result;
use clap::Parser;

use super::{
    node::Node,
    output::{self, Output},
};
use crate::{
    control::{self, GatewayReport, Status},
    peer::agreement::Standing,
};

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
        let member = status.node.map_or("no member of the ring".to_owned(), |number| format!("member {number}"));
        writeln!(f, "node        {} ({member})", status.name)?;
        writeln!(f, "agent       ringsteer {}, process {}", status.version, status.pid)?;
        match &status.ring {
            Some(ring) => {
                let (epoch, digest, members) = (ring.epoch, ring.digest.short(), ring.members);
                writeln!(f, "ring        epoch {epoch}, digest {digest}, {members} members")?;
            }
            None => writeln!(f, "ring        none yet")?,
        }
        match &status.source.trouble {
            None => writeln!(f, "source      {}", status.source.name)?,
            Some(trouble) => {
                writeln!(
                    f,
                    "source      {}, in trouble for {} s: {trouble}",
                    status.source.name, status.source.trouble_s
                )?;
            }
        }
        let peers = Standing::ALL.map(|one| (status.peers.of(one), one.name()));
        let peers: Vec<_> =
            peers.iter().filter(|(count, _)| *count > 0).map(|(n, name)| format!("{n} {name}")).collect();
        writeln!(f, "peers       {}", if peers.is_empty() { "none".to_owned() } else { peers.join(", ") })?;
        for GatewayReport { version, pid, report, .. } in &status.gateways {
            let ring = report.ring.map_or("no ring yet".to_owned(), |ring| format!("ring {ring}"));
            writeln!(f, "gateway     ringsteer {version}, process {pid}, {ring}, {} sessions", report.sessions)?;
        }
        writeln!(f, "ready       {}", if status.readiness.ready { "yes" } else { "no" })?;
        for reason in &status.readiness.reasons {
            writeln!(f, "            {reason}")?;
        }
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
