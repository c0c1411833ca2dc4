//! `ringsteer stats`: the kernel's counters, once or as they move.

mod rates;

use std::{path::Path, time::Duration};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use self::rates::{Moved, Rates};
use super::{
    node::{Node, Source},
    output::{self, Output, Reader, Verdict, exit_codes, left, percent, right, table},
};
use crate::{
    control::{self, Stats},
    told_to_stop::told_to_stop,
};

/// Show the kernel's counters: all that are not zero, or with --watch the rates of those that move
///
/// Each packet that the programs see ends in at least one counter, and nothing is dropped uncounted: those named `drop_…` are
/// all the reasons there are. They count from the moment the maps were made, over all restarts of the agent.
///
/// If the agent does not answer, the pinned maps are read; while watching, whoever can tell at that moment.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer stats\n  \
       ringsteer stats --watch                 each second, until interrupted\n  \
       ringsteer stats --watch 500ms -o json   one object a line\n  \
       ringsteer stats -o json | jq '.counters | with_entries(select(.key | startswith(\"drop_\")))'\n\n",
    "Being interrupted ends --watch with exit code 0.\n\n",
    exit_codes!()
))]
pub struct Args {
    /// Show the rates, again and again, at this interval: seconds, or with a unit (ms, s, m); each second if left out
    #[arg(
        short, long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = rates::interval
    )]
    watch: Option<Duration>,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Shown<T> {
    source: Source,
    #[serde(flatten)]
    what: T,
}

impl Args {
    /// Asks and prints, once or until interrupted.
    pub async fn run(self) -> Result<Verdict> {
        match self.watch {
            Some(every) => self.watch(every).await?,
            None => {
                let shown = self.read().await?;
                output::print(&match self.output {
                    Output::Table => totals(&shown.what),
                    Output::Json => output::json(&shown)?,
                })?;
            }
        }
        Ok(Verdict::Fine)
    }

    async fn watch(&self, every: Duration) -> Result<()> {
        let stop = told_to_stop()?;
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            ticks.tick().await;
            let mut before = self.read().await?.what;
            loop {
                ticks.tick().await;
                let Shown { source, what: now } = self.read().await?;
                let rates = Rates::between(&before, &now);
                let text = match self.output {
                    Output::Table => moving(&rates),
                    Output::Json => serde_json::to_string(&Shown { source, what: &rates })? + "\n",
                };
                if output::show(&text)? == Reader::Gone {
                    return Ok(());
                }
                before = now;
            }
        };
        tokio::select! {
            ended = watching => ended,
            () = stop => Ok(()),
        }
    }

    async fn read(&self) -> Result<Shown<Stats>> {
        let question = async |socket: &Path| control::stats(socket).await;
        let (what, source) = self.node.ask_or_read(question, |pinned| pinned.stats()).await?;
        Ok(Shown { source, what })
    }
}

fn totals(stats: &Stats) -> String {
    let counted = stats.counters.iter().filter(|(_, total)| **total > 0);
    let rows = counted.map(|(name, total)| [name.clone(), total.to_string()]);
    table([left("counter"), right("total")], rows) + "\n" + &flows(stats.flows, stats.max_flows)
}

fn moving(rates: &Rates) -> String {
    let rows = rates.counters.iter().map(|(name, Moved { per_s, total })| {
        // A counter that moves never shows a rate of nothing.
        let rate = if *per_s < 10.0 { format!("{per_s:.2}") } else { format!("{per_s:.0}") };
        [name.clone(), rate, total.to_string()]
    });
    let rows: Vec<_> = rows.collect();
    let table = if rows.is_empty() {
        format!("nothing moved in {:.1} s\n", rates.seconds)
    } else {
        table([left("counter"), right("per second"), right("total")], rows)
    };
    table + &flows(rates.flows, rates.max_flows) + "\n"
}

fn flows(flows: u64, max_flows: u64) -> String {
    format!("{flows} of {max_flows} flows ({})\n", percent(flows as f64 / max_flows.max(1) as f64))
}
