//! `ringsteer nodes`: the members of the ring, what they hold, and whether they agree.

use std::path::Path;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::{
    node::{Node, Source},
    output::{self, Output, Verdict, ago, count, exit_codes, facts, left, percent, right, table},
    pinned,
};
use crate::{
    control::{self, MemberStatus, PeerStatus},
    peer::agreement::Standing,
    ring::{Epoch, MemberState, NodeAddress, Ring},
};

/// List the members of the ring: what they own, the flows they hold here, and whether they agree on the ring
///
/// `ring` is how a member's ring stands to this node's: agrees, lags (it has not heard the news), ahead (we have not), differs
/// (another ring of the same epoch), silent (not heard for three seconds). `link` is the connection that this node makes to
/// it; if it is down, the reason stands in the JSON.
///
/// If the agent does not answer, the pinned maps are read. They know nothing of the others' rings.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer nodes\n  \
       ringsteer nodes -o json | jq -r '.members[] | select(.peer.standing == \"differs\").identity'\n\n",
    exit_codes!()
))]
pub struct Args {
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The members.
#[derive(Debug, Serialize)]
struct Nodes {
    source: Source,
    /// None if there is no ring yet.
    epoch: Option<Epoch>,
    /// All of it, or, from the maps, the first 16 digits.
    digest: Option<String>,
    members: Vec<NodeRow>,
    /// Flows whose node is no member any more.
    orphaned_flows: u64,
}

#[derive(Debug, Serialize)]
struct NodeRow {
    number: u32,
    identity: String,
    address: Option<NodeAddress>,
    here: bool,
    /// None if only the agent knows.
    state: Option<MemberState>,
    /// From 0 to 1; none if only the agent knows.
    share: Option<f64>,
    flows: u64,
    /// What is known of it as another node; none for this node, and if only the agent knows.
    peer: Option<PeerStatus>,
}

impl Args {
    /// Asks and prints.
    pub async fn run(self) -> Result<Verdict> {
        let question = async |socket: &Path| {
            let members = control::members(socket).await?;
            Ok(Nodes::told(members, control::peers(socket).await?))
        };
        let (nodes, _) = self.node.ask_or_read(question, |pinned| pinned.members().map(Nodes::read)).await?;
        output::print(&match self.output {
            Output::Table => nodes.text(),
            Output::Json => output::json(&nodes)?,
        })?;
        Ok(Verdict::Fine)
    }
}

// === impl Nodes ===

impl Nodes {
    fn told(members: control::Members, peers: control::Peers) -> Self {
        let mut peers = peers.peers;
        let mut row = |member: MemberStatus| {
            let peer = peers.iter().position(|peer| peer.number == member.number).map(|place| peers.swap_remove(place));
            NodeRow {
                number: member.number.get().into(),
                identity: member.identity,
                address: Some(member.address),
                here: member.here,
                state: Some(member.state),
                share: Some(member.share),
                flows: member.flows,
                peer,
            }
        };
        Self {
            source: Source::Agent,
            epoch: members.ring.map(|ring| ring.epoch),
            digest: members.ring.map(|ring| ring.digest.to_string()),
            members: members.members.into_iter().map(&mut row).collect(),
            orphaned_flows: members.orphaned_flows,
        }
    }

    fn read(pinned::Members { epoch, digest, nodes, mut held, ring }: pinned::Members) -> Self {
        let shares = ring.as_ref().map(Ring::shares).unwrap_or_default();
        let members = nodes.into_iter().map(|node| {
            let is_it = |number: u16| u32::from(number) == node.number;
            let member = ring.as_ref().and_then(|ring| ring.members().iter().find(|member| is_it(member.number.get())));
            NodeRow {
                number: node.number,
                // The map may hold only the first part.
                identity: member.map_or(node.identity, |member| member.identity.to_string()),
                address: node.address,
                here: node.here,
                state: member.map(|member| member.state),
                share: shares.iter().find(|(number, _)| is_it(number.get())).map(|&(_, share)| share),
                flows: held.remove(&node.number).unwrap_or(0),
                peer: None,
            }
        });
        Self {
            source: Source::Maps,
            epoch: Some(epoch),
            digest: Some(digest.to_string()),
            members: members.collect(),
            orphaned_flows: held.into_values().sum(),
        }
    }

    fn text(&self) -> String {
        let Some((epoch, digest)) = self.epoch.zip(self.digest.as_ref()) else {
            return "there is no ring in force yet; `ringsteer status` says what is missing\n".into();
        };
        let unknown = || "?".to_owned();
        let rows = self.members.iter().map(|one| {
            let peer = |what: fn(&PeerStatus) -> String| match &one.peer {
                _ if one.here => "here".to_owned(),
                Some(peer) => what(peer),
                None => unknown(),
            };
            [
                one.number.to_string(),
                one.identity.clone(),
                one.address.map_or_else(unknown, |address| address.to_string()),
                one.state.map_or_else(unknown, |state| state.to_string()),
                one.share.map_or_else(unknown, percent),
                one.flows.to_string(),
                peer(standing),
                peer(|peer| if peer.link.up { "up" } else { "down" }.to_owned()),
                peer(|peer| peer.heard_ms_ago.map_or_else(|| "never".into(), |ms| ago(ms) + " ago")),
            ]
        });
        let members = count(self.members.len(), "member");
        let mut text =
            facts([("ring", format!("epoch {epoch}, digest {}, {members}", &digest[..16.min(digest.len())]))]);
        if self.orphaned_flows > 0 {
            let flows = count(self.orphaned_flows as usize, "flow");
            text += &facts([("orphans", format!("{flows} of nodes that are no members any more"))]);
        }
        let titles = [
            right("number"),
            left("member"),
            left("address"),
            left("state"),
            right("share"),
            right("flows"),
            left("ring"),
            left("link"),
            left("heard"),
        ];
        text + "\n" + &table(titles, rows)
    }
}

/// How a member's ring stands to ours, with its epoch where it is another.
pub fn standing(peer: &PeerStatus) -> String {
    match (peer.standing, peer.agent) {
        (Standing::Lags | Standing::Ahead, Some(ring)) => format!("{} (epoch {})", peer.standing.name(), ring.epoch),
        (Standing::Differs, Some(ring)) => format!("differs ({})", ring.digest.short()),
        (standing, _) => standing.name().to_owned(),
    }
}
