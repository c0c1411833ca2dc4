//! `cargo xtask setup`: what the build, the lab and the tests need from the machine.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use crate::{autobahn, command, host, packages, validator, version::Version, workspace};

/// Check that this machine can run the lab, and install the tools it needs
///
/// The lab makes hosts out of network namespaces and loads programs into the kernel, so it needs root, Linux 6.8 or
/// newer with BTF, and a few tools; compiling the ringsteer binary takes protoc. Missing ones are installed by apt on
/// Debian; elsewhere the command says which. The other commands do this by themselves, each for the tools that it uses.
#[derive(clap::Args)]
pub struct Args {}

/// The oldest kernel with `bpf_sk_assign_tcp_reqsk`, by which the owner admits a connection.
const OLDEST_KERNEL: Version = Version::new(6, 8);

/// What the machine is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Everything.
    All,
    /// The lab, with a store of members.
    Demo,
    /// The tests, with a websocket server that is not ours and a store of members.
    Tests,
    /// The benchmarks, with the proxy that they compare with.
    Benchmarks,
}

/// Something that must be installed.
struct Tool {
    name: &'static str,
    package: &'static str,
    /// Who needs it besides [`Purpose::All`]; none in particular means everyone.
    only_for: &'static [Purpose],
    is_there: fn(name: &str) -> bool,
}

const TOOLS: [Tool; 14] = [
    // The ringsteer binary is compiled with them. The package with protoc only recommends the one with the definitions.
    Tool { name: "protoc", package: "protobuf-compiler", only_for: &[], is_there: protoc },
    Tool { name: "google/protobuf/descriptor.proto", package: "libprotobuf-dev", only_for: &[], is_there: definition },
    Tool { name: "ip", package: "iproute2", only_for: &[], is_there: program },
    Tool { name: "nft", package: "nftables", only_for: &[], is_there: program },
    Tool { name: "ethtool", package: "ethtool", only_for: &[], is_there: program },
    Tool { name: "bpftool", package: "bpftool", only_for: &[], is_there: program },
    Tool { name: "websockets", package: "python3-websockets", only_for: &[Purpose::Tests], is_there: python_module },
    Tool { name: "etcd", package: "etcd-server", only_for: &[Purpose::Demo, Purpose::Tests], is_there: program },
    Tool { name: "ensurepip", package: "python3-venv", only_for: &[Purpose::Tests], is_there: python_module },
    Tool { name: "kubectl", package: "kubernetes-client", only_for: &[Purpose::Tests], is_there: kustomize },
    // libFuzzer is compiled from source.
    Tool { name: "c++", package: "g++", only_for: &[Purpose::Tests], is_there: program },
    // For OpenIM's JS SDK and npm's ws.
    Tool { name: "node", package: "nodejs", only_for: &[Purpose::Tests], is_there: node },
    Tool { name: "npm", package: "npm", only_for: &[Purpose::Tests], is_there: program },
    Tool { name: "haproxy", package: "haproxy", only_for: &[Purpose::Benchmarks], is_there: program },
];

/// Runs the command.
pub fn main(_: &Args) -> Result<()> {
    provide(Purpose::All)?;
    validator::provide()?;
    autobahn::provide()?;
    println!("This machine is ready for the lab.");
    Ok(())
}

/// Makes the machine ready, or says in one message all that is in the way.
pub fn provide(purpose: Purpose) -> Result<()> {
    let mut problems = machine_problems(host::is_root(), host::kernel(), host::kernel_has_btf());
    let missing = || missing_packages(purpose, |tool| (tool.is_there)(tool.name));
    let mut packages = missing();
    if !packages.is_empty() && problems.is_empty() && host::has_apt() {
        eprintln!("Installing what the lab needs: {}", packages.join(", "));
        packages::install(&packages)?;
        packages = missing();
    }
    if !packages.is_empty() {
        problems.push(format!(
            "tools are missing; install these packages by their Debian names: `{}`",
            packages::by_hand(&packages)
        ));
    }
    if !problems.is_empty() {
        bail!("this machine is not ready for the lab:\n  - {}", problems.join("\n  - "));
    }
    Ok(())
}

