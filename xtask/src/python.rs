//! Python environments below `target/`: packages from PyPI at the versions written down, by nobody else's choice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// An environment and what is in it.
pub struct Environment {
    /// Its directory below `target/`.
    pub name: &'static str,
    /// What everything else is built with, if something has to be built.
    pub builder: Option<&'static str>,
    /// Every package, with those it stands on; the first one is what it is all for.
    pub packages: &'static [&'static str],
}

impl Environment {
    /// Where the environment is. Makes it if that was not done yet, or with other versions; `finish` does what is left to
    /// do in it then, and whatever is in `finish_version` decides with the packages whether it has to be done again.
    pub fn provide(&self, finish_version: &str, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let directory = workspace::target_dir().join(self.name);
        // Written last: what was interrupted is done again.
        let mark = directory.join("installed");
        let wanted = [&self.builder.into_iter().collect::<Vec<_>>()[..], self.packages, &[finish_version]].concat();
        let wanted = wanted.join("\n");
        if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
            return Ok(directory);
        }
        eprintln!("Installing {} and what it stands on into {}", self.packages[0], directory.display());
        // Debian's interpreter, as for everything else that the tests use.
        command::run(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&directory))
            .context("cannot make a Python environment; Debian's package for that is python3-venv")?;
        if let Some(builder) = self.builder {
            command::run(pip(&directory).args(["--only-binary=:all:", builder]))?;
            command::run(pip(&directory).args(["--no-build-isolation", "--use-pep517"]).args(self.packages))?;
        } else {
            command::run(pip(&directory).arg("--only-binary=:all:").args(self.packages))?;
        }
        finish(&directory)?;
        fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
        Ok(directory)
    }
}

/// Installs what is named further, and nothing that was not named.
fn pip(directory: &Path) -> Command {
    let mut pip = Command::new(directory.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
    pip
}
