//! The last ring on disk, so that an agent that is started again without its source goes on with it.
//!
//! The file lies beside the control socket, on a file system that is usually as short-lived as the pinned maps. It is
//! written before the maps are, so it is never older than what they hold.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    control::{NamedRing, Rings},
    ring::Ring,
};

/// Its name.
const FILE: &str = "ring.json";

/// Where it lies, for a control socket at `socket`.
pub fn path(socket: &Path) -> PathBuf {
    socket.with_file_name(FILE)
}

/// Writes it, whole or not at all.
pub fn write(path: &Path, current: &Ring, previous: Option<&Ring>) -> Result<()> {
    let rings = Rings { current: Some(current.into()), previous: previous.map(Into::into) };
    let mut preparing = path.as_os_str().to_owned();
    preparing.push(".new");
    let save = || -> io::Result<()> {
        fs::write(&preparing, serde_json::to_vec(&rings)?)?;
        fs::rename(&preparing, path)
    };
    save().with_context(|| format!("cannot keep the ring in {} for the next start", path.display()))
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
        write(&path, &current, None).unwrap();
        write(&path, &current, Some(&previous)).unwrap();
        let (one, other) = read(&path).unwrap().unwrap();
        assert_eq!((one.name(), other.unwrap().name()), (current.name(), previous.name()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        let text = fs::read_to_string(&path).unwrap();
        for broken in [&text[..text.len() / 2], &text.replace("\"number\":3", "\"number\":4"), ""] {
            fs::write(&path, broken).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains("ring.json does not hold the last ring: "), "{error}");
        }
    }
}
