//! Which of the compilers on this machine can build the kernel programs.
//!
//! There is no prebuilt core library for BPF, so cargo builds it from source: a compiler is of use only together with
//! the library source of its own version. rustup keeps that source as the component `rust-src`, Debian as the package
//! `rust-web-src`.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    command,
    linker::LLVM_MAJOR,
    version::{Rustc, Version},
};

/// The oldest compiler that this workspace is written for.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// A compiler and its cargo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The directory above its `bin`.
    pub prefix: PathBuf,
    /// Where it comes from.
    pub origin: Origin,
    /// What it says of itself.
    pub rustc: Rustc,
    /// Whether the library source of its version is installed.
    pub has_source: bool,
}

/// Where a toolchain comes from, which is also what could mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// rustup, under this name.
    Rustup(String),
    /// The distribution, under `/usr`.
    System,
}

/// Why a toolchain cannot build the kernel programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not know what the code is written in.
    TooOld,
    /// Its bitcode is not that of the linker's LLVM.
    OtherLlvm,
    /// The library source of its version is not installed.
    NoSource,
}

// === impl Toolchain ===

impl Toolchain {
    /// What to call it when talking to people.
    pub fn describe(&self) -> String {
        match &self.origin {
            Origin::Rustup(name) => format!("rustc {} (rustup's {name})", self.rustc.release),
            Origin::System => format!("rustc {} (in {})", self.rustc.release, self.prefix.display()),
        }
    }

    /// Its compiler.
    pub fn rustc_path(&self) -> PathBuf {
        self.prefix.join("bin/rustc")
    }

    /// Its cargo.
    pub fn cargo_path(&self) -> PathBuf {
        self.prefix.join("bin/cargo")
    }

    /// Why it cannot build the kernel programs, if it cannot.
    ///
    /// A missing source is told last: it is the only thing that can be mended.
    pub fn unfit(&self) -> Option<Unfit> {
        if Version::parse(OLDEST).is_some_and(|oldest| self.rustc.version < oldest) {
            Some(Unfit::TooOld)
        } else if self.rustc.llvm.major != LLVM_MAJOR {
            Some(Unfit::OtherLlvm)
        } else if !self.has_source {
            Some(Unfit::NoSource)
        } else {
            None
        }
    }

    /// Whether a toolchain of this origin and version comes before another one, smaller first: a nightly, for which
    /// building the library is an everyday thing, then the newest that rustup has, then the distribution's.
    fn preference(&self) -> impl Ord + use<> {
        let is_system = self.origin == Origin::System;
        (is_system, !self.rustc.is_nightly(), std::cmp::Reverse(self.rustc.version))
    }

    /// Looks at what is installed under `prefix`; `None` if that is no toolchain.
    fn at(prefix: &Path, origin: Origin) -> Option<Self> {
        if !prefix.join("bin/cargo").is_file() {
            return None;
        }
        let mut ask = command::with_clean_environment(prefix.join("bin/rustc"));
        let rustc = Rustc::parse(&command::output(ask.arg("-vV")).ok()?)?;
        let library = prefix.join("lib/rustlib/src/rust/library");
        let has_source = library.join("Cargo.lock").is_file()
            && fs::canonicalize(&library).is_ok_and(|library| is_source_of(&library, &rustc.release));
        Some(Self { prefix: prefix.to_owned(), origin, rustc, has_source })
    }
}

/// The best of the toolchains that can build the kernel programs.
pub fn choose(installed: &[Toolchain]) -> Option<&Toolchain> {
    installed.iter().filter(|toolchain| toolchain.unfit().is_none()).min_by_key(|toolchain| toolchain.preference())
}

/// All toolchains on this machine: rustup's and the distribution's.
pub fn installed() -> Vec<Toolchain> {
    let mut found: Vec<_> = rustup_toolchains()
        .into_iter()
        .filter_map(|(name, prefix)| Toolchain::at(&prefix, Origin::Rustup(name)))
        .collect();
    found.extend(Toolchain::at(Path::new("/usr"), Origin::System));
    found
}

