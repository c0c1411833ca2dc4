//! What is pinned, for somebody who only looks: nothing is loaded, adopted or changed.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};
use aya::{maps::MapInfo, programs::links::PinnedLink as Link};

use super::{maps::PINNED, object, pins};

/// A map that should be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedMap {
    /// Its name.
    pub name: &'static str,
    /// What is there.
    pub state: PinState,
}

/// What is there in place of a pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    /// Nothing.
    Missing,
    /// A map laid out as this version lays it out.
    Fits,
    /// A map of another version.
    OtherLayout,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedLink {
    /// The pin's name.
    pub name: String,
    /// The program it runs, by its kernel number.
    pub program: u32,
}

/// The maps of this version, and what is pinned of them.
///
/// # Errors
/// If this process may not look.
pub fn maps(directory: &Path) -> Result<Vec<PinnedMap>> {
    let object = object::read(None)?;
    let object = aya_obj::Object::parse(&object).context("cannot read the kernel programs")?;
    let one = |&name: &&'static str| {
        let path = directory.join(name);
        if !exists(&path)? {
            return Ok(PinnedMap { name, state: PinState::Missing });
        }
        let wanted = object.maps.get(name).with_context(|| format!("the object has no map `{name}`"))?;
        let found = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(PinnedMap { name, state: if pins::fits(&found, wanted)? { PinState::Fits } else { PinState::OtherLayout } })
    };
    PINNED.iter().map(one).collect()
}

/// The links that hold our programs on interfaces.
///
/// # Errors
/// If this process may not look.
pub fn links(directory: &Path) -> Result<Vec<PinnedLink>> {
    if !exists(directory)? {
        return Ok(Vec::new());
    }
    let mut links = Vec::new();
    for path in super::attach::link_pins(directory)? {
        let link = Link::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let info = aya::programs::links::FdLink::from(link).info()?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        links.push(PinnedLink { name, program: info.program_id() });
    }
    Ok(links)
}

/// Whether a directory lies on a BPF file system.
///
/// # Errors
/// If this process may not look.
pub fn is_bpf_file_system(directory: &Path) -> Result<bool> {
    pins::is_bpffs(directory)
}

/// Unlike [`Path::exists`], does not take what it may not see for missing.
fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_is_pinned_everything_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let found = maps(directory.path()).unwrap();
        assert_eq!(found.len(), PINNED.len());
        assert!(found.iter().all(|map| map.state == PinState::Missing));
        assert_eq!(links(&directory.path().join("none")).unwrap(), []);
        assert!(!is_bpf_file_system(directory.path()).unwrap());
    }
}
