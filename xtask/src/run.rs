//! `cargo xtask test`, `demo` and `bench`: each brings about what it stands on, then hands over.

use std::{convert::Infallible, ffi::OsString, path::PathBuf, process::Command};

use anyhow::Result;

use crate::{
    autobahn, build_ebpf, command, fuzz, npm,
    setup::{self, Purpose},
    validator, workspace,
};

/// Run all tests: unit tests, tests of the kernel programs, end-to-end tests in the lab
///
/// Needs root. Builds the kernel programs and the ringsteer binary first. Uses `cargo nextest` if it is installed, else
/// `cargo test`; documentation tests and a short run of the fuzzer come first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                        everything
  cargo xtask test ring::                 tests with `ring::` in their names
  cargo xtask test upgrade --no-capture   one test, with what it prints")]
pub struct TestArgs {
    /// Run only tests whose names contain one of these (and neither documentation tests nor the fuzzer)
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Show what tests print, one test at a time
    #[arg(long)]
    no_capture: bool,
}

/// Run the demo: five nodes, a thousand users, pushes, and rings that change
///
/// First with pushes placed by a ring of other names, which is the bug this project is about, then with ringsteer, while the
/// ring changes and a gateway is restarted. Needs root. Exits with an error if ringsteer misroutes a push or disconnects a client.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask demo             the whole story
  cargo xtask demo -- --help   the demo's own options")]
pub struct DemoArgs {
    /// Options for the demo itself
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Run a benchmark and print medians
///
/// Needs root, and a machine with nothing else to do.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench dataplane   nanoseconds per packet in the kernel program
  cargo xtask bench -- --help   the benchmarks there are, and their options")]
pub struct BenchArgs {
    /// The benchmark and its options
    #[arg(value_name = "NAME", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Runs the tests.
pub fn test(args: &TestArgs) -> Result<()> {
    setup::provide(Purpose::Tests)?;
    build_ebpf::build_default()?;
    // All targets at once, just as the runner wants them: the binary that the end-to-end tests start is among them, and
    // nothing is compiled a second time with other features.
    command::run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    if args.filters.is_empty() {
        command::run(with_products(cargo().args(["test", "--workspace", "--doc"]), "debug"))?;
        fuzz::test()?;
    }
    let has_nextest = command::output(cargo().args(["nextest", "--version"])).is_ok();
    if !has_nextest {
        eprintln!("cargo nextest is not installed: `cargo test` runs the tests instead.");
    }
    let mut runner = cargo();
    runner.args(runner_arguments(has_nextest, args));
    runner.env("RINGSTEER_KUBERNETES_VALIDATE", validator::provide()?);
    runner.env("RINGSTEER_AUTOBAHN", autobahn::provide()?);
    runner.env("RINGSTEER_JS_SDK", npm::JS_SDK.provide()?);
    runner.env("RINGSTEER_WS", npm::WS.provide()?);
    hand_over(with_products(&mut runner, "debug"))
}

/// Runs the demo.
pub fn demo(args: &DemoArgs) -> Result<()> {
    in_lab(Purpose::Demo, "demo", &args.rest)
}

/// Runs a benchmark.
pub fn bench(args: &BenchArgs) -> Result<()> {
    in_lab(Purpose::Benchmarks, "bench", &args.rest)
}

fn in_lab(purpose: Purpose, binary: &str, arguments: &[OsString]) -> Result<()> {
    setup::provide(purpose)?;
    build_ebpf::build_default()?;
    // One call for both, so that what they share is compiled once.
    command::run(cargo().args(["build", "--release"]).args(["--package", "ringsteer", "--bin", "ringsteer"]).args([
        "--package",
        "ringsteer-tests",
        "--bin",
        binary,
    ]))?;
    let mut program = Command::new(workspace::target_dir().join("release").join(binary));
    hand_over(with_products(program.args(arguments), "release"))
}

fn hand_over(command: &mut Command) -> Result<()> {
    let never: Infallible = command::become_it(command)?;
    match never {}
}

/// Tells tests, demo and benchmarks where the things are that they start and load.
fn with_products<'a>(command: &'a mut Command, profile: &str) -> &'a mut Command {
    let binary: PathBuf = workspace::target_dir().join(profile).join("ringsteer");
    command.env("RINGSTEER_BIN", binary).env("RINGSTEER_BPF_DIR", workspace::bpf_dir())
}

fn cargo() -> Command {
    let mut cargo = command::host_cargo();
    cargo.current_dir(workspace::root());
    cargo
}

/// The arguments of cargo that run the tests of `args`.
fn runner_arguments(has_nextest: bool, args: &TestArgs) -> Vec<&str> {
    let filters = args.filters.iter().map(String::as_str);
    if has_nextest {
        let mut arguments = vec!["nextest", "run", "--workspace"];
        arguments.extend(args.no_capture.then_some("--no-capture"));
        arguments.extend(filters);
        arguments
    } else {
        let mut arguments = vec!["test", "--workspace", "--all-targets", "--no-fail-fast", "--"];
        arguments.extend(args.no_capture.then_some("--nocapture"));
        // Without nextest nothing keeps the labs from crowding each other out.
        arguments.push("--test-threads=2");
        arguments.extend(filters);
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(filters: &[&str], no_capture: bool) -> TestArgs {
        TestArgs { filters: filters.iter().map(|&filter| filter.to_owned()).collect(), no_capture }
    }

    #[test]
    fn filters_reach_either_runner() {
        let args = args(&["ring", "wire"], false);
        assert_eq!(runner_arguments(true, &args), ["nextest", "run", "--workspace", "ring", "wire"]);
        assert!(runner_arguments(false, &args).ends_with(&["--test-threads=2", "ring", "wire"]));
    }

    #[test]
    fn either_runner_can_show_what_tests_print() {
        let args = args(&[], true);
        assert!(runner_arguments(true, &args).contains(&"--no-capture"));
        let arguments = runner_arguments(false, &args);
        let separator = arguments.iter().position(|&argument| argument == "--");
        assert!(arguments.iter().position(|&argument| argument == "--nocapture") > separator);
    }
}
