//! What must not be left: flows, holds, sockets, sessions in motion.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::{
    config::Mode,
    control::{self, FlowEntry, FlowFilter, FlowsEnd},
    ring::Ring,
};
use ringsteer_tests::{
    fleet::{Fleet, WEBSOCKET_PORT},
    scrape::{GATEWAY, Scrape},
};

use super::{
    LIMIT, LOOK,
    crowd::Crowd,
    plan::{NODES, Plan, Victim},
};

/// Waits until the others have dealt with the end of the gateway that was killed: until its agent holds nothing for it any
/// more, or the old owner has nothing under way to it.
pub fn wait_for_the_rest(fleet: &Fleet<'_>, plan: &Plan) -> Result<()> {
    until(|| match plan.victim {
        Victim::OldGateway => {
            let (_, end) = flows(fleet, plan.old)?;
            Ok((end.held > 0).then(|| format!("{} connections are held", end.held)))
        }
        _ => Ok(under_way(fleet, plan.old, &["moving", "committed"])?),
    })
}

/// Waits until nothing is left of what happened, but the sessions where they belong: each node has the sockets of those
/// that it owns, and no others; the edge has their flows, and others only of connections that are over; nothing is held, and
/// nothing on its way. (In mode "accept" no node knows that it is no edge, and all may have their flows.)
pub fn none(fleet: &Fleet<'_>, mode: Mode, ring: &Ring, crowd: &Crowd) -> Result<()> {
    for node in 0..NODES {
        until(|| left_at(fleet, ring, crowd, node)).with_context(|| format!("node {node}"))?;
    }
    until(|| flows_left(fleet, mode, ring, crowd))
}

/// Waits until no node sends on, or holds, anything: all edges have been told of everything.
pub fn nothing_on_the_way(fleet: &Fleet<'_>) -> Result<()> {
    for node in 0..NODES {
        until(|| {
            let pinned = fleet.lab.node(node).pin_dir().join("moves");
            let pinned = pinned.to_str().context("a path of ours is text")?;
            let entries = fleet.lab.node(node).command("bpftool", &["-j", "map", "dump", "pinned", pinned])?;
            Ok((entries.trim() != "[]").then(|| format!("the kernel still has moves: {entries:.500}")))
        })
        .with_context(|| format!("node {node}"))?;
    }
    Ok(())
}

/// Waits until there are no flows of websockets any more: all have gone, and those that nobody has seen the end of are
/// forgotten for their silence, or for not having been used at all.
pub fn no_flows(fleet: &Fleet<'_>) -> Result<()> {
    for node in 0..NODES {
        until(|| {
            let (flows, _) = flows(fleet, node)?;
            Ok((!flows.is_empty()).then(|| format!("{} flows are left, one of them {:?}", flows.len(), flows[0])))
        })
        .with_context(|| format!("node {node}"))?;
    }
    Ok(())
}

fn left_at(fleet: &Fleet<'_>, ring: &Ring, crowd: &Crowd, node: usize) -> Result<Option<String>> {
    if let Some(left) = under_way(fleet, node, &["waiting", "moving", "committed", "arriving", "stranded"])? {
        return Ok(Some(left));
    }
    let (_, end) = flows(fleet, node)?;
    if end.held > 0 {
        return Ok(Some(format!("{} connections are held", end.held)));
    }
    let wanted: BTreeSet<SocketAddr> = crowd.clients_of(ring, node).into_iter().collect();
    let sockets = sockets(fleet, node)?;
    // A socket in repair mode, or of a process that has gone, is one more than there are clients, or has no owner.
    let orphaned = sockets.values().filter(|socket| !socket.contains("users:")).count();
    let have: BTreeSet<SocketAddr> = sockets.keys().copied().collect();
    Ok((have != wanted || orphaned > 0).then(|| {
        let (more, fewer): (Vec<_>, Vec<_>) =
            (have.difference(&wanted).map(|one| &sockets[one]).collect(), wanted.difference(&have).collect());
        format!("{orphaned} sockets of no process; too many: {more:?}; too few: {fewer:?}")
    }))
}

/// What the gateway has under way, if anything.
fn under_way(fleet: &Fleet<'_>, node: usize, stages: &[&str]) -> Result<Option<String>> {
    let figures = Scrape::of(fleet.lab.node(node), GATEWAY)?;
    let mut names = vec!["ringsteer_sessions_in_motion".to_owned()];
    names.extend(stages.iter().map(|stage| format!("ringsteer_moves_under_way{{stage=\"{stage}\"}}")));
    let mut left = Vec::new();
    for name in names {
        let value = figures.value(&name)?;
        if value > 0.0 {
            left.push(format!("{name} is {value}"));
        }
    }
    Ok((!left.is_empty()).then(|| left.join(", ")))
}

/// The sockets of websockets in a node's kernel by their clients, but for those that only wait for late packets
/// (TIME_WAIT), with what `ss` says of each.
fn sockets(fleet: &Fleet<'_>, node: usize) -> Result<BTreeMap<SocketAddr, String>> {
    let port = format!("( sport = :{WEBSOCKET_PORT} )");
    let text = fleet.lab.node(node).command("ss", &["-H", "-t", "-a", "-n", "-p", &port])?;
    let mut sockets = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [state, _, _, _, client, ..] = words[..] else { bail!("ss says {line:?}") };
        if matches!(state, "LISTEN" | "TIME-WAIT") {
            continue;
        }
        let client: SocketAddr = client.parse().with_context(|| format!("ss says {line:?}"))?;
        sockets.insert(client, line.to_owned());
    }
    Ok(sockets)
}

/// The flows of websockets at a node.
fn flows(fleet: &Fleet<'_>, node: usize) -> Result<(Vec<FlowEntry>, FlowsEnd)> {
    let mut flows = Vec::new();
    let show = |flow: FlowEntry| {
        if flow.service == Some(fleet.websocket()) {
            flows.push(flow);
        }
    };
    let end = fleet.lab.router().block_on(control::flows(&fleet.socket(node), FlowFilter::default(), show))?;
    Ok((flows, end))
}

/// What is wrong with the flows.
fn flows_left(fleet: &Fleet<'_>, mode: Mode, ring: &Ring, crowd: &Crowd) -> Result<Option<String>> {
    let mut wanted: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for (node, member) in ring.members().iter().enumerate() {
        wanted.extend(crowd.clients_of(ring, node).into_iter().map(|client| (client, member.number.get().into())));
    }
    for node in 0..NODES {
        let is_edge = node == fleet.lab.edge();
        let (flows, _) = flows(fleet, node)?;
        if !is_edge && mode == Mode::LateBinding {
            ensure!(flows.is_empty(), "node {node} is no edge and has flows, one of them {:?}", flows[0]);
        }
        let flows: BTreeMap<_, _> = flows.into_iter().map(|flow| (flow.client, flow)).collect();
        for (client, &number) in &wanted {
            match flows.get(client) {
                Some(flow) if flow.node == number => {}
                None if !is_edge => {}
                flow => return Ok(Some(format!("{client} is at {number}, and its flow at node {node} is {flow:?}"))),
            }
        }
        // Of others the clients are gone. Those flows are forgotten once they have been silent for long.
    }
    Ok(None)
}

/// Looks until nothing is left to say.
fn until(look: impl Fn() -> Result<Option<String>>) -> Result<()> {
    let since = Instant::now();
    loop {
        let Some(left) = look()? else { return Ok(()) };
        ensure!(since.elapsed() < 2 * LIMIT, "{left}");
        std::thread::sleep(LOOK);
    }
}
