//! Getting a toolchain that can build the kernel programs, where there is none.

use std::{fmt, fmt::Write as _, process::Command};

use anyhow::{Result, bail};

use crate::{
    command, host,
    linker::LLVM_MAJOR,
    packages,
    toolchain::{self, Origin, Toolchain, Unfit},
};

/// Debian's compiler for browsers: much newer than its ordinary one, and complete with library source.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A nightly with the linker's LLVM. Tomorrow's may have the next.
const NIGHTLY: &str = "nightly-2026-05-20";

/// Something that may give this machine a fitting toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Install Debian's compiler.
    Debian,
    /// Add the library source to the rustup toolchain of this name.
    AddSource(String),
    /// Let rustup install a compiler.
    Nightly,
}

/// What the choice of steps depends on, besides the toolchains.
#[derive(Clone, Copy, Debug)]
struct Host {
    is_root: bool,
    has_apt: bool,
    has_rustup: bool,
}

/// Finds a toolchain that can build the kernel programs; installs one if there is none.
pub fn provide_toolchain() -> Result<Toolchain> {
    let before = toolchain::installed();
    if let Some(toolchain) = toolchain::choose(&before) {
        return Ok(toolchain.clone());
    }
    eprintln!("No compiler on this machine has the library source that the kernel programs are built with.");
    let host =
        Host { is_root: host::is_root(), has_apt: host::has_apt(), has_rustup: command::find("rustup").is_some() };
    let mut failures = Vec::new();
    for step in plan(host, &before) {
        eprintln!("Trying to get one by `{step}`");
        match step.take() {
            Err(error) => failures.push(format!("{error:#}")),
            Ok(()) => match toolchain::choose(&toolchain::installed()) {
                Some(toolchain) => return Ok(toolchain.clone()),
                None => failures.push(format!("`{step}` brought none that fits")),
            },
        }
    }
    bail!(advice(&toolchain::installed(), &failures))
}

/// What to try on `host`, in this order.
fn plan(host: Host, toolchains: &[Toolchain]) -> Vec<Step> {
    let mut steps = Vec::new();
    if host.is_root && host.has_apt {
        steps.push(Step::Debian);
    }
    if host.has_rustup {
        steps.extend(toolchains.iter().filter_map(|toolchain| match (&toolchain.origin, toolchain.unfit()) {
            (Origin::Rustup(name), Some(Unfit::NoSource)) => Some(Step::AddSource(name.clone())),
            _ => None,
        }));
        steps.push(Step::Nightly);
    }
    steps
}

/// The one message for a person who has to install a compiler by hand.
fn advice(toolchains: &[Toolchain], failures: &[String]) -> String {
    let mut text = String::from(
        "no compiler here can build the kernel programs, and none could be installed. Run one of these, then try again:\n",
    );
    for step in [Step::AddSource("stable".into()), Step::Nightly, Step::Debian] {
        let remark = if step == Step::Debian { "   (Debian, as root)" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {step}{remark}");
    }
    for toolchain in toolchains {
        let why = match toolchain.unfit() {
            None => continue,
            Some(Unfit::TooOld) => concat!("older than ", env!("CARGO_PKG_RUST_VERSION")).to_owned(),
            Some(Unfit::OtherLlvm) => format!("has LLVM {}, bpf-linker needs {LLVM_MAJOR}", toolchain.rustc.llvm),
            Some(Unfit::NoSource) => "the library source of its version is missing".to_owned(),
        };
        let _ = writeln!(text, "  found {}: {why}", toolchain.describe());
    }
    for failure in failures {
        let _ = writeln!(text, "  tried: {failure}");
    }
    text.truncate(text.trim_end().len());
    text
}

// === impl Step ===

impl Step {
    fn take(&self) -> Result<()> {
        match self.rustup_arguments() {
            Some(arguments) => command::run(rustup().args(arguments)),
            None => packages::install(&DEBIAN_PACKAGES),
        }
    }

    fn rustup_arguments(&self) -> Option<Vec<&str>> {
        match self {
            Self::Debian => None,
            Self::AddSource(name) => Some(vec!["component", "add", "rust-src", "--toolchain", name]),
            Self::Nightly => {
                Some(vec!["toolchain", "install", NIGHTLY, "--profile", "minimal", "--component", "rust-src"])
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rustup_arguments() {
            Some(arguments) => write!(f, "rustup {}", arguments.join(" ")),
            None => f.write_str(&packages::by_hand(&DEBIAN_PACKAGES)),
        }
    }
}

fn rustup() -> Command {
    command::with_clean_environment("rustup")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{Rustc, Version};

    const BARE: Host = Host { is_root: false, has_apt: false, has_rustup: false };

    fn without_source(name: &str, release: &str) -> Toolchain {
        Toolchain {
            prefix: "/toolchain".into(),
            origin: Origin::Rustup(name.to_owned()),
            rustc: Rustc {
                release: release.to_owned(),
                version: Version::parse(release).unwrap(),
                llvm: Version::new(LLVM_MAJOR, 1),
            },
            has_source: false,
        }
    }

    #[test]
    fn root_on_debian_installs_packages_first() {
        let host = Host { is_root: true, has_apt: true, has_rustup: true };
        let stable = without_source("stable", "1.95.0");
        assert_eq!(plan(host, &[stable]), [Step::Debian, Step::AddSource("stable".into()), Step::Nightly]);
    }

    #[test]
    fn others_on_debian_leave_apt_alone() {
        assert_eq!(plan(Host { has_apt: true, has_rustup: true, ..BARE }, &[]), [Step::Nightly]);
        assert_eq!(plan(Host { has_apt: true, ..BARE }, &[]), []);
        assert_eq!(plan(Host { is_root: true, ..BARE }, &[]), []);
    }

    #[test]
    fn source_is_added_only_where_it_is_all_that_is_missing() {
        let old = without_source("1.70", "1.70.0");
        let nightly = without_source("nightly", "1.97.0-nightly");
        let host = Host { has_rustup: true, ..BARE };
        assert_eq!(plan(host, &[old, nightly]), [Step::AddSource("nightly".into()), Step::Nightly]);
    }

    #[test]
    fn the_advice_names_every_way_and_what_was_found_and_tried() {
        let found = [without_source("nightly", "1.97.0-nightly")];
        let advice = advice(&found, &["`rustup frobnicate` failed".to_owned()]);
        for part in [
            "rustup component add rust-src --toolchain stable",
            "--component rust-src",
            "apt-get install rustc-web cargo-web rust-web-src",
            "found rustc 1.97.0-nightly (rustup's nightly): the library source of its version is missing",
            "tried: `rustup frobnicate` failed",
        ] {
            assert!(advice.contains(part), "{part:?} is not in:\n{advice}");
        }
    }
}
