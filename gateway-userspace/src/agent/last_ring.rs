//! The last ring on disk, so that an agent that is started again without its source goes on with it.
//!
//! The file lies beside the control socket, on a file system that is usually as short-lived as the pinned maps. It is
//! written before the maps are, so it is never older than what they hold.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    control::{NamedRing, Rings},
    ring::{Ring, RingName},
};

/// Its name.
const FILE: &str = "ring.json";

/// Where it lies, for a control socket at `socket`.
pub fn path(socket: &Path) -> PathBuf {
    socket.with_file_name(FILE)
}

/// Writes the file.
#[derive(Debug)]
pub struct LastRing {
    path: PathBuf,
    /// The ring written last, as it was written: it is written once more with the next one, then as the one before.
    written: Option<(RingName, Box<RawValue>)>,
}

/// What is in the file: [`Rings`], as text.
#[derive(Serialize)]
struct Texts<'a> {
    current: &'a RawValue,
    previous: Option<&'a RawValue>,
}

impl LastRing {
    /// That at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, written: None }
    }

    /// Writes it, whole or not at all.
    pub fn write(&mut self, current: &Ring, previous: Option<&Ring>) -> Result<()> {
        let path = &self.path;
        let mut preparing = path.as_os_str().to_owned();
        preparing.push(".new");
        let written = self.written.take();
        let save = || -> io::Result<Box<RawValue>> {
            let before = previous.map(|ring| match written {
                Some((name, text)) if name == ring.name() => Ok(text),
                _ => text(ring),
            });
            let (current, before) = (text(current)?, before.transpose()?);
            fs::write(&preparing, serde_json::to_vec(&Texts { current: &current, previous: before.as_deref() })?)?;
            fs::rename(&preparing, path)?;
            Ok(current)
        };
        let text = save().with_context(|| format!("cannot keep the ring in {} for the next start", path.display()))?;
        self.written = Some((current.name(), text));
        Ok(())
    }
}

fn text(ring: &Ring) -> io::Result<Box<RawValue>> {
    Ok(serde_json::value::to_raw_value(&NamedRing::from(ring))?)
}

/// The ring that was in force last, and the one before it; none if there is no such file.
///
/// # Errors
/// If there is one that cannot be read or holds no ring, or another than it says.
pub fn read(path: &Path) -> Result<Option<(Ring, Option<Ring>)>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let rebuild = || -> Result<Option<(Ring, Option<Ring>)>> {
        let rings: Rings = serde_json::from_slice(&text)?;
        let Some(current) = rings.current else { return Ok(None) };
        Ok(Some((rebuilt(current)?, rings.previous.map(rebuilt).transpose()?)))
    };
    rebuild().with_context(|| format!("{} does not hold the last ring", path.display()))
}

fn rebuilt(named: NamedRing) -> Result<Ring> {
    let ring = Ring::try_from(named.ring)?;
    anyhow::ensure!(ring.digest() == named.digest, "its members do not make the ring that it names");
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = path(&directory.path().join("agent.sock"));
        assert_eq!(path, directory.path().join("ring.json"));
        assert!(read(&path).unwrap().is_none());
        let (current, previous) = (fixtures::openim(3, ":88"), fixtures::openim(2, ""));
        let mut last = LastRing::new(path.clone());
        let read_names = || {
            let (current, previous) = read(&path).unwrap().unwrap();
            (current.name(), previous.map(|ring| ring.name()))
        };
        last.write(&previous, None).unwrap();
        assert_eq!(read_names(), (previous.name(), None));
        last.write(&current, Some(&previous)).unwrap();
        assert_eq!(read_names(), (current.name(), Some(previous.name())));
        // Also by one who has not written the one before.
        last.write(&current, Some(&fixtures::openim(5, ""))).unwrap();
        assert_eq!(read_names(), (current.name(), Some(fixtures::openim(5, "").name())));
        LastRing::new(path.clone()).write(&current, Some(&previous)).unwrap();
        assert_eq!(read_names(), (current.name(), Some(previous.name())));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let text = fs::read_to_string(&path).unwrap();
        for broken in [&text[..text.len() / 2], &text.replace("\"number\":3", "\"number\":4"), ""] {
            fs::write(&path, broken).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains("ring.json does not hold the last ring: "), "{error}");
        }
    }
}
