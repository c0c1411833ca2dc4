//! What is in the flow table.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
};

use anyhow::{Context as _, Result};
use ringsteer_ebpf::layout::{
    Address,
    flow::{Flow, FlowKey},
};

use crate::{
    agent::shared::{Agent, monotonic_ns},
    control::{Answer, Answers, FlowEntry, FlowFilter, Flows, FlowsEnd},
};

/// Flows in one answer.
const CHUNK: usize = 512;

/// Flows that are shown unless the client says otherwise.
const DEFAULT_LIMIT: u64 = 1000;

/// The services by their numbers: their addresses, and the names that the configuration has for them.
type Services = HashMap<u16, (SocketAddr, Option<String>)>;

impl Agent {
    /// Sends the flows that `filter` lets through, and gives the last of them with the end.
    pub(in crate::agent) fn flows(&self, filter: &FlowFilter, answers: &Answers) -> Result<Flows> {
        let services = self.services()?;
        let key_hash = self.key_hash(filter)?;
        let client = filter.client.map(mapped);
        let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
        let now_ns = monotonic_ns();
        let mut end = FlowsEnd { total: 0, matched: 0 };
        let mut chunk = Vec::new();
        self.readings.flows.each(|key, flow| {
            end.total += 1;
            let wanted = filter.node.is_none_or(|node| node == flow.node)
                && client.is_none_or(|client| client == key.client)
                && key_hash.is_none_or(|hash| hash == flow.key_hash);
            if !wanted {
                return ControlFlow::Continue(());
            }
            end.matched += 1;
            if end.matched > limit {
                return ControlFlow::Continue(());
            }
            chunk.push(entry(key, flow, &services, now_ns));
            if chunk.len() == CHUNK {
                let flows = Flows { flows: std::mem::take(&mut chunk), end: None };
                if answers.blocking_send(Answer::Flows(flows)).is_err() {
                    // Nobody waits for the rest.
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(Flows { flows: chunk, end: Some(end) })
    }

    /// The hash that the flows asked for were bound by, if they are asked for by it.
    fn key_hash(&self, filter: &FlowFilter) -> Result<Option<u32>> {
        let Some(user) = &filter.user else { return Ok(filter.key_hash) };
        let in_force = self.in_force();
        let ring = in_force.ring.as_ref().context("there is no ring yet, so no flow was bound by a user")?;
        Ok(Some(ring.algorithm().hash_key(user.as_bytes())))
    }

    /// The services by their numbers.
    pub(in crate::agent) fn services(&self) -> Result<Services> {
        let config = self.config();
        let mut services = Services::new();
        for entry in self.readings.services.iter() {
            let (key, service) = entry.context("cannot read the services")?;
            let address = SocketAddr::new(unmapped(&key.address), key.port as u16);
            let named = config.services.iter().find(|service| service.address == address);
            services.insert(service.service as u16, (address, named.map(|service| service.name.clone())));
        }
        Ok(services)
    }
}

fn entry(key: &FlowKey, flow: &Flow, services: &Services, now_ns: u64) -> FlowEntry {
    let since = |then_ns: u64| now_ns.saturating_sub(then_ns) / 1_000_000;
    let service = services.get(&key.service);
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
    }
}

/// An address as maps hold it.
fn mapped(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map holds.
pub(in crate::agent) fn unmapped(address: &Address) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*address)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_into_the_maps_and_come_back() {
        for text in ["203.0.113.9", "2001:db8::9"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(unmapped(&mapped(address)), address);
        }
        assert_eq!(mapped("203.0.113.9".parse().unwrap()), ringsteer_ebpf::layout::mapped([203, 0, 113, 9]));
    }
}
