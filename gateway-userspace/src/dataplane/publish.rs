//! What the agent knows, into the maps, in an order that no packet can trip over: what refers to something is written
//! after it and removed before it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ringsteer_ebpf::layout::{
    Address,
    node::{self, NodeAddress, NodeNumber, SHOWN_IDENTITY, ThisNode},
    secret::Secrets,
    service::{self, MAX_PARAMETER, ServiceKey},
};

use super::maps::Maps;
use crate::ring::{Member, Ring};

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

/// All that the programs work by.
pub struct State<'a> {
    /// The ring to put in force.
    pub ring: &'a Ring,
    /// The member we are.
    pub this: &'a Member,
    /// UDP port of the tunnel.
    pub tunnel_port: u16,
    /// The fleet secrets.
    pub secrets: Secrets,
    /// What is steered.
    pub services: &'a [Service],
}

/// Writes `state` into the maps. Whatever was there and is not part of it is gone afterwards, flows apart.
pub fn publish(maps: &mut Maps, state: &State<'_>) -> Result<()> {
    maps.secrets.set(0, state.secrets, 0).context("cannot write the secrets")?;
    let this_node = ThisNode {
        node: state.this.number.get().into(),
        tunnel_port: state.tunnel_port.into(),
        address: state.this.address.to_kernel(),
    };
    maps.this_node.set(0, this_node, 0).context("cannot write which node this is")?;
    write_nodes(maps, state)?;
    maps.set_ring(state.ring.kernel_image())?;
    remove_nodes(maps, state)?;
    write_services(maps, state.services)
}

fn write_nodes(maps: &mut Maps, state: &State<'_>) -> Result<()> {
    for member in state.ring.members() {
        let mut identity = [0; SHOWN_IDENTITY];
        let shown = member.identity.as_str().as_bytes();
        let length = shown.len().min(SHOWN_IDENTITY);
        identity[..length].copy_from_slice(&shown[..length]);
        let number = u32::from(member.number.get());
        let address = member.address.to_kernel();
        let value = node::Node {
            address,
            here: (member.number == state.this.number).into(),
            identity_length: length as u32,
            identity,
        };
        maps.nodes.insert(number, value, 0).with_context(|| format!("cannot write node {number}"))?;
        maps.node_addrs
            .insert(NodeAddress { address }, NodeNumber { node: number }, 0)
            .with_context(|| format!("cannot write the address of node {number}"))?;
    }
    Ok(())
}

fn remove_nodes(maps: &mut Maps, state: &State<'_>) -> Result<()> {
    let numbers: BTreeSet<u32> = state.ring.members().iter().map(|member| member.number.get().into()).collect();
    let addresses: BTreeSet<Address> = state.ring.members().iter().map(|member| member.address.to_kernel()).collect();
    for number in maps.nodes.keys().collect::<Result<Vec<_>, _>>()? {
        if !numbers.contains(&number) {
            maps.nodes.remove(&number)?;
        }
    }
    for key in maps.node_addrs.keys().collect::<Result<Vec<_>, _>>()? {
        if !addresses.contains(&key.address) {
            maps.node_addrs.remove(&key)?;
        }
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
    let mut highest = present.values().copied().max().unwrap_or(0);
    for one in services {
        ensure!(one.parameter.len() <= MAX_PARAMETER, "the parameter name of port {} is too long", one.port);
        let at = (one.address, u32::from(one.port));
        let number = present.get(&at).copied().unwrap_or_else(|| {
            highest += 1;
            highest
        });
        let mut parameter = [0; MAX_PARAMETER];
        parameter[..one.parameter.len()].copy_from_slice(&one.parameter);
        let value = service::Service {
            service: number,
            mss: one.mss.into(),
            parameter_length: one.parameter.len() as u32,
            parameter,
        };
        maps.services
            .insert(ServiceKey { address: at.0, port: at.1 }, value, 0)
            .with_context(|| format!("cannot write the service on port {}", one.port))?;
    }
    for (address, port) in present.into_keys().filter(|at| !wanted.contains(at)) {
        maps.services.remove(&ServiceKey { address, port })?;
    }
    Ok(())
}