/// What about the machine no package mends.
fn machine_problems(is_root: bool, kernel: Option<Version>, has_btf: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_root {
        problems.push("the lab makes network namespaces and loads kernel programs: run this as root".to_owned());
    }
    match kernel {
        Some(kernel) if kernel < OLDEST_KERNEL => {
            problems.push(format!("the kernel is {kernel}; admission needs Linux {OLDEST_KERNEL} or newer"));
        }
        Some(_) => {}
        None => problems.push("/proc/sys/kernel/osrelease does not tell the kernel's version".to_owned()),
    }
    if !has_btf {
        problems.push(
            "/sys/kernel/btf/vmlinux is missing: the kernel must be built with CONFIG_DEBUG_INFO_BTF, and /sys mounted"
                .to_owned(),
        );
    }
    problems
}

fn missing_packages(purpose: Purpose, is_there: impl Fn(&Tool) -> bool) -> Vec<&'static str> {
    let wanted = |tool: &&Tool| purpose == Purpose::All || tool.only_for.is_empty() || tool.only_for.contains(&purpose);
    let missing: BTreeSet<_> =
        TOOLS.iter().filter(wanted).filter(|tool| !is_there(tool)).map(|tool| tool.package).collect();
    missing.into_iter().collect()
}

fn program(name: &str) -> bool {
    command::find(name).is_some()
}

/// Whether there is a Node that has websockets, if asked for them: from 20.10 on.
fn node(name: &str) -> bool {
    let has_websockets = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
    command::output(Command::new(name).args(["--experimental-websocket", "--eval", has_websockets])).is_ok()
}

/// Whether the manifests can be built: by kustomize itself, or by a kubectl that is not too old (1.21).
fn kustomize(kubectl: &str) -> bool {
    let base = workspace::root().join("deploy/base");
    program("kustomize") || command::output(Command::new(kubectl).arg("kustomize").arg(base)).is_ok()
}

/// The compiler for protocol buffers, where the build looks for it, too.
fn find_protoc(name: &str) -> Option<PathBuf> {
    env::var_os("PROTOC").map(PathBuf::from).or_else(|| command::find(name))
}

fn protoc(name: &str) -> bool {
    find_protoc(name).is_some()
}

/// The definitions that protoc brings along: it finds them by its own place, links resolved.
fn definition(name: &str) -> bool {
    let beside = |protoc: PathBuf| Some(protoc.canonicalize().ok()?.parent()?.parent()?.join("include"));
    let include = env::var_os("PROTOC_INCLUDE").map(PathBuf::from).or_else(|| beside(find_protoc("protoc")?));
    include.is_some_and(|include| include.join(name).is_file())
}

/// Asks the distribution's Python, which is what a distribution's package is installed for; `python3` on PATH may be
/// another one.
fn python_module(name: &str) -> bool {
    let python = Path::new("/usr/bin/python3");
    python.exists() && command::output(Command::new(python).arg("-c").arg(format!("import {name}"))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_asks_for_its_own_tools() {
        let missing = |purpose| missing_packages(purpose, |_| false);
        let everyone = ["bpftool", "ethtool", "iproute2", "libprotobuf-dev", "nftables", "protobuf-compiler"];
        let and = |more: &[&'static str]| {
            let mut packages = [&everyone, more].concat();
            packages.sort_unstable();
            packages
        };
        assert_eq!(missing(Purpose::Demo), and(&["etcd-server"]));
        let for_tests =
            ["etcd-server", "g++", "kubernetes-client", "nodejs", "npm", "python3-venv", "python3-websockets"];
        assert_eq!(missing(Purpose::Tests), and(&for_tests));
        assert_eq!(missing(Purpose::Benchmarks), and(&["haproxy"]));
        assert_eq!(missing(Purpose::All).len(), TOOLS.len());
    }

    #[test]
    fn what_is_there_is_not_installed() {
        assert_eq!(missing_packages(Purpose::All, |tool| tool.name != "nft"), ["nftables"]);
        assert!(missing_packages(Purpose::All, |_| true).is_empty());
    }

    #[test]
    fn every_problem_of_the_machine_is_told_at_once() {
        let problems = machine_problems(false, Some(Version::new(6, 1)), false);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[1].contains("the kernel is 6.1"), "{problems:?}");
        assert_eq!(machine_problems(true, Some(OLDEST_KERNEL), true), [""; 0]);
    }

    #[test]
    fn a_module_that_python_lacks_is_missing() {
        assert!(!python_module("no_such_module_anywhere"));
    }

    #[test]
    fn a_definition_that_protoc_lacks_is_missing() {
        assert!(!definition("no/such/definition.proto"));
    }
}
