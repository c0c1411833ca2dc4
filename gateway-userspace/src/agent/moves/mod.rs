//! Connections that go from one node to another, as far as packets are concerned: carries out what the gateway asks for,
//! and tells every other member where a connection has gone, for each may be its edge. In mode "accept" it also tells them
//! of each connection that this node has accepted.
//!
//! | file | subject |
//! |---|---|
//! | `claim` | connections whose gateway has ended while it gave them away |
//! | `rules` | what a step does to an entry, and news to a flow; pure |
//! | `news` | who has yet to be told what; pure |
//! | `tell` | telling them |
//! | `kept` | packets that came during a hold |
//! | `promised` | for whom connections are held; pure |
//!
//! What this node knows stands in the pinned map `moves`, and nowhere else: an agent that starts again finds it there and
//! tells everybody once more, which does no harm. An entry outlives its move until all members have acknowledged the
//! news, and a little longer.

mod claim;
mod kept;
mod news;
mod promised;
mod rules;
mod tell;

use std::{collections::HashMap, net::SocketAddr, os::fd::OwnedFd, path::Path, sync::Mutex};

use anyhow::{Result, ensure};
use ringsteer_ebpf::layout::{
    flow::FlowKey,
    service::{Service, ServiceKey},
};
use tokio::sync::Notify;
use tracing::{debug, warn};

pub(super) use self::tell::keep;
use self::{
    kept::Kept,
    news::{Item, News},
    promised::Promised,
    rules::{Decision, Whereabouts},
};
use super::{
    in_force::InForce,
    shared::{Agent, lock, monotonic_ns, tai_ms},
};
use crate::{
    config::Mode,
    control::{FlowMove, MOVES_MAX, MoveOutcome, MoveStep, Moves, Promise},
    dataplane::{
        held::HeldFrames,
        moves::{Full, MoveMaps},
    },
    inspect::address::mapped,
    peer::message::MovedFlow,
    ring::{MemberNumber, NodeAddress, Ring},
};

/// What the agent keeps for it.
pub(super) struct Moving {
    maps: Mutex<MoveMaps>,
    /// Locked after `maps`, where both are.
    kept: Mutex<Kept>,
    /// Locked after `maps`, too.
    promised: Mutex<Promised>,
    news: Mutex<News>,
    /// There is something to tell.
    wake: Notify,
}

/// A step, made out for the maps.
struct Work<'a> {
    step: MoveStep,
    /// For whom it is held, where it is said.
    promise: Option<Promise>,
    /// The node that has the connections afterwards, by its number, where the step says so.
    node: Option<u32>,
    /// Who is to be told of it.
    peers: &'a [NodeAddress],
    now_ns: u64,
}

// === impl Moving ===

