//! Installing Debian packages.

use std::process::Command;

use anyhow::Result;

use crate::command;

/// Installs `packages`, or fails without asking anything. Needs root.
pub fn install(packages: &[&str]) -> Result<()> {
    command::run(apt_get().arg("update"))?;
    command::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// What a person would type to install `packages`.
pub fn by_hand(packages: &[&str]) -> String {
    format!("apt-get update && apt-get install {}", packages.join(" "))
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    // Another installation, such as the nightly upgrade, is waited for.
    apt_get.args(["--quiet", "--option", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt_get
}
