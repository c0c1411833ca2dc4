//! `ringsteer services`: what is steered.

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    node::{Node, Source},
    output::{self, Output, Verdict, exit_codes, left, right, table},
};
use crate::{
    config::Serve,
    control::{self, ServiceStatus, Services},
};

/// List what is steered: virtual addresses, where the key stands, what the gateway does there, and the flows at this edge
///
/// Of the kernel's map and the configuration, both: a service without a number is configured and not steered, one without a
/// name is steered and not configured any more.
///
/// If the agent does not answer, the pinned maps are read.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer services\n  \
       ringsteer services -o json | jq '[.services[].flows] | add'\n\n",
    exit_codes!()
))]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Shown {
    source: Source,
    #[serde(flatten)]
    services: Services,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<Verdict> {
        let read = |pinned: &super::pinned::Pinned| Ok(Services { services: pinned.services()? });
        let (services, source) = self.node.ask_or_read(async |socket| control::services(socket).await, read).await?;
        let shown = Shown { source, services };
        output::print(&match self.output {
            Output::Table => shown.text(),
            Output::Json => output::json(&shown)?,
        })?;
        Ok(Verdict::Fine)
    }
}

impl Shown {
    fn text(&self) -> String {
        let rows = self.services.services.iter().map(|one| {
            let ServiceStatus { number, name, address, parameter, serve, mss, flows } = one;
            let or = |value: Option<String>, otherwise: &str| value.unwrap_or_else(|| otherwise.to_owned());
            [
                or(number.map(|number| number.to_string()), "not steered"),
                or(name.clone(), "not configured"),
                address.to_string(),
                or(parameter.clone(), "4-tuple"),
                match serve {
                    Some(Serve::OpenIm) => "openim",
                    Some(Serve::Websocket) => "websocket",
                    Some(Serve::Push) => "push",
                    Some(Serve::None) => "nothing",
                    None => "?",
                }
                .to_owned(),
                or(mss.map(|mss| mss.to_string()), "-"),
                flows.to_string(),
            ]
        });
        let titles = [
            right("number"),
            left("name"),
            left("address"),
            left("key"),
            left("gateway"),
            right("MSS"),
            right("flows"),
        ];
        table(titles, rows)
    }
}