impl Moving {
    /// Opens the maps pinned in `pin_dir`; `steer` is the program that kept packets are given to.
    ///
    /// # Errors
    /// If something is missing.
    pub(super) fn open(pin_dir: &Path, steer: OwnedFd) -> Result<Self> {
        Ok(Self {
            maps: Mutex::new(MoveMaps::open(pin_dir)?),
            kept: Mutex::new(Kept::new(HeldFrames::open(pin_dir, steer)?)),
            promised: Mutex::default(),
            news: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// How many moves not every member knows of.
    pub(super) fn untold(&self) -> usize {
        lock(&self.news).untold()
    }
}

// === impl Agent ===

impl Agent {
    /// Carries out a step. Blocks for some system calls a connection.
    ///
    /// # Errors
    /// If there are too many connections in it.
    pub(super) fn moves(&self, moves: &Moves) -> Result<Vec<MoveOutcome>> {
        not_too_many(&moves.flows)?;
        let in_force = self.in_force();
        let node = match moves.step {
            MoveStep::Move { to } => member(&in_force, to).filter(|_| in_force.number != Some(to)).map(|_| to),
            MoveStep::Take | MoveStep::Accept { .. } => in_force.number,
            MoveStep::Hold | MoveStep::Release => None,
        };
        if node.is_none() && matches!(moves.step, MoveStep::Move { .. } | MoveStep::Take | MoveStep::Accept { .. }) {
            return Ok(vec![MoveOutcome::NoMember; moves.flows.len()]);
        }
        let peers = others(&in_force);
        let work = Work {
            step: moves.step,
            promise: moves.promise,
            node: node.map(|node| node.get().into()),
            peers: &peers,
            now_ns: monotonic_ns(),
        };
        let mut services = Services::new(self);
        let mut maps = lock(&self.moving.maps);
        let outcomes = moves.flows.iter().map(|flow| {
            let Some(key) = services.key(flow.client, flow.service) else { return MoveOutcome::NoService };
            self.step(&mut maps, &work, &key, flow).unwrap_or_else(|error| {
                if error.is::<Full>() {
                    return MoveOutcome::Full;
                }
                self.counters.move_errors.add(1);
                warn!("cannot {:?} {}: {error:#}", moves.step, flow.client);
                MoveOutcome::Failed
            })
        });
        let outcomes: Vec<_> = outcomes.collect();
        let done =
            outcomes.iter().filter(|outcome| matches!(outcome, MoveOutcome::Done | MoveOutcome::Held { .. })).count();
        debug!("{:?}: done for {done} of {} connections", moves.step, outcomes.len());
        if matches!(moves.step, MoveStep::Move { .. } | MoveStep::Release) {
            self.release(&maps);
        }
        self.moving.wake.notify_one();
        Ok(outcomes)
    }

    /// Has packets that were kept arrive where their connections are now.
    fn release(&self, maps: &MoveMaps) {
        let mut kept = lock(&self.moving.kept);
        kept.collect();
        let released = kept.release(|key| maps.get(key).is_ok_and(|entry| entry.is_some_and(|entry| entry.node == 0)));
        self.counters.packets_released.add(released);
    }

    /// Carries out a step for one connection.
    fn step(&self, maps: &mut MoveMaps, work: &Work<'_>, key: &FlowKey, flow: &FlowMove) -> Result<MoveOutcome> {
        if let (MoveStep::Accept { ms_ago }, Some(node)) = (work.step, work.node) {
            return self.accepted(maps, work, key, node, ms_ago);
        }
        let accepts = self.config().node.mode == Mode::Accept;
        let FlowMove { count, mut first_ack, .. } = *flow;
        if accepts && first_ack == 0 {
            first_ack = maps.flow(key)?.map_or(0, |flow| flow.first_ack);
        }
        let decision = rules::decide(work.step, count, first_ack, maps.get(key)?.as_ref(), work.now_ns);
        if let Decision::Refuse(why) = decision {
            return Ok(why);
        }
        // A node that gets a connection steers it to itself before it forgets where it had sent it.
        let news = |node| Whereabouts { node, count, moved_ns: work.now_ns, first_ack };
        if let (MoveStep::Take, Some(node)) = (work.step, work.node) {
            self.point(maps, key, &news(node), work.now_ns)?;
        }
        match decision {
            Decision::Write(entry) => maps.set(key, entry)?,
            Decision::Remove => maps.remove(key)?,
            Decision::Keep | Decision::Refuse(_) => {}
        }
        match (work.step, work.promise) {
            (MoveStep::Hold, Some(promise)) => lock(&self.moving.promised).note(key, flow.count, promise),
            _ => lock(&self.moving.promised).forget(key),
        }
        if let (MoveStep::Move { .. }, Some(node)) = (work.step, work.node) {
            self.point(maps, key, &news(node), work.now_ns)?;
            if decision != Decision::Keep {
                let item = Item { key: *key, count, node, moved_ns: work.now_ns, first_ack };
                lock(&self.moving.news).add(item, work.peers.iter().copied());
            }
        }
        Ok(match work.step {
            MoveStep::Hold if accepts => MoveOutcome::Held { first_ack },
            _ => MoveOutcome::Done,
        })
    }

    /// This node's TCP has accepted a connection: all that may be its edge get a flow of it, this node first.
    fn accepted(
        &self,
        maps: &mut MoveMaps,
        work: &Work<'_>,
        key: &FlowKey,
        node: u32,
        ms_ago: u32,
    ) -> Result<MoveOutcome> {
        // What has an entry gets no packet through to our TCP. So it was accepted before, and whoever is told of its move
        // needs no more.
        if maps.any() && maps.get(key)?.is_some() {
            return Ok(MoveOutcome::Done);
        }
        let first_ack = rules::birth(tai_ms().saturating_sub(ms_ago.into()), maps.flow(key)?.as_ref());
        let moved_ns = work.now_ns.saturating_sub(u64::from(ms_ago) * 1_000_000);
        self.point(maps, key, &Whereabouts { node, count: 0, moved_ns, first_ack }, work.now_ns)?;
        let item = Item { key: *key, count: 0, node, moved_ns, first_ack };
        if !lock(&self.moving.news).add(item, work.peers.iter().copied()) {
            self.counters.accepted_untold.add(1);
        }
        Ok(MoveOutcome::Done)
    }

    /// Points the flow of a connection at the node that has it now, if it enters the fleet here. In mode "accept" that
    /// is not known, and there is a flow of each.
    fn point(&self, maps: &mut MoveMaps, key: &FlowKey, news: &Whereabouts, now_ns: u64) -> Result<()> {
        let flow = maps.flow(key)?;
        if self.config().node.mode == Mode::Accept {
            return match rules::followed(flow.as_ref(), news, now_ns).map(|flow| maps.put_flow(key, flow)) {
                Some(Err(error)) if error.is::<Full>() => {
                    // Packets go by their addresses, as long as the ring stays as it is.
                    self.counters.flow_table_full.add(1);
                    Ok(())
                }
                Some(done) => done,
                None => Ok(()),
            };
        }
        let Some(flow) = flow else { return Ok(()) };
        match rules::repointed(&flow, news) {
            Some(flow) => maps.set_flow(key, flow),
            None => Ok(()),
        }
    }

    /// Another node has sent connections to the member `to` at `address`: those that enter the fleet here follow. Blocks.
    ///
    /// # Errors
    /// If this node does not know that member: it is to be told again when its ring has it.
    pub(super) fn follow(&self, to: MemberNumber, address: NodeAddress, flows: &[MovedFlow]) -> Result<()> {
        let in_force = self.in_force();
        let known = member(&in_force, to) == Some(address);
        ensure!(known, "this node's ring has no member {to} at {address}");
        let (node, now_ns) = (u32::from(to.get()), monotonic_ns());
        let mut services = Services::new(self);
        let mut maps = lock(&self.moving.maps);
        for flow in flows {
            // A service that this node does not have brings no connections here.
            let Some(key) = services.key(flow.client, flow.service) else { continue };
            let MovedFlow { count, first_ack, .. } = *flow;
            let moved_ns = now_ns.saturating_sub(flow.moved_us_ago.saturating_mul(1000));
            let news = Whereabouts { node, count, moved_ns, first_ack };
            self.point(&mut maps, &key, &news, now_ns)?;
            if maps.any()
                && let Some(entry) = maps.get(&key)?
            {
                match rules::told(&entry, &news, in_force.number == Some(to)) {
                    Decision::Write(entry) => maps.set(&key, entry)?,
                    Decision::Remove => maps.remove(&key)?,
                    Decision::Keep | Decision::Refuse(_) => {}
                }
            }
        }
        debug!("{} connections have gone to member {to}", flows.len());
        self.counters.moves_heard.add(flows.len() as u64);
        Ok(())
    }
}

/// Refuses more connections than one request may have.
fn not_too_many(flows: &[FlowMove]) -> Result<()> {
    ensure!(flows.len() <= MOVES_MAX, "{} connections in one request, {MOVES_MAX} at most", flows.len());
    Ok(())
}

/// The address of a member of the ring in force.
fn member(in_force: &InForce, number: MemberNumber) -> Option<NodeAddress> {
    in_force.ring.as_ref().and_then(|ring| ring.member(number)).map(|member| member.address)
}

/// All that may be edges, this node apart: the members, and those of the ring before.
fn others(in_force: &InForce) -> Vec<NodeAddress> {
    let of = |ring: &Option<Ring>| ring.iter().flat_map(Ring::members).map(|member| member.address).collect::<Vec<_>>();
    let mut others = [of(&in_force.ring), of(&in_force.previous)].concat();
    others.sort_unstable();
    others.dedup();
    others.retain(|&address| Some(address) != in_force.address);
    others
}

/// The numbers of services, looked up once each.
struct Services<'a> {
    agent: &'a Agent,
    numbers: HashMap<SocketAddr, Option<u16>>,
}

impl<'a> Services<'a> {
    fn new(agent: &'a Agent) -> Self {
        Self { agent, numbers: HashMap::new() }
    }

    /// What the maps call a connection; nothing if its service is none.
    fn key(&mut self, client: SocketAddr, service: SocketAddr) -> Option<FlowKey> {
        let services = &self.agent.readings.services;
        let number = *self.numbers.entry(service).or_insert_with(|| {
            let key = ServiceKey { address: mapped(service.ip()), port: service.port().into() };
            services.get(&key, 0).ok().map(|Service { service, .. }| service as u16)
        });
        Some(FlowKey { client: mapped(client.ip()), client_port: client.port(), service: number? })
    }
}