/// Names and directories of rustup's toolchains, each directory once, by its own name where a link has another.
pub fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".rustup")));
    let Some(entries) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else {
        return Vec::new();
    };
    let mut toolchains: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    toolchains.sort_by_cached_key(|(name, path)| (path.is_symlink(), name.clone()));
    let mut seen = BTreeSet::new();
    toolchains.retain(|(_, path)| fs::canonicalize(path).is_ok_and(|real| seen.insert(real)));
    toolchains
}

/// Whether the library source whose real place is `library` is that of compiler `release`.
///
/// Debian keeps the source in a directory named by its version, apart from the compiler, so that one can be upgraded
/// without the other. rustup keeps both together, and its path tells no version.
fn is_source_of(library: &Path, release: &str) -> bool {
    library
        .iter()
        .filter_map(|part| part.to_str()?.strip_prefix("rustc-"))
        .all(|version| version.split(['-', '+']).next() == release.split('-').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(origin: Origin, release: &str) -> Toolchain {
        let rustc = Rustc {
            release: release.to_owned(),
            version: Version::parse(release).unwrap(),
            llvm: Version::new(LLVM_MAJOR, 1),
        };
        Toolchain { prefix: PathBuf::from("/toolchain"), origin, rustc, has_source: true }
    }

    fn rustup(release: &str) -> Toolchain {
        toolchain(Origin::Rustup(release.to_owned()), release)
    }

    fn system(release: &str) -> Toolchain {
        toolchain(Origin::System, release)
    }

    #[test]
    fn a_nightly_is_preferred_then_rustups_newest_then_the_distributions() {
        let mut installed = vec![system("1.99.0"), rustup("1.95.0"), rustup("1.97.0-nightly"), rustup("1.96.0")];
        let mut order = Vec::new();
        while let Some(best) = choose(&installed).cloned() {
            order.push(best.rustc.release.clone());
            installed.retain(|toolchain| *toolchain != best);
        }
        assert_eq!(order, ["1.97.0-nightly", "1.96.0", "1.95.0", "1.99.0"]);
    }

    #[test]
    fn what_cannot_build_is_passed_over() {
        let no_source = Toolchain { has_source: false, ..rustup("1.97.0-nightly") };
        let mut other_llvm = rustup("1.98.0-nightly");
        other_llvm.rustc.llvm.major += 1;
        let installed = [no_source, other_llvm, rustup("1.70.0"), system("1.96.0")];
        let unfit: Vec<_> = installed.iter().map(Toolchain::unfit).collect();
        assert_eq!(unfit, [Some(Unfit::NoSource), Some(Unfit::OtherLlvm), Some(Unfit::TooOld), None]);
        assert_eq!(choose(&installed), Some(&installed[3]));
        assert_eq!(choose(&installed[..3]), None);
    }

    #[test]
    fn a_toolchain_that_no_source_would_mend_does_not_ask_for_one() {
        let mut hopeless = Toolchain { has_source: false, ..rustup("1.70.0") };
        assert_eq!(hopeless.unfit(), Some(Unfit::TooOld));
        hopeless = Toolchain { has_source: false, ..rustup("1.97.0-nightly") };
        hopeless.rustc.llvm.major -= 1;
        assert_eq!(hopeless.unfit(), Some(Unfit::OtherLlvm));
    }

    #[test]
    fn the_workspaces_own_version_is_new_enough() {
        assert_eq!(rustup(&format!("{OLDEST}.0")).unfit(), None);
    }

    #[test]
    fn debians_source_must_be_of_the_compilers_version() {
        let library = Path::new("/usr/src/rustc-1.96.0/library");
        assert!(is_source_of(library, "1.96.0"));
        assert!(!is_source_of(library, "1.63.0"));
        assert!(!is_source_of(library, "1.96.1"));
        assert!(is_source_of(Path::new("/root/.rustup/toolchains/nightly/lib/rustlib/src/rust/library"), "1.97.0"));
    }
}
