//! What is in the flow table.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::ControlFlow,
};

use anyhow::{Context as _, Result};
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    moves::Move,
};

use super::address::{mapped, unmapped};
use crate::{
    config,
    control::{FlowEntry, FlowState, FlowsEnd},
    dataplane::readings::Readings,
};

/// Flows that are shown unless somebody says otherwise.
pub const DEFAULT_LIMIT: u64 = 1000;

/// Which flows to show: those to which everything given applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Held by this node.
    pub node: Option<u32>,
    /// Of this client.
    pub client: Option<IpAddr>,
    /// Bound by a key with this hash.
    pub key_hash: Option<u32>,
    /// Show this many at most, and count the rest.
    pub limit: Option<u64>,
}

/// The services by their numbers: their addresses, and the names that the configuration has for them.
pub type Names = HashMap<u16, (SocketAddr, Option<String>)>;

/// Hands the flows `wanted` to `show`, until that breaks off, and says how many there are. `now_ns` is CLOCK_MONOTONIC, by which
/// the programs time flows; `services` are those of the configuration, for their names.
///
/// # Errors
/// If the kernel refuses.
pub fn each(
    readings: &Readings,
    services: &[config::Service],
    wanted: &Wanted,
    now_ns: u64,
    mut show: impl FnMut(FlowEntry) -> ControlFlow<()>,
) -> Result<FlowsEnd> {
    let names = names(readings, services)?;
    let client = wanted.client.map(mapped);
    let limit = wanted.limit.unwrap_or(DEFAULT_LIMIT);
    let moves = readings.moves().context("cannot read which connections are on the move")?;
    let moved = moves.values().filter(|entry| entry.node != 0).count() as u64;
    let mut end = FlowsEnd { total: 0, matched: 0, held: moves.len() as u64 - moved, moved };
    let walked = readings.flows.each(|key, flow| {
        end.total += 1;
        let matches = wanted.node.is_none_or(|node| node == flow.node)
            && client.is_none_or(|client| client == key.client)
            && wanted.key_hash.is_none_or(|hash| hash == flow.key_hash);
        if !matches {
            return ControlFlow::Continue(());
        }
        end.matched += 1;
        if end.matched > limit {
            return ControlFlow::Continue(());
        }
        show(entry(key, flow, moves.get(bytemuck::bytes_of(key)), &names, now_ns))
    });
    walked.context("cannot walk the flow table")?;
    Ok(end)
}

/// The services that flows name.
///
/// # Errors
/// If the kernel refuses.
pub fn names(readings: &Readings, services: &[config::Service]) -> Result<Names> {
    let mut names = Names::new();
    for one in readings.services.iter() {
        let (key, service) = one.context("cannot read the services")?;
        let address = SocketAddr::new(unmapped(&key.address), key.port as u16);
        let named = services.iter().find(|service| service.address == address);
        names.insert(service.service as u16, (address, named.map(|service| service.name.clone())));
    }
    Ok(names)
}

fn entry(key: &FlowKey, flow: &Flow, on_the_move: Option<&Move>, names: &Names, now_ns: u64) -> FlowEntry {
    let since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000;
    let service = names.get(&key.service);
    FlowEntry {
        client: SocketAddr::new(unmapped(&key.client), key.client_port),
        service: service.map(|(address, _)| *address),
        service_name: service.and_then(|(_, name)| name.clone()),
        node: flow.node,
        key_hash: (flow.key_hash != 0).then_some(flow.key_hash),
        age_ms: since(flow.bound_ns),
        idle_ms: since(flow.last_seen_ns),
        packets: flow.packets,
        bytes: flow.bytes,
        closing: flow.closing != 0,
        state: match on_the_move {
            Some(entry) if entry.node == 0 => FlowState::Held,
            Some(_) => FlowState::Moved,
            None if flow.closing != 0 => FlowState::Closing,
            None => FlowState::Open,
        },
        moves: flow.moved,
    }
}
