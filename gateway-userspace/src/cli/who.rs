//! `ringsteer who`: where a user belongs, by everybody who has a say, and where the user really is.

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    node::{Node, Source},
    output::{self, Output, Verdict, ago, count, exit_codes, facts},
    pinned::Found,
};
use crate::{
    control::{self, KernelPlacement, Lookup, NodeSessions, Placement},
    inspect::placement::agree,
    session::entry::SessionEntry,
};

/// Show where a user belongs and where the user is
///
/// Says where the user stands on the ring; who owns that by the points in the kernel's map, which packets are placed by, by the
/// ring as the agent and the gateway have it, and by the ring before; and asks the gateways of this node and of both owners
/// for the user's sessions.
///
/// If the agent does not answer, the pinned maps are read. They know of no sessions.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer who alice\n  \
       ringsteer who alice --everywhere       ask every gateway, not only those where alice should be\n  \
       ringsteer who alice -o json | jq -r .kernel.address\n\n",
    exit_codes!("kernel and userspace do not name the same owner by the same ring")
))]
pub struct Args {
    /// The user id, as the server sees it: without percent-encoding
    #[arg(value_name = "USER")]
    user: String,
    /// Ask the gateways of all members for sessions
    #[arg(long)]
    everywhere: bool,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Where a user belongs, and is.
#[derive(Debug, Serialize)]
struct Who {
    user: String,
    source: Source,
    position: Option<u32>,
    kernel: Option<KernelPlacement>,
    kernel_error: Option<String>,
    userspace: Option<Placement>,
    previous: Option<Placement>,
    /// None if one of them cannot be had.
    agree: Option<bool>,
    /// None if nobody could be asked.
    sessions: Option<Vec<NodeSessions>>,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<Verdict> {
        let user = self.user.as_str();
        let lookup = async |socket: &std::path::Path| control::lookup(socket, user).await.map(Who::from);
        let (mut who, source) =
            self.node.ask_or_read(lookup, |pinned| Ok(Who::found(user, pinned.find(user)?))).await?;
        who.source = source;
        if source == Source::Agent {
            let sessions = self.node.ask(async |socket| control::sessions(socket, user, self.everywhere).await);
            who.sessions = Some(sessions.await?.nodes);
        }
        output::print(&match self.output {
            Output::Table => who.text(),
            Output::Json => output::json(&who)?,
        })?;
        Ok(if who.is_well() { Verdict::Fine } else { Verdict::Wanting })
    }
}

// === impl Who ===

impl From<Lookup> for Who {
    fn from(lookup: Lookup) -> Self {
        let Lookup { user, userspace, kernel, kernel_error, previous, agree } = lookup;
        let position = kernel.as_ref().map(|one| one.position).or(userspace.as_ref().map(|one| one.position));
        Self {
            user,
            source: Source::Agent,
            position,
            kernel,
            kernel_error,
            userspace,
            previous,
            agree: Some(agree),
            sessions: None,
        }
    }
}

impl Who {
    fn found(user: &str, Found { kernel, userspace, previous }: Found) -> Self {
        Self {
            user: user.to_owned(),
            source: Source::Maps,
            position: Some(kernel.position),
            agree: userspace.as_ref().map(|ours| agree(&kernel, ours)),
            kernel: Some(kernel),
            kernel_error: None,
            userspace,
            previous,
            sessions: None,
        }
    }

    fn is_well(&self) -> bool {
        self.agree != Some(false)
    }

    fn text(&self) -> String {
        let without_agent = self.source == Source::Maps;
        let mut lines = vec![("user", self.user.clone())];
        if let Some(position) = self.position {
            lines.push(("position", format!("{position} of 4294967296")));
        }
        lines.extend(named("kernel", self.by_kernel()));
        lines.extend(named(
            "userspace",
            match &self.userspace {
                Some(ours) => by_ring(ours),
                None if without_agent => vec!["not known without the agent".into()],
                None => vec!["no ring yet".into()],
            },
        ));
        let verdict = match self.agree {
            Some(true) => "yes: one owner, by one ring",
            Some(false) => "NO: packets go where the kernel says",
            None => "not known",
        };
        lines.push(("agree", verdict.into()));
        lines.extend(named(
            "before",
            match &self.previous {
                Some(before) if Some(before.number) == self.userspace.as_ref().map(|ours| ours.number) => {
                    vec![format!("the same node, by ring {}", before.ring)]
                }
                Some(before) => by_ring(before),
                None if without_agent => vec!["not known without the agent".into()],
                None => vec!["there was no other ring".into()],
            },
        ));
        lines.extend(named(
            "sessions",
            match &self.sessions {
                Some(nodes) => nodes.iter().flat_map(sessions_at).collect(),
                None => vec!["not known: only the agent can ask the gateways".into()],
            },
        ));
        facts(lines)
    }

    fn by_kernel(&self) -> Vec<String> {
        match (&self.kernel, &self.kernel_error) {
            (Some(one), _) => {
                let KernelPlacement { node, point, point_index, point_count, epoch, digest, .. } = one;
                let identity = one.identity.as_deref().unwrap_or("which is not in `nodes`,");
                let address = one.address.map_or_else(|| "no address".into(), |address| address.to_string());
                let index = point_index + 1;
                vec![
                    format!("node {node}, {identity} at {address}"),
                    format!("by ring {digest} of epoch {epoch}, point {index} of {point_count}, at {point}"),
                ]
            }
            (None, Some(error)) => vec![format!("cannot say: {error}")],
            (None, None) => vec!["cannot say".into()],
        }
    }
}

/// What a ring says.
fn by_ring(Placement { ring, number, identity, address, .. }: &Placement) -> Vec<String> {
    vec![format!("node {number}, {identity} at {address}"), format!("by ring {ring}")]
}

/// What the gateway of a node says.
fn sessions_at(node: &NodeSessions) -> Vec<String> {
    let at = match node.number {
        _ if node.here => "this node".to_owned(),
        Some(number) => format!("node {number}"),
        None => node.name.clone(),
    };
    match &node.error {
        Some(error) => vec![format!("{at}: cannot say: {error}")],
        None if node.sessions.is_empty() => vec![format!("{at}: none")],
        None => {
            let one = |one: &SessionEntry| {
                let waiting = count(one.queued as usize, "message");
                format!("{at}: {}, connected for {}, {waiting} waiting", one.client, ago(one.age_ms))
            };
            node.sessions.iter().map(one).collect()
        }
    }
}

/// Facts of one name in several lines.
fn named(name: &'static str, lines: Vec<String>) -> impl Iterator<Item = (&'static str, String)> {
    std::iter::once(name).chain(std::iter::repeat("")).zip(lines)
}
