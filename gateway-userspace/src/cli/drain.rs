//! `ringsteer drain`: this node is to leave, without its users losing their connections.

use std::path::Path;

use anyhow::Result;
use clap::Parser;

use super::{
    node::Node,
    output::{self, Output, Verdict},
};
use crate::{control, ring::MemberState};

/// Have this node announce that it is about to leave: it keeps its connections and gets no new users
///
/// For fleets whose nodes announce themselves (etcd). Elsewhere the state stands where the members are listed, and this
/// command says where that is. The state is kept when the agent is started again; `--end` takes it back. `ringsteer
/// nodes` shows how many flows the node still holds.
#[derive(Debug, Parser)]
pub struct Args {
    /// Take it back: the node is there for new users again
    #[arg(long)]
    end: bool,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Tells the agent, and prints what it says.
    pub async fn run(self) -> Result<Verdict> {
        let wanted = if self.end { MemberState::Active } else { MemberState::Draining };
        let state = self.node.ask(async |socket: &Path| control::announce(socket, wanted).await).await?;
        output::print(&match self.output {
            Output::Table => format!("this node announces itself as {state}\n"),
            Output::Json => output::json(&serde_json::json!({ "announced": state }))?,
        })?;
        Ok(Verdict::Fine)
    }
}
