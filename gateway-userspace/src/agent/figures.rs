//! The figures of the agent, and of the kernel programs it looks after.

use std::{collections::BTreeMap, ops::ControlFlow};

use anyhow::{Context as _, Result};

use super::shared::{Agent, lock};
use crate::{
    peer::{agreement::Standing, counters::Counts as PeerCounts},
    ring::{MemberState, Ring},
    telemetry::{Figures, Subject},
};

impl Subject for Agent {
    fn figures(&self) -> Result<Figures> {
        let mut figures = Figures::default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        figures.info("build_info", "The agent's version", vec![("role", "agent".into()), ("version", version)]);
        figures.gauge("ready", "1 if others may rely on this node; /readyz says why not", self.unready().is_empty());
        self.kernel(&mut figures).context("cannot read the kernel's maps")?;
        self.ring(&mut figures);
        self.others(&mut figures);
        self.own(&mut figures);
        Ok(figures)
    }

    fn unready(&self) -> Vec<String> {
        Agent::unready(self)
    }
}

impl Agent {
    /// What the kernel programs count, and how full their tables are.
    fn kernel(&self, figures: &mut Figures) -> Result<()> {
        let stats = self.readings.stats()?;
        figures.counters(
            "packets",
            "Packets seen by the kernel programs, by what became of them: the fields of the map `stats`",
            stats.named().map(|(verdict, count)| (vec![("verdict", verdict.to_owned())], count)),
        );
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        self.readings.flows.each(|_, flow| {
            *held.entry(flow.node).or_default() += 1;
            ControlFlow::Continue(())
        })?;
        figures.gauge("flows", "Flows in the table of this edge", held.values().sum::<u64>());
        figures.gauge("flows_max", "Flows that the table of this edge has room for", self.config().node.max_flows);
        figures.gauges(
            "node_flows",
            "Flows at this edge, by the number of the node that holds them",
            held.into_iter().map(|(node, flows)| (vec![("node", node.to_string())], flows)),
        );
        Ok(())
    }

    /// The ring in force, and where it came from.
    fn ring(&self, figures: &mut Figures) {
        let in_force = self.in_force();
        let ring = in_force.ring.as_ref();
        figures.gauge("ring_epoch", "Epoch of the ring in force; 0 without one", ring.map_or(0, |ring| ring.epoch().0));
        let labels = |ring: &Ring| {
            let (digest, algorithm) = (ring.digest().to_string(), ring.algorithm().to_string());
            (vec![("digest", digest), ("algorithm", algorithm)], 1u64)
        };
        figures.gauges("ring_info", "The ring in force", ring.map(labels));
        figures.gauge(
            "ring_publish_seconds",
            "How long it took from hearing of the ring in force to having it in the kernel's maps",
            lock(&self.publishing_took).as_secs_f64(),
        );
        let members = ring.map(Ring::members).unwrap_or_default();
        let of = |state: MemberState| members.iter().filter(|member| member.state == state).count();
        figures.gauges(
            "ring_members",
            "Members of the ring in force, by their state",
            [MemberState::Active, MemberState::Draining].map(|state| (vec![("state", state.to_string())], of(state))),
        );
        figures.gauge("ring_member", "1 if the ring in force has this node", in_force.number.is_some());
        let draining = *self.announced.borrow() == MemberState::Draining;
        figures.gauge("draining", "1 while this node announces that it is about to leave", draining);
        let source = self.source_status();
        let labels = || vec![("source", source.name.clone())];
        figures.gauges(
            "source_trouble",
            "1 while something is wrong with the source of membership: the ring in force stays until that is over",
            [(labels(), source.trouble.is_some())],
        );
        figures.counters("source_troubles", "Troubles with the source of membership", [(labels(), source.troubles)]);
        figures.counters("source_rings", "Rings taken from the source of membership", [(labels(), source.rings)]);
    }

