//! bpf-linker, and the LLVM it works with.
//!
//! bpf-linker links what the compiler wrote as LLVM bitcode, and loads the LLVM for that at run time: the compiler's
//! own, as the bitcode is then sure to be understood.

use std::{
    env, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    command,
    toolchain::{self, Toolchain},
    version::Version,
};

/// The version that is installed where there is none.
const VERSION: &str = "0.10.3";

/// Versions that work: the next one wants an LLVM of the system instead of the compiler's.
const SERIES: Version = Version::new(0, 10);

/// The LLVM that the linker of this series is written for, and that the compiler must therefore have.
pub const LLVM_MAJOR: u32 = 22;

/// Finds bpf-linker; installs it with cargo if there is none that fits.
pub fn provide() -> Result<PathBuf> {
    let places = || [cargo_bin().map(|bin| bin.join("bpf-linker")), command::find("bpf-linker")];
    if let Some(linker) = places().into_iter().flatten().find(|linker| fits(linker)) {
        return Ok(linker);
    }
    eprintln!("Installing bpf-linker {VERSION} with cargo, as this machine has none of {SERIES}. This takes minutes.");
    // Not `with_clean_environment`: this is a program for this machine, built by the compiler that built us.
    command::run(command::host_cargo().args(["install", "--locked", "--force", "--version", VERSION, "bpf-linker"]))
        .with_context(|| {
            format!("bpf-linker is missing; install it by `cargo install bpf-linker --version {VERSION} --locked`")
        })?;
    match places().into_iter().flatten().find(|linker| fits(linker)) {
        Some(linker) => Ok(linker),
        None => bail!("bpf-linker {VERSION} was installed, but it is neither on PATH nor in ~/.cargo/bin"),
    }
}

fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    Some(home?.join("bin"))
}

fn fits(linker: &Path) -> bool {
    let printed = command::output(command::with_clean_environment(linker).arg("--version"));
    printed.is_ok_and(|printed| version(&printed) == Some(SERIES))
}

/// Reads the answer to `bpf-linker --version`.
fn version(printed: &str) -> Option<Version> {
    Version::parse(printed.trim().strip_prefix("bpf-linker ")?)
}

/// Makes `directory` hold the LLVM that bpf-linker shall load, and nothing else.
///
/// bpf-linker takes the first `libLLVM` of the first directory that has one, whatever its version; where several are
/// installed side by side, that is anyone's guess. In a directory with one link there is nothing to guess.
pub fn provide_llvm(directory: &Path, toolchain: &Toolchain) -> Result<()> {
    let Some(library) = llvm_places(toolchain).iter().find_map(|place| llvm_in(place)) else {
        bail!(
            "no libLLVM {LLVM_MAJOR} for bpf-linker to load: install `rust-web-llvm` (Debian) or a rustup toolchain whose \
             `rustc -vV` says LLVM {LLVM_MAJOR}"
        );
    };
    let link = directory.join("libLLVM.so");
    if fs::read_link(&link).is_ok_and(|old| old == library) {
        return Ok(());
    }
    let new = directory.join(format!(".libLLVM.so.{}", std::process::id()));
    fs::create_dir_all(directory)
        .and_then(|()| std::os::unix::fs::symlink(&library, &new))
        .and_then(|()| fs::rename(&new, &link))
        .with_context(|| format!("cannot make {} a link to {}", link.display(), library.display()))
}

/// Directories to look in, the compiler's own first. A compiler that contains its LLVM has none.
fn llvm_places(toolchain: &Toolchain) -> Vec<PathBuf> {
    let library = toolchain.prefix.join("lib");
    let multiarch = library.join(format!("{}-linux-gnu", env::consts::ARCH));
    let mut places = vec![library, multiarch];
    places.extend(toolchain::rustup_toolchains().into_iter().map(|(_, prefix)| prefix.join("lib")));
    places
}

fn llvm_in(directory: &Path) -> Option<PathBuf> {
    let mut fitting: Vec<_> = fs::read_dir(directory)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().and_then(llvm_major) == Some(LLVM_MAJOR))
        .map(|entry| entry.path())
        .filter(|path| is_elf(path))
        .collect();
    fitting.sort();
    fitting.into_iter().next()
}

/// The major version in the name of an LLVM library: `libLLVM.so.22.1`, `libLLVM-22.so`,
/// `libLLVM.so.22.1-rust-1.95.0-stable`.
fn llvm_major(file_name: &str) -> Option<u32> {
    let rest = file_name.strip_prefix("libLLVM")?;
    let version = rest.strip_prefix(".so.").or_else(|| rest.strip_prefix('-'))?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Tells a library from a linker script of its name, which rustup's toolchains have too.
fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_version_is_read() {
        assert_eq!(version("bpf-linker 0.10.3\n"), Some(SERIES));
        assert_eq!(version("bpf-linker 0.11.0\n"), Some(Version::new(0, 11)));
        assert_eq!(version("bpf-linker: command not found"), None);
    }

    #[test]
    fn the_version_that_is_installed_is_one_that_works() {
        assert_eq!(Version::parse(VERSION), Some(SERIES));
    }

    #[test]
    fn llvm_libraries_are_told_by_their_names() {
        for name in [
            "libLLVM.so.22.1",
            "libLLVM-22.so",
            "libLLVM-22.so.1",
            "libLLVM-22-rust-1.95.0-stable.so",
            "libLLVM.so.22.1-rust-1.95.0-stable",
        ] {
            assert_eq!(llvm_major(name), Some(22), "{name}");
        }
        assert_eq!(llvm_major("libLLVM-15.so.1"), Some(15));
        for name in ["libLLVM.so", "libLLVMDemangle.so.22", "librustc_driver-22.so", "libLLVM-C.so.22"] {
            assert_eq!(llvm_major(name), None, "{name}");
        }
    }
}
