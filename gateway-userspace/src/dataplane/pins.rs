//! The pin directory: maps, programs and links that outlive us.
//!
//! A pinned program carries in its name what it was made from, `program-<name>-<16 hexadecimal digits>`. Whoever wants
//! to run the very same one finds it there and need not load it, which takes more rights than running it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::MapInfo;
use nix::mount::{MsFlags, mount};
use sha2::{Digest as _, Sha256};

use super::maps::PINNED;

/// How the names of pinned programs begin.
const PROGRAM: &str = "program-";

/// What loaded programs were made from: object, settings, and the maps they use. The start of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Make(u64);

impl Make {
    /// Of an object linked to this kernel, what was written into it, and the numbers of its maps.
    pub(super) fn of(object: &[u8], globals: &[u32], maps: &[u32]) -> Self {
        let mut hasher = Sha256::new();
        // The object last: the others have no length that could be confused with it.
        for number in [&[globals.len() as u32, maps.len() as u32], globals, maps].concat() {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(object);
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        Self(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a program of that make is pinned.
pub(super) fn program(directory: &Path, name: &str, make: Make) -> PathBuf {
    directory.join(format!("{PROGRAM}{name}-{make}"))
}

/// All pinned programs of a directory.
pub(super) fn programs(directory: &Path) -> Result<Vec<PathBuf>> {
    starting_with(directory, &[PROGRAM])
}

/// What is pinned in a directory under names that begin so.
pub(super) fn starting_with(directory: &Path, prefixes: &[&str]) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut pins = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| prefixes.iter().any(|prefix| name.starts_with(prefix))) {
            pins.push(entry.path());
        }
    }
    Ok(pins)
}

/// The pin directory before loading.
pub(super) struct Pins {
    directory: PathBuf,
    /// Maps that are pinned already.
    present: Vec<&'static str>,
    /// Whether the directory itself is ours to remove.
    created: bool,
}

impl Pins {
    pub(super) fn prepare(directory: &Path) -> Result<Self> {
        let created = !directory.exists();
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the pin directory {}", directory.display()))?;
        if !is_bpffs(directory)? {
            if created {
                let _ = fs::remove_dir(directory);
            }
            bail!(
                "the pin directory {} is not on a BPF file system. Mount one: mount -t bpf bpf /sys/fs/bpf",
                directory.display()
            );
        }
        let present = PINNED.iter().copied().filter(|name| directory.join(name).exists()).collect();
        Ok(Self { directory: directory.to_path_buf(), present, created })
    }

    /// Refuses pinned maps that these programs would misread.
    pub(super) fn check_layouts(&self, object: &aya_obj::Object) -> Result<()> {
        for &name in &self.present {
            let wanted = object.maps.get(name).with_context(|| format!("the object has no map `{name}`"))?;
            let path = self.directory.join(name);
            let pinned =
                MapInfo::from_pin(&path).with_context(|| format!("cannot open the pinned map {}", path.display()))?;
            ensure!(
                fits(&pinned, wanted)?,
                "the pinned map {} has another layout than this version's (keys of {} bytes instead of {}, values of {} instead of {}). \
                 It belongs to another version of ringsteer: run `ringsteer uninstall` first; live connections end then",
                path.display(),
                pinned.key_size(),
                wanted.key_size(),
                pinned.value_size(),
                wanted.value_size(),
            );
        }
        Ok(())
    }

    /// The kernel's numbers of the pinned maps. While a map exists, no other has its number.
    pub(super) fn map_ids(&self) -> Result<Vec<u32>> {
        let id = |name: &&str| {
            let path = self.directory.join(name);
            let map = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            Ok(map.id())
        };
        PINNED.iter().map(id).collect()
    }

    /// Takes back what was pinned since.
    pub(super) fn withdraw(&self) {
        for name in PINNED.iter().filter(|name| !self.present.contains(name)) {
            let _ = fs::remove_file(self.directory.join(name));
        }
        if self.created {
            let _ = fs::remove_dir(&self.directory);
        }
    }
}

/// Mounts a BPF file system on the directory above `pin_dir`, unless that is in one already. Gives where, if it did.
///
/// # Errors
/// If it cannot be mounted: that takes root.
pub fn mount_bpf_file_system(pin_dir: &Path) -> Result<Option<PathBuf>> {
    let above = pin_dir.parent().with_context(|| format!("{} can be no pin directory", pin_dir.display()))?;
    fs::create_dir_all(above).with_context(|| format!("cannot create the directory {}", above.display()))?;
    if is_bpffs(above)? {
        return Ok(None);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), above, Some("bpf"), flags, Some("mode=0700"))
        .with_context(|| format!("cannot mount a BPF file system on {}", above.display()))?;
    Ok(Some(above.to_owned()))
}

/// Whether a pinned map is laid out as the object wants it.
pub(super) fn fits(pinned: &MapInfo, wanted: &aya_obj::Map) -> Result<bool> {
    Ok(pinned.map_type()? as u32 == wanted.map_type()
        && pinned.key_size() == wanted.key_size()
        && pinned.value_size() == wanted.value_size())
}

/// Whether a directory lies on a BPF file system.
pub(super) fn is_bpffs(directory: &Path) -> Result<bool> {
    let found =
        nix::sys::statfs::statfs(directory).with_context(|| format!("cannot look at {}", directory.display()))?;
    Ok(found.filesystem_type() == nix::sys::statfs::FsType(libc::BPF_FS_MAGIC as _))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_makes_another_program() {
        let one = Make::of(b"object", &[36, 240], &[1, 2]);
        assert_eq!(one, Make::of(b"object", &[36, 240], &[1, 2]));
        for other in [
            Make::of(b"objecu", &[36, 240], &[1, 2]),
            Make::of(b"object", &[36, 241], &[1, 2]),
            Make::of(b"object", &[36, 240], &[1, 3]),
            Make::of(b"object", &[36, 240, 1], &[2]),
        ] {
            assert_ne!(one, other);
        }
    }
}
