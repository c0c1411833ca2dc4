//! `ringsteer status`: what the agent of this node says of itself and of the others.

use std::{path::Path, time::SystemTime};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde::Serialize;

use super::{
    node::Node,
    nodes::standing,
    output::{self, Output, Verdict, ago, count, exit_codes, facts, percent},
};
use crate::{
    control::{self, GatewayReport, PeerStatus, RingStatus, Status},
    peer::agreement::Standing,
};

/// Show how this node is: its ring and where that comes from, whether the others agree, programs, drops
///
/// Asks the agent. Without it the kernel steers all the same: `stats`, `flows`, `ring show`, `who`, `nodes` and `services` then
/// read the pinned maps.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer status\n  \
       ringsteer status -o json | jq -r '.readiness.reasons[]'\n  \
       ringsteer status >/dev/null || echo \"this node needs looking after\"\n\n",
    exit_codes!("this node is not ready, its source of rings is in trouble, or a member has another ring")
))]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// All that is asked.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    status: Status,
    /// The other members.
    others: Vec<PeerStatus>,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<Verdict> {
        let question = async |socket: &Path| {
            let status = control::status(socket).await?;
            Ok(Report { status, others: control::peers(socket).await?.peers })
        };
        let asked = self.node.ask(question).await;
        let report =
            asked.context("how this node is, only its agent knows (`ringsteer stats` shows what the kernel does)")?;
        output::print(&match self.output {
            Output::Table => report.text(SystemTime::now()),
            Output::Json => output::json(&report)?,
        })?;
        Ok(if report.is_well() { Verdict::Fine } else { Verdict::Wanting })
    }
}

// === impl Report ===

impl Report {
    fn is_well(&self) -> bool {
        let Status { readiness, source, peers, .. } = &self.status;
        readiness.ready && source.trouble.is_none() && peers.of(Standing::Differs) == 0
    }

    fn text(&self, now: SystemTime) -> String {
        let Status { name, node, version, pid, started_at_unix_s, readiness, .. } = &self.status;
        let started = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(*started_at_unix_s);
        let uptime_ms = now.duration_since(started).map_or(0, |since| since.as_millis() as u64);
        let member = match (node, self.status.ring.as_ref().and_then(|ring| ring.state)) {
            (Some(number), Some(state)) => format!("member {number}, {state}"),
            _ => "no member of the ring: an edge that owns nothing".into(),
        };
        let mut lines = vec![("node", format!("{name}, {member}"))];
        lines.push(("ready", if readiness.ready { "yes".into() } else { "NO".into() }));
        lines.extend(readiness.reasons.iter().map(|reason| ("", reason.clone())));
        lines.push(("agent", format!("ringsteer {version}, process {pid}, up {}", ago(uptime_ms))));
        lines.extend(self.ring());
        lines.push(("source", self.source()));
        lines.extend(self.peers());
        lines.extend(self.gateways());
        lines.extend(self.kernel());
        facts(lines)
    }

    fn ring(&self) -> Vec<(&'static str, String)> {
        let Some(RingStatus { epoch, digest, algorithm, members, previous, .. }) = &self.status.ring else {
            return vec![("ring", "none yet: nothing is steered".into())];
        };
        let members = count(*members as usize, "member");
        let mut lines = vec![("ring", format!("epoch {epoch}, digest {}, {algorithm}, {members}", digest.short()))];
        if let Some(previous) = previous {
            lines.push(("", format!("before it epoch {}, digest {}", previous.epoch, previous.digest.short())));
        }
        lines
    }

    fn source(&self) -> String {
        let source = &self.status.source;
        match &source.trouble {
            None => format!("{}, no trouble", source.name),
            Some(trouble) => {
                format!("{}, IN TROUBLE for {}: {trouble}", source.name, ago(source.trouble_s.saturating_mul(1000)))
            }
        }
    }

    /// How many stand how; and by name those that do not agree.
    fn peers(&self) -> Vec<(&'static str, String)> {
        let counts = Standing::ALL.map(|one| (self.status.peers.of(one), one.name()));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts.map(|&(count, name)| stand(count, name)).collect();
        let mut lines = vec![("peers", if counts.is_empty() { "no others".into() } else { counts.join(", ") })];
        let wanting = self.others.iter().filter(|one| one.standing != Standing::Agrees || !one.link.up);
        lines.extend(wanting.map(|one| {
            let link = match &one.link.error {
                _ if one.link.up => String::new(),
                Some(error) => format!("; no link to it: {error}"),
                None => "; no link to it yet".into(),
            };
            let PeerStatus { number, identity, address, for_ms, .. } = one;
            ("", format!("{number}, {identity} at {address}: {} for {}{link}", standing(one), ago(*for_ms)))
        }));
        lines
    }

    fn gateways(&self) -> Vec<(&'static str, String)> {
        if self.status.gateways.is_empty() {
            return vec![("gateway", "none attached".into())];
        }
        let line = |GatewayReport { version, pid, heard_ms_ago, report }: &GatewayReport| {
            let follows = match (report.ring, &self.status.ring) {
                (Some(theirs), Some(ours)) if theirs.digest == ours.digest && theirs.epoch == ours.epoch => {
                    "follows the ring".to_owned()
                }
                (Some(theirs), _) => format!("STILL FOLLOWS ring {theirs}"),
                (None, _) => "follows no ring yet".to_owned(),
            };
            let (users, sessions) = (count(report.users as usize, "user"), count(report.sessions as usize, "session"));
            let heard = format!("heard {} ago", ago(*heard_ms_ago));
            ("gateway", format!("ringsteer {version}, process {pid}, {follows}, {users}, {sessions}, {heard}"))
        };
        self.status.gateways.iter().map(line).collect()
    }

    fn kernel(&self) -> Vec<(&'static str, String)> {
        let Status { interfaces, programs, flows, max_flows, pin_dir, counters, .. } = &self.status;
        let interfaces = interfaces.iter().map(|one| {
            let mode = format!("{:?}", one.xdp_mode).to_lowercase();
            ("interface", format!("{}, XDP {mode}", one.name))
        });
        let programs = programs.iter().map(|one| ("program", format!("{}, id {}, tag {}", one.name, one.id, one.tag)));
        let dropped = counters.iter().filter(|(name, count)| name.starts_with("drop_") && **count > 0);
        let dropped: Vec<_> =
            dropped.map(|(name, count)| format!("{count} {}", name["drop_".len()..].replace('_', " "))).collect();
        let share = percent(*flows as f64 / (*max_flows).max(1) as f64);
        let rest = [
            ("pins", pin_dir.display().to_string()),
            ("flows", format!("{flows} of {max_flows} ({share})")),
            ("drops", if dropped.is_empty() { "none".into() } else { dropped.join(", ") }),
        ];
        interfaces.chain(programs).chain(rest).collect()
    }
}

/// So many members stand so: `1 agrees`, `2 agree`, `3 ahead`.
fn stand(count: u32, standing: &str) -> String {
    let plural = if count == 1 { standing } else { standing.strip_suffix('s').unwrap_or(standing) };
    format!("{count} {plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_counted_in_words() {
        let told = Standing::ALL.map(|one| [stand(1, one.name()), stand(2, one.name())].join(", "));
        let expected =
            ["1 agrees, 2 agree", "1 lags, 2 lag", "1 ahead, 2 ahead", "1 differs, 2 differ", "1 silent, 2 silent"];
        assert_eq!(told, expected);
    }
}
