//! What the agent knows, into the maps, in an order that no packet can trip over: what refers to something is written
//! after it and removed before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use anyhow::{Context as _, Result, ensure};
use ringsteer_ebpf::layout::{
    Address,
    node::{self, NodeAddress, NodeNumber, SHOWN_IDENTITY, ThisNode},
    secret::Secrets,
    service::{self, MAX_PARAMETER, ServiceKey},
};

use super::maps::Maps;
use crate::ring::{self, Member, MemberNumber, Ring};

/// A service to steer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The virtual address.
    pub address: Address,
    /// TCP port.
    pub port: u16,
    /// Name of the query parameter that holds the key.
    pub parameter: Vec<u8>,
    /// Largest segment offered to clients.
    pub mss: u16,
}

/// Who we are among the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct This {
    /// Our number in the ring; none if it does not have us. We are an edge all the same.
    pub number: Option<MemberNumber>,
    /// Our node address, where known: the source of every tunnel packet.
    pub address: Option<ring::NodeAddress>,
}

/// All that the programs work by.
pub struct State<'a> {
    /// The ring to put in force.
    pub ring: &'a Ring,
    /// The ring that was in force before. Tunnel packets of nodes that have just left are still taken: they may be
    /// edges that have not heard of it, or that clients still reach.
    pub previous: Option<&'a Ring>,
    /// Who we are.
    pub this: This,
    /// UDP port of the tunnel.
    pub tunnel_port: u16,
    /// The fleet secrets.
    pub secrets: Secrets,
    /// What is steered.
    pub services: &'a [Service],
}

impl This {
    /// That member.
    pub fn of(member: &Member) -> Self {
        Self { number: Some(member.number), address: Some(member.address) }
    }
}

/// Writes `state` into the maps. Whatever was there and is not part of it is gone afterwards, flows apart.
pub fn publish(maps: &mut Maps, state: &State<'_>) -> Result<()> {
    write_secrets(maps, state.secrets)?;
    let this_node = ThisNode {
        node: state.this.number.map_or(0, |number| number.get().into()),
        tunnel_port: state.tunnel_port.into(),
        address: state.this.address.map_or([0; 16], ring::NodeAddress::to_kernel),
    };
    maps.this_node.set(0, this_node, 0).context("cannot write which node this is")?;
    let present = Present::read(maps).context("cannot read the nodes")?;
    write_nodes(maps, state, &present)?;
    maps.set_ring(state.ring.kernel_image())?;
    remove_nodes(maps, state, present)?;
    write_services(maps, state.services)
}

/// Writes the secrets and nothing else: for a node that knows no ring to go with the rest.
pub fn write_secrets(maps: &mut Maps, secrets: Secrets) -> Result<()> {
    maps.secrets.set(0, secrets, 0).context("cannot write the secrets")
}

/// The nodes that the maps have before the new ones are written. Rings of a thousand members that follow each other
/// differ in a few: to read them all takes a handful of calls, to write them all thousands, and the new ring waits for it.
struct Present {
    nodes: BTreeMap<u32, node::Node>,
    addresses: BTreeMap<Address, u32>,
}

impl Present {
    fn read(maps: &Maps) -> std::io::Result<Self> {
        let mut present = Self { nodes: BTreeMap::new(), addresses: BTreeMap::new() };
        maps.node_walk.each(|&number, node| {
            present.nodes.insert(number, *node);
            ControlFlow::Continue(())
        })?;
        maps.address_walk.each(|key, value| {
            present.addresses.insert(key.address, value.node);
            ControlFlow::Continue(())
        })?;
        Ok(present)
    }
}

fn write_nodes(maps: &mut Maps, state: &State<'_>, present: &Present) -> Result<()> {
    for member in state.ring.members() {
        let mut identity = [0; SHOWN_IDENTITY];
        let shown = member.identity.as_str().as_bytes();
        let length = shown.len().min(SHOWN_IDENTITY);
        identity[..length].copy_from_slice(&shown[..length]);
        let number = u32::from(member.number.get());
        let address = member.address.to_kernel();
        let value = node::Node {
            address,
            here: (Some(member.number) == state.this.number).into(),
            identity_length: length as u32,
            identity,
        };
        if present.nodes.get(&number) != Some(&value) {
            maps.nodes.insert(number, value, 0).with_context(|| format!("cannot write node {number}"))?;
        }
        if present.addresses.get(&address) != Some(&number) {
            maps.node_addrs
                .insert(NodeAddress { address }, NodeNumber { node: number }, 0)
                .with_context(|| format!("cannot write the address of node {number}"))?;
        }
    }
    Ok(())
}

/// Removes those of `present` that nothing refers to any more.
fn remove_nodes(maps: &mut Maps, state: &State<'_>, present: Present) -> Result<()> {
    let numbers: BTreeSet<u32> = state.ring.members().iter().map(|member| member.number.get().into()).collect();
    let previous = state.previous.map(Ring::members).unwrap_or_default();
    let addresses: BTreeSet<Address> =
        state.ring.members().iter().chain(previous).map(|member| member.address.to_kernel()).collect();
    for number in present.nodes.into_keys().filter(|number| !numbers.contains(number)) {
        maps.nodes.remove(&number)?;
    }
    for address in present.addresses.into_keys().filter(|address| !addresses.contains(address)) {
        maps.node_addrs.remove(&NodeAddress { address })?;
    }
    Ok(())
}

/// Services keep their numbers for as long as they exist: flows name them.
fn write_services(maps: &mut Maps, services: &[Service]) -> Result<()> {
    let mut present = BTreeMap::new();
    for entry in maps.services.iter() {
        let (key, value) = entry.context("cannot read the services")?;
        present.insert((key.address, key.port), value.service);
    }
    let wanted: BTreeSet<_> = services.iter().map(|one| (one.address, u32::from(one.port))).collect();
    // The walk is for new services only, and those are rare.
    let in_flows = if wanted.iter().all(|place| present.contains_key(place)) {
        BTreeSet::new()
    } else {
        services_in_flows(maps).context("cannot see which services the flows name")?
    };
    let numbers = maps.numbers.assign(&present, &wanted, &in_flows);
    for one in services {
        ensure!(one.parameter.len() <= MAX_PARAMETER, "the parameter name of port {} is too long", one.port);
        let (address, port) = (one.address, u32::from(one.port));
        let mut parameter = [0; MAX_PARAMETER];
        parameter[..one.parameter.len()].copy_from_slice(&one.parameter);
        let value = service::Service {
            service: numbers[&(address, port)],
            mss: one.mss.into(),
            parameter_length: one.parameter.len() as u32,
            parameter,
        };
        maps.services
            .insert(ServiceKey { address, port }, value, 0)
            .with_context(|| format!("cannot write the service on port {}", one.port))?;
    }
    for (address, port) in present.into_keys().filter(|at| !wanted.contains(at)) {
        maps.services.remove(&ServiceKey { address, port })?;
    }
    Ok(())
}

/// The numbers of all services that flows name.
fn services_in_flows(maps: &Maps) -> std::io::Result<BTreeSet<u32>> {
    let mut named = BTreeSet::new();
    maps.flow_walk.each(|key, _| {
        named.insert(key.service.into());
        ControlFlow::Continue(())
    })?;
    Ok(named)
}
