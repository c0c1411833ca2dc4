//! `ringsteer status`: what the agent of this node says of itself and of the others.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    node::Node,
    nodes::standing,
    output::{self, Output, Verdict, ago, count, exit_codes, facts, percent},
    pinned::Pinned,
};
use crate::{
    config::Mode,
    control::{self, GatewayReport, PeerStatus, Readiness, RingStatus, Stats, Status},
    peer::agreement::Standing,
    ring::Epoch,
};

/// What a node is that the ring does not have.
const NO_MEMBER: &str = "no member of the ring: an edge that owns nothing";

/// Why a node without an agent is not ready.
const NO_AGENT: &str =
    "its agent does not answer: the kernel steers on by the ring it has, and hears of no other; see the agent's log";

/// Show how this node is: its ring and where that comes from, whether the others agree, programs, drops
///
/// Asks the agent. Without it the kernel steers all the same, by the ring it has: the pinned maps then say by which, and
/// what it does. What only an agent knows is left out, and a node without one is not well.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer status\n  \
       ringsteer status -o json | jq -r '.readiness.reasons[]'\n  \
       ringsteer status >/dev/null || echo \"this node needs looking after\"\n\n",
    exit_codes!("this node is not ready, has no agent, its source of rings is in trouble, or a member has another ring")
))]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What can be told. In other commands the tag is called `source`; here that is where rings come from.
#[derive(Serialize)]
#[serde(tag = "told_by", rename_all = "lowercase")]
enum Told {
    /// By the agent.
    Agent(Box<Report>),
    /// By what it has left.
    Maps(Left),
}

/// What the maps tell of a node whose agent does not answer.
#[derive(Serialize)]
struct Left {
    /// Which member this node is, if it is one.
    node: Option<u32>,
    /// By its identity.
    identity: Option<String>,
    readiness: Readiness,
    ring: RingLeft,
    /// Where the programs run: the pinned links.
    links: Vec<LinkLeft>,
    pin_dir: PathBuf,
    #[serde(flatten)]
    stats: Stats,
}

/// The ring in the kernel.
#[derive(Serialize)]
struct RingLeft {
    epoch: Epoch,
    /// The first 16 digits; the map has no more.
    digest: String,
    members: usize,
}

/// A program on an interface.
#[derive(Serialize)]
struct LinkLeft {
    name: String,
    /// The program's number in the kernel.
    program: u32,
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
            let others = control::peers(socket).await?.peers;
            Ok(Told::Agent(Box::new(Report { status, others })))
        };
        let (told, _) = self.node.ask_or_read(question, |pinned| Left::read(pinned).map(Told::Maps)).await?;
        output::print(&match (self.output, &told) {
            (Output::Table, Told::Agent(report)) => report.text(SystemTime::now()),
            (Output::Table, Told::Maps(left)) => left.text(),
            (Output::Json, told) => output::json(told)?,
        })?;
        Ok(match &told {
            Told::Agent(report) if report.is_well() => Verdict::Fine,
            Told::Agent(_) | Told::Maps(_) => Verdict::Wanting,
        })
    }
}

// === impl Left ===

impl Left {
    fn read(pinned: &Pinned) -> Result<Self> {
        let members = pinned.members()?;
        let here = members.nodes.iter().find(|node| node.here);
        let links = pinned.links()?.into_iter().map(|link| LinkLeft { name: link.name, program: link.program });
        Ok(Self {
            node: here.map(|node| node.number),
            identity: here.map(|node| node.identity.clone()),
            readiness: vec![NO_AGENT.to_owned()].into(),
            ring: RingLeft { epoch: members.epoch, digest: members.digest.to_string(), members: members.nodes.len() },
            links: links.collect(),
            pin_dir: pinned.directory().to_owned(),
            stats: pinned.stats()?,
        })
    }

    fn text(&self) -> String {
        let node = match (&self.node, &self.identity) {
            (Some(number), Some(identity)) => format!("member {number}, {identity}"),
            _ => NO_MEMBER.into(),
        };
        let RingLeft { epoch, digest, members } = &self.ring;
        let mut lines = vec![("node", node), ("ready", "NO".into())];
        lines.extend(self.readiness.reasons.iter().map(|reason| ("", reason.clone())));
        lines.push(("agent", "none that answers".into()));
        lines.push(("ring", format!("epoch {epoch}, digest {digest}, {}", count(*members, "member"))));
        let links = self.links.iter().map(|link| ("link", format!("{}, program {}", link.name, link.program)));
        if self.links.is_empty() {
            lines.push(("link", "none: nothing is steered".into()));
        }
        lines.extend(links);
        lines.extend(table_and_drops(&self.pin_dir, self.stats.flows, self.stats.max_flows, &self.stats.counters));
        facts(lines)
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
            _ => NO_MEMBER.into(),
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
        let Status { mode, interfaces, programs, flows, max_flows, pin_dir, counters, .. } = &self.status;
        let mode = match mode {
            Mode::LateBinding => "late-binding: the owner is chosen at the first data, before there is a socket",
            Mode::Accept => {
                "accept: a node chosen by addresses accepts, and its gateway hands the connection to the owner"
            }
        };
        let interfaces = interfaces.iter().map(|one| {
            let mode = format!("{:?}", one.xdp_mode).to_lowercase();
            ("interface", format!("{}, XDP {mode}", one.name))
        });
        let programs = programs.iter().map(|one| ("program", format!("{}, id {}, tag {}", one.name, one.id, one.tag)));
        let rest = table_and_drops(pin_dir, *flows, *max_flows, counters);
        [("mode", mode.to_owned())].into_iter().chain(interfaces).chain(programs).chain(rest).collect()
    }
}

/// How full the flow table is, and what was dropped.
fn table_and_drops(
    pin_dir: &Path,
    flows: u64,
    max_flows: u64,
    counters: &BTreeMap<String, u64>,
) -> [(&'static str, String); 3] {
    let dropped = counters.iter().filter(|(name, count)| name.starts_with("drop_") && **count > 0);
    let dropped: Vec<_> =
        dropped.map(|(name, count)| format!("{count} {}", name["drop_".len()..].replace('_', " "))).collect();
    let share = percent(flows as f64 / max_flows.max(1) as f64);
    [
        ("pins", pin_dir.display().to_string()),
        ("flows", format!("{flows} of {max_flows} ({share})")),
        ("drops", if dropped.is_empty() { "none".into() } else { dropped.join(", ") }),
    ]
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
