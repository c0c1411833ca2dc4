//! The members of the ring, and whether they agree.

use std::{collections::HashMap, ops::ControlFlow, time::Duration};

use anyhow::Result;

use crate::{
    agent::shared::{Agent, lock},
    control::{MemberStatus, Members, PeerStatus, Peers},
    ring::{Member, Ring},
};

impl Agent {
    pub(in crate::agent) fn peers(&self) -> Peers {
        let (in_force, now) = (self.in_force(), self.now());
        let agreement = self.agreement();
        let members = in_force.ring.as_ref().map(Ring::members).unwrap_or_default();
        let peers = members.iter().filter_map(|member| {
            let peer = agreement.peer(member.address)?;
            let heard = peer.heard.as_ref();
            Some(PeerStatus {
                number: member.number,
                identity: member.identity.to_string(),
                address: member.address,
                standing: peer.standing,
                for_ms: milliseconds(now.saturating_sub(peer.since)),
                agent: heard.and_then(|heard| heard.state.agent),
                gateway: heard.and_then(|heard| heard.state.gateway),
                heard_ms_ago: heard.map(|heard| milliseconds(now.saturating_sub(heard.at))),
                uptime_ms: heard.map(|heard| heard.state.uptime_ms),
                clock_ahead_ms: heard.map(|heard| heard.clock_ahead_ms),
                version: peer.version.clone(),
                link: peer.link.clone(),
            })
        });
        Peers { ours: agreement.ours(), gateway: lock(&self.gateway).ring, peers: peers.collect() }
    }

    pub(in crate::agent) fn members(&self) -> Result<Members> {
        let in_force = self.in_force();
        let mut held: HashMap<u32, u64> = HashMap::new();
        let mut orphaned_flows = 0;
        self.readings.flows.each(|_, flow| {
            if in_force.is_orphan(flow.node, flow.bound_ns) {
                orphaned_flows += 1;
            } else {
                *held.entry(flow.node).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
        // Before the lock is taken: it may take a while.
        let shares = in_force.ring.as_ref().map(|ring| self.shares(ring)).unwrap_or_default();
        let agreement = self.agreement();
        let of_ring = |ring: &Ring| {
            let one = |(member, &(_, share)): (&Member, &(_, f64))| MemberStatus {
                number: member.number,
                identity: member.identity.to_string(),
                address: member.address,
                state: member.state,
                here: Some(member.number) == in_force.number,
                share,
                flows: held.get(&member.number.get().into()).copied().unwrap_or(0),
                standing: agreement.peer(member.address).map(|peer| peer.standing),
            };
            ring.members().iter().zip(&*shares).map(one).collect()
        };
        let members = in_force.ring.as_ref().map(of_ring).unwrap_or_default();
        Ok(Members { ring: in_force.ring.as_ref().map(Ring::name), members, orphaned_flows })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
