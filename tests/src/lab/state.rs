//! What a lab leaves on the machine, and how to remove it, also for an owner that was killed.
//!
//! ```text
//! /run/ringsteer-lab/rsl<pid>-<n>.lock   locked (flock) while the owner lives
//! /run/ringsteer-lab/rsl<pid>-<n>/       one directory a host: configuration, sockets, logs
//! /run/ringsteer-lab/rsl<pid>-<n>/bpf/   a bpffs with one directory a node
//! /run/netns/rsl<pid>-<n>-<host>         the namespaces
//! ```
//!
//! The kernel drops the lock with its owner, however that one ended, so a lock that can be had marks a lab that
//! nobody needs. A process number alone would not tell: it is used again.

use super::namespace;
use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where labs keep their files.
const DIRECTORY: &str = "/run/ringsteer-lab";

/// A name, its lock and its directory: they exist before any namespace does, so that nothing can be left behind that
/// a sweep would not find.
pub struct State {
    /// `rsl<pid>-<n>`; namespaces are called `<name>-<host>`.
    pub name: String,
    lock: Flock<File>,
}

// === impl State ===

impl State {
    /// Takes the next free name of this process, makes the directory and mounts the bpffs.
    ///
    /// # Errors
    /// If the process is not root.
    pub fn claim() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(DIRECTORY).with_context(|| format!("creating {DIRECTORY}; the lab needs root"))?;
        let name = format!("rsl{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let state = Self { lock: lock(&lock_path(&name))?, name };
        // An owner of the same process number may have died here.
        remove_everything(&state.name)?;
        fs::create_dir(state.directory()).with_context(|| format!("creating {}", state.directory().display()))?;
        let bpf = state.bpf_directory();
        fs::create_dir(&bpf).with_context(|| format!("creating {}", bpf.display()))?;
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a bpffs on {}", bpf.display()))?;
        Ok(state)
    }

    /// The lab's directory.
    pub fn directory(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// The mount point of the lab's bpffs.
    pub fn bpf_directory(&self) -> PathBuf {
        self.directory().join("bpf")
    }

    /// Removes all that carries the lab's name.
    ///
    /// # Errors
    /// If something refuses to go; a later sweep then tries again.
    pub fn remove(&self) -> Result<()> {
        remove_everything(&self.name)?;
        // Last, and while the lock is still held: from here on the name is free.
        fs::remove_file(lock_path(&self.name)).with_context(|| format!("removing the lock of {}", self.name))?;
        let _held_until_here = &self.lock;
        Ok(())
    }
}

/// Removes labs whose owner is dead, and gives their names.
///
/// # Errors
/// If one cannot be removed; the others are, all the same.
pub fn sweep() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut outcome = Ok(());
    let Ok(entries) = fs::read_dir(DIRECTORY) else { return Ok(removed) };
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".lock"))
        else {
            continue;
        };
        let Ok(Some(_lock)) = try_lock(&path) else { continue };
        let result = remove_everything(name)
            .and_then(|()| fs::remove_file(&path).with_context(|| format!("removing {}", path.display())));
        match result {
            Ok(()) => removed.push(name.to_owned()),
            Err(error) => outcome = Err(error.context(format!("removing what is left of {name}"))),
        }
    }
    outcome.map(|()| removed)
}

fn lock_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{name}.lock"))
}

/// Locks the file of a name that only this process uses, but that a sweeper may be removing right now.
fn lock(path: &Path) -> Result<Flock<File>> {
    loop {
        let file = File::create(path).with_context(|| format!("creating {}; the lab needs root", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| anyhow!(errno).context(format!("locking {}", path.display())))?;
        if is_still_there(&lock, path) {
            return Ok(lock);
        }
    }
}

/// The lock of a dead owner; none if the owner lives, or another sweeper was faster.
fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    match Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) if is_still_there(&lock, path) => Ok(Some(lock)),
        Ok(_) | Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn is_still_there(lock: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match (lock.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => identity(ours) == identity(theirs),
        _ => false,
    }
}

/// Kills who is left in the lab's namespaces, then removes these, the bpffs and the directory. Goes on after a failure
/// and reports the first one. Whoever calls it holds the lab's lock.
fn remove_everything(name: &str) -> Result<()> {
    let mut outcome = Ok(());
    let namespaces = namespace::names_with_prefix(&format!("{name}-"));
    namespace::kill_inhabitants(&namespaces);
    for namespace in namespaces {
        outcome = outcome.and(namespace::remove(&namespace));
    }

    let directory = Path::new(DIRECTORY).join(name);
    let bpf = directory.join("bpf");
    match umount2(&bpf, MntFlags::MNT_DETACH) {
        // Never mounted, or gone.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        // Without this the removal below would walk into pins that are still mounted.
        Err(errno) => return Err(anyhow!(errno).context(format!("unmounting {}", bpf.display()))),
    }
    match fs::remove_dir_all(&directory) {
        Ok(()) => outcome,
        Err(error) if error.kind() == ErrorKind::NotFound => outcome,
        Err(error) => Err(error).with_context(|| format!("removing {}", directory.display())),
    }
}
