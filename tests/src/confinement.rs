//! A command with few rights, as a container runtime would start it: root with a list of capabilities and no way to
//! gain others, a root file system and settings that cannot be written.

use std::{ffi::OsString, path::Path, process::Command};

/// What a command may do.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// The capabilities it has, as Kubernetes writes them: `NET_ADMIN`. It has no others and can gain none.
    pub capabilities: Vec<String>,
    /// Whether root file system and `/proc/sys` are read-only, as in a container that is not privileged.
    pub sealed: bool,
}

/// Seals the file system: the directories given stay writable, then come two dashes and the command.
const SEAL: &str = r#"
set -eu
while [ "$1" != -- ]; do
    mount --bind "$1" "$1"
    shift
done
shift
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
exec "$@"
"#;

impl Confinement {
    /// With these capabilities, and nothing to write to.
    pub fn sealed(capabilities: Vec<String>) -> Self {
        Self { capabilities, sealed: true }
    }

    /// With these capabilities, and files as everybody's.
    pub fn open(capabilities: Vec<String>) -> Self {
        Self { capabilities, sealed: false }
    }

    /// The command, so confined, with its arguments and environment. What lies in `writable` it can write all the same.
    pub fn of(&self, command: &Command, writable: &[&Path]) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if self.sealed {
            words.extend(["unshare", "--mount", "--propagation", "private", "sh", "-c", SEAL, "sh"].map(Into::into));
            words.extend(writable.iter().map(Into::into));
            words.push("--".into());
        }
        let list: String = self.capabilities.iter().map(|one| format!(",+{}", one.to_lowercase())).collect();
        // With an empty inheritable set, and no bit of others in the bounding set, root gains only those by `execve`.
        words.extend(["setpriv", "--no-new-privs", "--inh-caps=-all"].map(Into::into));
        words.push(format!("--bounding-set=-all{list}").into());
        words.push(command.get_program().into());
        words.extend(command.get_args().map(Into::into));

        let mut confined = Command::new(&words[0]);
        confined.args(&words[1..]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => confined.env(name, value),
                None => confined.env_remove(name),
            };
        }
        confined
    }
}
