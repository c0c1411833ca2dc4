//! Reading the maps beside whoever writes them: with handles of its own, so that nobody waits for anybody.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    node::Node,
    service::{Service, ServiceKey},
    stats::Stats,
};

use super::{maps::total, walk::FlowWalk};

/// The maps, for reading.
pub struct Readings {
    pin_dir: PathBuf,
    /// Virtual addresses and ports.
    pub services: HashMap<MapData, ServiceKey, Service>,
    /// Members by number.
    pub nodes: HashMap<MapData, u32, Node>,
    /// Steered connections.
    pub flows: FlowWalk,
    stats: PerCpuArray<MapData, Stats>,
}

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

    /// A handle to change single flows with.
    ///
    /// # Errors
    /// If the table is not there.
    pub fn flow_changes(&self) -> Result<Flows> {
        Ok(Map::HashMap(pinned(&self.pin_dir, "flows")?).try_into()?)
    }
}

fn pinned(pin_dir: &Path, name: &str) -> Result<MapData> {
    let path = pin_dir.join(name);
    MapData::from_pin(&path).with_context(|| format!("cannot open the pinned map {}", path.display()))
}
