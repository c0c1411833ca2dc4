//! A kernel that lacks the function which `admit` calls, as those before 6.8 do, as far as the one that tests run on can be
//! one: the types that it shows to a process do not have the function, and whoever looks for it does not find it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use ringsteer::dataplane::kernel_types::KERNEL_BTF;
use ringsteer_ebpf::kfunc::ASSIGN_REQSK_NAME;
use tempfile::NamedTempFile;

/// The kernel's types, with another name in the function's place.
///
/// # Errors
/// If they cannot be read, or do not have it.
pub fn types() -> Result<Vec<u8>> {
    let mut types = fs::read(KERNEL_BTF).with_context(|| format!("cannot read {KERNEL_BTF}"))?;
    let name = [b"\0", ASSIGN_REQSK_NAME.as_bytes(), b"\0"].concat();
    let at: Vec<usize> =
        types.windows(name.len()).enumerate().filter(|(_, seen)| *seen == name).map(|(at, _)| at).collect();
    ensure!(at.len() == 1, "{ASSIGN_REQSK_NAME} is there {} times", at.len());
    types[at[0] + 1] = b'x';
    Ok(types)
}

/// Shows them to this thread, whose mounts must be its own.
///
/// # Errors
/// If they cannot be read or covered.
pub fn show() -> Result<()> {
    let file = NamedTempFile::new().context("cannot write types")?;
    fs::write(file.path(), types()?)?;
    // The mount holds the file.
    mount(Some(file.path()), KERNEL_BTF, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("cannot cover the kernel's types")
}

/// A command that shows them to the process it becomes, which is the one that `command` says. They are written to `path`.
///
/// # Errors
/// If they cannot be read or written.
pub fn command(command: Command, path: &Path) -> Result<Command> {
    fs::write(path, types()?).with_context(|| format!("cannot write {}", path.display()))?;
    let mut covered = Command::new("unshare");
    covered.args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]).arg(path).arg(KERNEL_BTF);
    covered.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => covered.env(name, value),
            None => covered.env_remove(name),
        };
    }
    Ok(covered)
}