    /// The other members, and the links to them.
    fn others(&self, figures: &mut Figures) {
        let peers = self.peers();
        let tally = self.agreement().tally();
        figures.gauges(
            "peers",
            "Other members, by how their ring stands to ours: agrees, lags, ahead, differs, silent",
            Standing::ALL.map(|standing| (vec![("standing", standing.name().into())], tally.of(standing))),
        );
        let each =
            |label: &'static str| peers.peers.iter().map(move |peer| (vec![(label, peer.identity.clone())], peer));
        figures.gauges(
            "peer_standing",
            "1 for how the ring of a member stands to ours, 0 for how it does not",
            each("peer").flat_map(|(labels, peer)| {
                Standing::ALL.map(|standing| {
                    let labels = [&labels[..], &[("standing", standing.name().to_owned())]].concat();
                    (labels, peer.standing == standing)
                })
            }),
        );
        figures.gauges(
            "peer_link_up",
            "1 if the link that we make to a member is up",
            each("peer").map(|(labels, peer)| (labels, peer.link.up)),
        );
        figures.gauges(
            "peer_clock_ahead_seconds",
            "How far the clock of a member is ahead of ours (CLOCK_TAI), the time on the way included",
            each("peer").filter_map(|(labels, peer)| Some((labels, peer.clock_ahead_ms? as f64 / 1000.0))),
        );
        let PeerCounts { opened, messages, unknown_messages, failures } =
            self.network.get().map(|network| network.counts()).unwrap_or_default();
        figures.counter("peer_links_opened", "Links with other nodes that came up", opened);
        figures.counter("peer_messages", "Messages from other nodes", messages);
        figures.counter(
            "peer_unknown_messages",
            "Messages of a kind that this version does not know",
            unknown_messages,
        );
        figures.counters(
            "peer_link_ends",
            "Links with other nodes that ended or never came up, by who made them (in, out) and why",
            failures.into_iter().map(|((way, reason), count)| {
                (vec![("way", way.name().to_owned()), ("reason", reason.to_owned())], count)
            }),
        );
    }

    /// What the agent itself has done.
    fn own(&self, figures: &mut Figures) {
        let counts = self.counters.counts();
        figures.counter(
            "publish_errors",
            "Attempts to publish a ring into the kernel that failed and were tried again",
            counts.publish_errors,
        );
        figures.counter("flow_walk_errors", "Walks of the flow table that failed", counts.walk_errors);
        figures.counter("flows_ended", "Flows removed because they had ended", counts.flows_ended);
        figures.counter(
            "clients_reset",
            "Clients told that the node of their connection is gone",
            counts.clients_reset,
        );
        figures.counter("client_reset_errors", "Clients that could not be told", counts.reset_errors);
        figures.counter("move_errors", "Steps of moving a connection that the kernel refused", counts.move_errors);
        figures.counter(
            "moves_told",
            "Connections that have moved, each time another node was told",
            counts.moves_told,
        );
        figures.counter(
            "moves_told_errors",
            "Attempts to tell another node of connections that have moved that failed and were tried again",
            counts.moves_untold,
        );
        figures.counter("moves_heard", "Connections that have moved by what other nodes tell", counts.moves_heard);
        figures.counter(
            "packets_released",
            "Packets that came while their connection was held, and were kept until it was not",
            counts.packets_released,
        );
        figures.counter(
            "holds_forgotten",
            "Connections that were held and then neither moved nor released in time",
            counts.holds_forgotten,
        );
        figures.counter(
            "holds_abandoned",
            "Connections whose gateway ended while it held them for another node, which did not get them",
            counts.holds_abandoned,
        );
        figures.counter(
            "accepted_untold",
            "Connections accepted here (mode \"accept\") of which no other node was told, for want of room",
            counts.accepted_untold,
        );
        figures.counter(
            "flow_table_full",
            "Connections (mode \"accept\") for which there was no room in the flow table",
            counts.flow_table_full,
        );
        figures.gauge(
            "moves_untold",
            "Connections that have moved and not every node knows of it",
            self.moving.untold(),
        );
        let reports = self.gateways.reports();
        figures.gauge("gateways", "Gateways of this node that are attached to the agent", reports.len());
        let follows = self.ring_name().is_some_and(|ours| reports.iter().any(|one| one.report.ring == Some(ours)));
        figures.gauge("gateway_follows", "1 if a gateway of this node follows the ring in force", follows);
    }
}
