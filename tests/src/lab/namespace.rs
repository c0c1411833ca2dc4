//! Named network namespaces: `ip netns exec NAME …` works on them too.

use super::command;
use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where iproute2 keeps its named namespaces.
const DIRECTORY: &str = "/run/netns";

/// The file that stands for the namespace of that name.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Makes namespaces with these names.
///
/// # Errors
/// If the process may not (it needs CAP_SYS_ADMIN), or a name is taken.
pub fn create<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let batch: String = names.into_iter().map(|name| format!("netns add {name}\n")).collect();
    command::ip_batch(None, &batch)
}

/// Opens a namespace; it lives at least as long as the file does.
///
/// # Errors
/// If there is none of that name.
pub fn open(name: &str) -> Result<File> {
    File::open(path(name)).with_context(|| format!("opening the network namespace {name}"))
}

/// Moves the calling thread, for good, into a network namespace. Nothing but the network changes: files stay visible,
/// `/sys` still shows the network of the process's first thread.
///
/// # Errors
/// If the process lacks CAP_SYS_ADMIN.
pub fn enter(namespace: impl AsFd) -> nix::Result<()> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
}

/// The names of all namespaces that start with `prefix`.
pub fn names_with_prefix(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|n| n.starts_with(prefix))
        .collect()
}

/// Removes the name; the namespace itself goes with its last process and file.
///
/// # Errors
/// If the name cannot be removed.
pub fn remove(name: &str) -> Result<()> {
    let path = path(name);
    match umount2(&path, MntFlags::MNT_DETACH) {
        // Not a mount point: its maker died between creating the file and mounting the namespace on it.
        Ok(()) | Err(nix::Error::EINVAL) => {}
        Err(error) => return Err(anyhow!(error).context(format!("unmounting {}", path.display()))),
    }
    std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
}

/// Kills every other process that lives in one of these namespaces: children of children, which the lab has no handle
/// for, and shells that somebody left open in there.
pub fn kill_inhabitants(names: &[String]) {
    let identity = |path: PathBuf| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let ours: Vec<_> = names.iter().filter_map(|name| identity(path(name))).collect();
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|pid| *pid != rustix::process::getpid()) else {
            continue;
        };
        // The handle first, the question second: what is killed is what was asked about, whatever became of the number.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if identity(entry.path().join("ns/net")).is_some_and(|inhabited| ours.contains(&inhabited)) {
            // An error means that it is gone already.
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}
