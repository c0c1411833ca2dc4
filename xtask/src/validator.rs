//! `kubernetes-validate`, which carries the JSON schemas of Kubernetes: from PyPI, in an environment of its own below
//! `target/`, at the versions written here.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// It, and everything it stands on.
const PACKAGES: [&str; 9] = [
    "kubernetes-validate==1.33.1",
    "attrs==26.1.0",
    "importlib_resources==7.1.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "packaging==26.3",
    "PyYAML==6.0.3",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
];

/// Needed before Python 3.13 only; harmless after.
const BACKPORT: &str = "typing_extensions==4.16.0";

/// Where the program is. Installs it if that was not done yet, or with other versions.
pub fn provide() -> Result<PathBuf> {
    let directory = workspace::target_dir().join("kubernetes-validate");
    let program = directory.join("bin/kubernetes-validate");
    // Written last: what was interrupted is done again.
    let mark = directory.join("installed");
    let wanted = [&PACKAGES[..], &[BACKPORT]].concat();
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted.join("\n")) {
        return Ok(program);
    }
    eprintln!("Installing {} and what it stands on into {}", PACKAGES[0], directory.display());
    // Debian's interpreter, as for everything else that the tests use.
    command::run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&directory))
        .context("cannot make a Python environment; Debian's package for that is python3-venv")?;
    command::run(
        Command::new(directory.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(&wanted),
    )?;
    fs::write(&mark, wanted.join("\n")).with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(program)
}
