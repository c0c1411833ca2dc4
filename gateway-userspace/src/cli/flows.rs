//! `ringsteer flows`: connections at this edge, and the nodes that hold them.

use std::{net::IpAddr, path::Path};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    names::Names,
    node::{Node, Source},
    output::{self, Output, Verdict, ago, bytes, count, exit_codes, left, right, table},
};
use crate::{
    control::{self, FlowEntry, FlowFilter, FlowState, FlowsEnd},
    inspect::flows::Wanted,
};

/// List the connections that enter the fleet at this node, and the node that holds each
///
/// With several conditions, those to which all apply. `key` is the hash of the key that a connection was bound by, CRC-32; with
/// none the 4-tuple decided. Other users may have the same hash as the one asked for: one in 4 294 967 296.
///
/// If the agent does not answer, the pinned maps are read.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer flows --user alice\n  \
       ringsteer flows --node gw-2.example --limit 20     by number, identity, or identity without the port\n  \
       ringsteer flows --client 203.0.113.9 -o json\n  \
       ringsteer flows --limit 0                          only count them\n\n",
    exit_codes!()
))]
pub struct Args {
    /// Only those of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only those that this node holds
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only those of this client
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// Show this many at most, and count the rest
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    asked: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The flows found.
#[derive(Serialize)]
struct Found {
    source: Source,
    #[serde(flatten)]
    end: FlowsEnd,
    flows: Vec<Row>,
    #[serde(skip)]
    names: Names,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    flow: FlowEntry,
    /// The identity of the node that holds it; none if it is no member any more.
    identity: Option<String>,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<Verdict> {
        let names = Names::of(&self.asked).await?;
        let node = self.node.as_deref().map(|name| names.find(name)).transpose()?;
        let limit = Some(self.limit);
        let question = async |socket: &Path| {
            let filter = FlowFilter { node, client: self.client, key_hash: None, user: self.user.clone(), limit };
            let mut flows = Vec::new();
            let end = control::flows(socket, filter, |flow| flows.push(flow)).await?;
            Ok((flows, end))
        };
        let wanted = Wanted { node, client: self.client, key_hash: None, limit };
        let ((mut flows, end), source) =
            self.asked.ask_or_read(question, |pinned| pinned.flows(&wanted, self.user.as_deref())).await?;
        flows.sort_by_key(|flow| (flow.service, flow.client));
        let row = |flow: FlowEntry| Row { identity: names.identity(flow.node).map(str::to_owned), flow };
        let flows = flows.into_iter().map(row).collect();
        let found = Found { source, end, flows, names };
        output::print(&match self.output {
            Output::Table => found.text(),
            Output::Json => output::json(&found)?,
        })?;
        Ok(Verdict::Fine)
    }
}

impl Found {
    fn text(&self) -> String {
        let rows = self.flows.iter().map(|Row { flow, .. }| {
            let service = flow.service_name.clone().or(flow.service.map(|address| address.to_string()));
            [
                flow.client.to_string(),
                service.unwrap_or_else(|| "removed".into()),
                self.names.label(flow.node),
                flow.key_hash.map_or_else(|| "none".into(), |hash| hash.to_string()),
                ago(flow.age_ms),
                ago(flow.idle_ms),
                flow.packets.to_string(),
                bytes(flow.bytes),
                match flow.state {
                    FlowState::Open => "open",
                    FlowState::Closing => "closing",
                    FlowState::Held => "held",
                    FlowState::Moved => "moved",
                }
                .into(),
            ]
        });
        let titles = [
            left("client"),
            left("service"),
            left("held by"),
            right("key"),
            right("age"),
            right("idle"),
            right("packets"),
            right("bytes"),
            left("state"),
        ];
        let FlowsEnd { total, matched, held, moved } = self.end;
        let (shown, of) = (self.flows.len() as u64, count(total as usize, "flow"));
        let summary = match matched {
            _ if matched == total => of,
            _ => format!("{matched} of {of} match"),
        };
        let rest = if shown < matched { format!(", {shown} shown (see --limit)") } else { String::new() };
        let on_the_move = if held + moved > 0 {
            format!("; on the move: {held} held on this node, {moved} that have left it")
        } else {
            String::new()
        };
        let rest = rest + &on_the_move;
        if shown == 0 { summary + &rest + "\n" } else { table(titles, rows) + "\n" + &summary + &rest + "\n" }
    }
}
