//! The maps of connections on the move, and the flows they are about: for changing single entries, beside whoever writes
//! the other maps.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    moves::{Move, Moving},
};

use super::readings::pinned;

/// The maps.
pub struct MoveMaps {
    moves: HashMap<MapData, FlowKey, Move>,
    moving: Array<MapData, Moving>,
    flows: HashMap<MapData, FlowKey, Flow>,
    /// Whether the programs look into `moves`.
    looked_at: bool,
}

/// An entry could not be made, because there are as many as there may be.
#[derive(Debug, thiserror::Error)]
#[error("there are as many entries as there is room for")]
pub struct Full;

/// Change it only if it is still there (`include/uapi/linux/bpf.h`).
const BPF_EXIST: u64 = 2;

impl MoveMaps {
    /// Opens what is pinned in `pin_dir`.
    ///
    /// # Errors
    /// If something is missing.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        let moving: Array<MapData, Moving> = Map::Array(pinned(pin_dir, "moving")?).try_into()?;
        let looked_at = moving.get(&0, 0).context("cannot read whether connections are on the move")?.entries != 0;
        Ok(Self {
            moves: Map::HashMap(pinned(pin_dir, "moves")?).try_into()?,
            flows: Map::HashMap(pinned(pin_dir, "flows")?).try_into()?,
            moving,
            looked_at,
        })
    }

    /// Whether there may be entries.
    pub fn any(&self) -> bool {
        self.looked_at
    }

    /// The entry of a connection.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn get(&self, key: &FlowKey) -> Result<Option<Move>> {
        found(self.moves.get(key, 0)).context("cannot read a move")
    }

    /// Makes or changes an entry. From when this returns the programs go by it.
    ///
    /// # Errors
    /// [`Full`], or if the kernel refuses.
    pub fn set(&mut self, key: &FlowKey, entry: Move) -> Result<()> {
        if !self.looked_at {
            self.moving.set(0, Moving { entries: 1 }, 0).context("cannot have the programs look for moves")?;
            self.looked_at = true;
        }
        with_room(self.moves.insert(key, entry, 0)).context("cannot write a move")
    }

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn remove(&mut self, key: &FlowKey) -> Result<()> {
        found(self.moves.remove(key)).context("cannot remove a move").map(drop)
    }

    /// All entries. If there are none, the programs do not look for them any more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn all(&mut self) -> Result<Vec<(FlowKey, Move)>> {
        let entries = self.moves.iter().collect::<Result<Vec<_>, _>>().context("cannot walk the moves")?;
        if entries.is_empty() && self.looked_at {
            self.moving.set(0, Moving { entries: 0 }, 0).context("cannot have the programs rest")?;
            self.looked_at = false;
        }
        Ok(entries)
    }

    /// The flow of a connection, if it enters the fleet here.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>> {
        found(self.flows.get(key, 0)).context("cannot read a flow")
    }

    /// Changes it, if it is still there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn set_flow(&mut self, key: &FlowKey, flow: Flow) -> Result<()> {
        found(self.flows.insert(key, flow, BPF_EXIST)).context("cannot change a flow").map(drop)
    }

    /// Makes or changes it.
    ///
    /// # Errors
    /// [`Full`], or if the kernel refuses.
    pub fn put_flow(&mut self, key: &FlowKey, flow: Flow) -> Result<()> {
        with_room(self.flows.insert(key, flow, 0)).context("cannot write a flow")
    }
}

/// [`Full`], if that is why.
fn with_room(result: Result<(), MapError>) -> Result<()> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::E2BIG) => Err(Full.into()),
        other => Ok(other?),
    }
}

/// What was found; that nothing was is no error.
fn found<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
