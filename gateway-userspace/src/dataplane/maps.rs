//! Typed access to the maps.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray},
};
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    node::{Node, NodeAddress, NodeNumber, ThisNode},
    ring::Ring,
    secret::Secrets,
    service::{Service, ServiceKey},
    stats::Stats,
};

use super::{
    element,
    numbers::Numbers,
    walk::{FlowWalk, Walk},
};

/// The programs' log. It has the name that `aya-log` looks for.
pub const LOG: &str = "AYA_LOGS";

/// The maps that are pinned: all that must outlive the agent. The log is among them because programs that were loaded
/// before write into theirs.
pub const PINNED: &[&str] = &[
    "services",
    "ring",
    "nodes",
    "node_addrs",
    "this_node",
    "flows",
    "moves",
    "moving",
    "held_frames",
    "secrets",
    "stats",
    LOG,
];

/// The maps, typed.
pub struct Maps {
    /// Virtual addresses and ports.
    pub services: HashMap<MapData, ServiceKey, Service>,
    /// Members by number.
    pub nodes: HashMap<MapData, u32, Node>,
    /// Member numbers by address.
    pub node_addrs: HashMap<MapData, NodeAddress, NodeNumber>,
    /// Which node we are.
    pub this_node: Array<MapData, ThisNode>,
    /// Steered connections.
    pub flows: HashMap<MapData, FlowKey, Flow>,
    /// What keys the cookies.
    pub secrets: Array<MapData, Secrets>,
    /// Steered connections, for walking.
    pub flow_walk: FlowWalk,
    /// Members by number, for walking.
    pub(super) node_walk: Walk<u32, Node>,
    /// Member numbers by address, for walking.
    pub(super) address_walk: Walk<NodeAddress, NodeNumber>,
    /// Gives services their numbers.
    pub(super) numbers: Numbers,
    stats: PerCpuArray<MapData, Stats>,
    /// The inner map of the ring put in force last.
    in_force: Option<OwnedFd>,
    ring: ArrayOfMaps<MapData, Array<MapData, Ring>>,
    ring_template: RingTemplate,
}

impl Maps {
    /// Takes them from a loaded object that has pinned them. `types` are the programs'.
    pub(super) fn take(ebpf: &mut Ebpf, object: &aya_obj::Object, types: OwnedFd, pin_dir: &Path) -> Result<Self> {
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"));
        Ok(Self {
            services: take("services")?.try_into()?,
            nodes: take("nodes")?.try_into()?,
            node_addrs: take("node_addrs")?.try_into()?,
            this_node: take("this_node")?.try_into()?,
            flows: take("flows")?.try_into()?,
            secrets: take("secrets")?.try_into()?,
            flow_walk: FlowWalk::open(pin_dir)?,
            node_walk: Walk::open_map(pin_dir, "nodes")?,
            address_walk: Walk::open_map(pin_dir, "node_addrs")?,
            numbers: Numbers::default(),
            stats: take("stats")?.try_into()?,
            in_force: None,
            ring: take("ring")?.try_into()?,
            ring_template: RingTemplate {
                map: object
                    .maps
                    .get("ring")
                    .and_then(aya_obj::Map::inner)
                    .context("the map `ring` has no inner map")?,
                types,
            },
        })
    }

    /// Puts a ring in force: a new inner map, swapped in. When this returns, no packet sees the old ring any more
    /// (replacing the slot waits for the programs that run, `maybe_wait_bpf_programs`).
    pub fn set_ring(&mut self, ring: &Ring) -> Result<()> {
        let data =
            MapData::create(self.ring_template.map.clone(), "ring_points", Some(self.ring_template.types.as_fd()))
                .context("cannot create a map for the new ring")?;
        let descriptor = data.fd().as_fd().try_clone_to_owned().context("cannot keep the new ring's map open")?;
        let mut inner: Array<MapData, Ring> = Map::Array(data).try_into()?;
        inner.set(0, ring, 0).context("cannot write the new ring")?;
        self.ring.set(0, &inner, 0).context("cannot swap in the new ring")?;
        self.in_force = Some(descriptor);
        Ok(())
    }

    /// The ring that packets are placed by, out of the kernel's map.
    ///
    /// # Errors
    /// If there is none yet, or the kernel refuses.
    pub fn ring_in_force(&self) -> Result<Box<Ring>> {
        // By our own descriptor: opening the map that the slot names by its number takes CAP_SYS_ADMIN.
        let inner = self.in_force.as_ref().context("no ring has been published since the agent started")?;
        // An array of rings, as `set_ring` has made it.
        element::of_array(inner.as_fd(), 0).context("cannot read the ring")
    }

    /// The counters, added up over all CPUs.
    pub fn stats(&self) -> Result<Stats> {
        total(&self.stats)
    }
}

/// The counters, added up over all CPUs.
pub(super) fn total(stats: &PerCpuArray<MapData, Stats>) -> Result<Stats> {
    let per_cpu = stats.get(&0, 0).context("cannot read the counters")?;
    let mut total: Stats = bytemuck::Zeroable::zeroed();
    per_cpu.iter().for_each(|one| total.add(one));
    Ok(total)
}

/// What a new inner map is made from.
struct RingTemplate {
    map: aya_obj::Map,
    types: OwnedFd,
}
