//! `cargo xtask build-ebpf`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, id},
};

use anyhow::{Context as _, Result};

use crate::{command, elf, install, linker, toolchain::Toolchain, workspace};

/// Build the kernel programs
///
/// Writes target/bpf/ringsteer.bpf.o, which the ringsteer binary carries inside, and target/bpf/lab.bpf.o, which only
/// the tests load. Installs the compiler and bpf-linker where they are missing: as root on Debian by apt, else by
/// rustup; says what to install where it cannot.
///
/// Look into an object with `bpftool btf dump file target/bpf/ringsteer.bpf.o`.
#[derive(clap::Args)]
pub struct Args {
    /// Where to put the objects [default: bpf in the target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build a program that differs by this name (tests upgrade a running agent to one); needs --out
    ///
    /// The name is the value of RINGSTEER_VARIANT during the build.
    #[arg(long, value_name = "NAME", requires = "out", value_parser = variant_name)]
    variant: Option<String>,
}

/// A binary of the package, and what must be in its object.
struct Program {
    name: &'static str,
    /// `.maps` is the section of maps with types; without it, `bpftool map dump` prints bytes instead of fields.
    sections: &'static [&'static str],
}

const PACKAGE: &str = "ringsteer-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const PROGRAMS: [Program; 2] = [
    Program { name: "ringsteer", sections: &["license", ".BTF", ".maps"] },
    Program { name: "lab", sections: &["license", ".BTF"] },
];

/// Runs the command.
pub fn main(args: &Args) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(workspace::bpf_dir);
    build(args.variant.as_deref(), &out)
}

/// Builds the programs for the workspace's own use.
pub fn build_default() -> Result<()> {
    build(None, &workspace::bpf_dir())
}

fn build(variant: Option<&str>, out: &Path) -> Result<()> {
    let toolchain = install::provide_toolchain()?;
    let linker = linker::provide()?;
    let target_dir = workspace::target_dir().join("bpf-build");
    let llvm = target_dir.join("llvm");
    linker::provide_llvm(&llvm, &toolchain)?;
    // Cargo keeps others away only while it builds; what it built must still be ours when we copy it.
    let _ours_alone = lock(&target_dir.join("xtask.lock"))?;

    eprintln!("Building the kernel programs with {}", toolchain.describe());
    let mut cargo = cargo_build(&toolchain, &linker, &llvm, &target_dir);
    if let Some(variant) = variant {
        cargo.env("RINGSTEER_VARIANT", variant);
    }
    command::run(&mut cargo).context("cannot build the kernel programs")?;

    for Program { name, sections } in PROGRAMS {
        let built = target_dir.join(TARGET).join("release").join(name);
        let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        elf::check(&object, sections).with_context(|| format!("the kernel program `{name}` is built, but unusable"))?;
        let place = out.join(format!("{name}.bpf.o"));
        if replace(&place, &object).with_context(|| format!("cannot write {}", place.display()))? {
            eprintln!("Wrote {}", place.display());
        }
    }
    Ok(())
}

/// Waits until no other xtask holds the lock file at `path`; holds it until the file returned is dropped.
fn lock(path: &Path) -> Result<fs::File> {
    fs::File::create(path)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("cannot lock {}", path.display()))
}

fn cargo_build(toolchain: &Toolchain, linker: &Path, llvm: &Path, target_dir: &Path) -> Command {
    let mut cargo = command::with_clean_environment(toolchain.cargo_path());
    cargo
        .current_dir(workspace::root())
        .args(["build", "--locked", "--release", "--package", PACKAGE, "--features", "program"])
        .args(PROGRAMS.iter().flat_map(|program| ["--bin", program.name]))
        .args(["--target", TARGET, "-Zbuild-std=core", "--target-dir"])
        .arg(target_dir);
    // The profile of this build only; the host's release profile has other needs.
    for setting in ["debug=2", "opt-level=3", "codegen-units=1", "panic='abort'", "strip=false"] {
        cargo.arg("--config").arg(format!("profile.release.{setting}"));
    }
    let mut use_linker = std::ffi::OsString::from("linker=");
    use_linker.push(linker);
    cargo
        .env("RUSTC", toolchain.rustc_path())
        // Empty, so that a wrapper from somebody's cargo configuration does not take part either.
        .env("RUSTC_WRAPPER", "")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            command::encoded_flags(["-C".into(), use_linker, "-C".into(), "link-arg=--btf".into()]),
        )
        .env("LD_LIBRARY_PATH", llvm);
    if !toolchain.rustc.is_nightly() {
        cargo.env("RUSTC_BOOTSTRAP", "1");
    }
    cargo
}

/// Puts `content` at `place` at once, so that nobody reads half of it; leaves the file alone if it is the same, so that
/// what is built from it stays fresh. Tells whether it changed.
fn replace(place: &Path, content: &[u8]) -> io::Result<bool> {
    if fs::read(place).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let new = place.with_extension(format!("new-{}", id()));
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&new, content)?;
    fs::rename(&new, place)?;
    Ok(true)
}

/// A variant names a directory, so it is a plain word.
fn variant_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(plain) {
        return Err("use small letters, digits and hyphens".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn a_variant_is_a_plain_word() {
        assert_eq!(variant_name("next-2"), Ok("next-2".to_owned()));
        for text in ["", "..", "a/b", "a b", "Ä"] {
            variant_name(text).unwrap_err();
        }
    }

    #[test]
    fn an_unchanged_object_is_left_alone() {
        let directory = env::temp_dir().join(format!("xtask-replace-{}", id()));
        let place = directory.join("deep/x.bpf.o");
        assert!(replace(&place, b"one").unwrap());
        let written = fs::metadata(&place).unwrap().modified().unwrap();
        assert!(!replace(&place, b"one").unwrap());
        assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), written);
        assert!(replace(&place, b"two").unwrap());
        assert_eq!(fs::read(&place).unwrap(), b"two");
        assert_eq!(fs::read_dir(place.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
        fs::remove_dir_all(directory).unwrap();
    }
}
