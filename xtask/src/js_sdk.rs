//! OpenIM's JS SDK, unmodified, which logs in at gateways in the tests. From npm, below `target/`, at the versions and
//! with the checksums of `tests/js-sdk/package-lock.json`.
//!
//! It is not part of ringsteer: it runs in a process of its own, in tests only, and nothing of it is shipped.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// What npm reads. The lock file has no addresses: packages come from where this machine gets packages.
const FILES: [&str; 3] = ["package.json", "package-lock.json", ".npmrc"];

/// Where the SDK is. Installs it if that was not done yet, or at other versions.
pub fn provide() -> Result<PathBuf> {
    let source = workspace::root().join("tests/js-sdk");
    let directory = workspace::target_dir().join("js-sdk");
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
    eprintln!("Installing OpenIM's JS SDK into {}", directory.display());
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for name in FILES {
        fs::copy(source.join(name), directory.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    command::run(Command::new("npm").args(["ci", "--silent"]).current_dir(&directory))?;
    fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(directory)
}
