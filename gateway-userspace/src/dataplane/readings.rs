//! Reading the maps beside whoever writes them: with handles of its own, so that nobody waits for anybody.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, MapError, MapType, PerCpuArray};
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    moves::Move,
    node::Node,
    ring::Ring,
    service::{Service, ServiceKey},
    stats::Stats,
};

use super::{element, maps::total, walk::FlowWalk};

/// The maps, for reading.
pub struct Readings {
    pin_dir: PathBuf,
    /// Virtual addresses and ports.
    pub services: HashMap<MapData, ServiceKey, Service>,
    /// Members by number.
    pub nodes: HashMap<MapData, u32, Node>,
    /// Steered connections.
    pub flows: FlowWalk,
    moves: HashMap<MapData, FlowKey, Move>,
    stats: PerCpuArray<MapData, Stats>,
}

/// Connections on the move, by the bytes of their keys.
pub type Moves = std::collections::HashMap<[u8; size_of::<FlowKey>()], Move>;

/// The flow table, for changing single flows.
pub type Flows = HashMap<MapData, FlowKey, Flow>;

impl Readings {
    /// Opens what is pinned in `pin_dir`.
    ///
    /// # Errors
    /// If something is missing.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            services: Map::HashMap(pinned(pin_dir, "services")?).try_into()?,
            nodes: Map::HashMap(pinned(pin_dir, "nodes")?).try_into()?,
            flows: FlowWalk::open(pin_dir)?,
            moves: Map::HashMap(pinned(pin_dir, "moves")?).try_into()?,
            stats: Map::PerCpuArray(pinned(pin_dir, "stats")?).try_into()?,
        })
    }

    /// The counters, added up over all CPUs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stats(&self) -> Result<Stats> {
        total(&self.stats)
    }

    /// The connections that are leaving this node, or have left it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn moves(&self) -> Result<Moves> {
        let named = |entry: Result<(FlowKey, Move), MapError>| {
            let (key, entry) = entry?;
            anyhow::Ok((bytemuck::cast(key), entry))
        };
        self.moves.iter().map(named).collect()
    }

    /// Most flows the table can hold.
    ///
    /// # Errors
    /// If the table is not there.
    pub fn max_flows(&self) -> Result<u64> {
        Ok(pinned(&self.pin_dir, "flows")?.info()?.max_entries().into())
    }

    /// The ring that packets are placed by. Takes CAP_SYS_ADMIN, for the slot of `ring` names the inner map by its
    /// number; the agent, which does without, keeps the one it has made open (`Maps::ring_in_force`).
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn ring_in_force(&self) -> Result<Box<Ring>> {
        let slot: ArrayOfMaps<MapData, MapData> = Map::ArrayOfMaps(pinned(&self.pin_dir, "ring")?).try_into()?;
        let inner = match slot.get(&0, 0) {
            Ok(inner) => inner,
            Err(MapError::KeyNotFound) => anyhow::bail!("no ring has been published to the kernel yet"),
            Err(error) => return Err(error).context("cannot open the ring in force (that takes CAP_SYS_ADMIN)"),
        };
        let info = inner.info()?;
        ensure!(
            info.map_type()? == MapType::Array && info.value_size() as usize == size_of::<Ring>(),
            "the kernel's ring has another layout than this version's"
        );
        // It is an array of such rings, as just seen.
        element::of_array(inner.fd().as_fd(), 0).context("cannot read the ring in force")
    }

    /// A handle to change single flows with.
    ///
    /// # Errors
    /// If the table is not there.
    pub fn flow_changes(&self) -> Result<Flows> {
        Ok(Map::HashMap(pinned(&self.pin_dir, "flows")?).try_into()?)
    }
}

pub(super) fn pinned(pin_dir: &Path, name: &str) -> Result<MapData> {
    let path = pin_dir.join(name);
    MapData::from_pin(&path).with_context(|| format!("cannot open the pinned map {}", path.display()))
}
