//! What the tests use of npm, unmodified: [`JS_SDK`] and [`WS`], which connect to gateways. Below `target/`, at the
//! versions and with the checksums of the lock files in `tests/`.
//!
//! None of it is part of ringsteer: it runs in processes of its own, in tests only, and nothing of it is shipped.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// What is installed together.
pub struct Packages {
    /// For messages.
    title: &'static str,
    /// Its directory in `tests/`, and below `target/`.
    name: &'static str,
}

/// OpenIM's JS SDK.
pub const JS_SDK: Packages = Packages { title: "OpenIM's JS SDK", name: "js-sdk" };

/// The websocket client most used with Node.
pub const WS: Packages = Packages { title: "npm's ws", name: "ws" };

/// What npm reads. The lock file has no addresses: packages come from where this machine gets packages.
const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

// === impl Packages ===

impl Packages {
    /// Where they are. Installs them if that was not done yet, or at other versions.
    pub fn provide(&self) -> Result<PathBuf> {
        let source = workspace::root().join("tests").join(self.name);
        let directory = workspace::target_dir().join(self.name);
        // Written last: what was interrupted is done again.
        let mark = directory.join("installed");
        let mut wanted = String::new();
        for name in FILES {
            let path = source.join(name);
            wanted += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
            return Ok(directory);
        }
        eprintln!("Installing {} into {}", self.title, directory.display());
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for name in FILES {
            fs::copy(source.join(name), directory.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        command::run(Command::new("npm").args(["ci", "--silent"]).current_dir(&directory))?;
        fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
        Ok(directory)
    }
}
