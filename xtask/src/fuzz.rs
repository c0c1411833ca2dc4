//! `cargo xtask fuzz`: libFuzzer against everything that reads bytes of strangers.
//!
//! Works with the stable compiler: the passes that count branches are LLVM's, and rustc hands options on to it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace};

/// Fuzz the parsers for bytes from strangers
///
/// Builds them with LLVM's coverage counters and lets libFuzzer run against one after the other. What it finds on its way
/// is kept below `target/`; an input that breaks something goes to `tests/fuzz/seeds`, to be committed with the repair.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                        every target for a minute
  cargo xtask fuzz frames --seconds 3600  one target for an hour")]
pub struct Args {
    /// The targets; all of them if none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Where libFuzzer's random numbers start; a number of its own if not given
    #[arg(long)]
    seed: Option<u32>,
}

/// How hard a target is tried.
#[derive(Clone, Copy)]
enum Effort {
    /// For so many seconds, going on from what was found before.
    Search { seconds: u32, seed: Option<u32> },
    /// Always the same inputs, as long as the program is the same: a test must not fail by chance.
    Test,
}

impl Effort {
    fn options(self) -> Vec<String> {
        match self {
            Self::Search { seconds, seed } => {
                let seed = seed.map(|seed| format!("-seed={seed}"));
                [format!("-max_total_time={seconds}")].into_iter().chain(seed).collect()
            }
            // A few seconds each; the limit is for machines that are very slow.
            Self::Test => vec!["-seed=1".to_owned(), "-runs=60000".to_owned(), "-max_total_time=60".to_owned()],
        }
    }
}

/// Counters for each edge, and the values that comparisons saw: what libFuzzer is led by.
const INSTRUMENTATION: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Whole programs: each crate keeps its counters, and the linker throws none of them away.
    "-Ccodegen-units=1",
    "-Clto=off",
    "-Clink-dead-code",
];

/// Runs the command.
pub fn main(args: &Args) -> Result<()> {
    let all = targets()?;
    if let Some(unknown) = args.targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let wanted = if args.targets.is_empty() { &all } else { &args.targets };
    run(wanted, Effort::Search { seconds: args.seconds, seed: args.seed })
}

/// Runs every target for a moment, as one of the tests.
pub fn test() -> Result<()> {
    run(&targets()?, Effort::Test)
}

/// The targets are the folders of seeds; a test sees to that.
fn targets() -> Result<Vec<String>> {
    let folder = seeds();
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut targets = Vec::new();
    for entry in entries {
        targets.push(entry?.file_name().to_string_lossy().into_owned());
    }
    targets.sort_unstable();
    Ok(targets)
}

fn run(targets: &[String], effort: Effort) -> Result<()> {
    let program = build()?;
    for target in targets {
        let seeds = seeds().join(target);
        let found = found(target, effort)?;
        let mut fuzzer = Command::new(&program);
        fuzzer.env("RINGSTEER_FUZZ_TARGET", target);
        fuzzer.args(effort.options());
        fuzzer.args(["-max_len=8192", "-timeout=20", "-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"]);
        fuzzer.arg(format!("-artifact_prefix={}/", seeds.display()));
        eprintln!("Fuzzing {target}");
        command::run(fuzzer.arg(&found).arg(&seeds)).with_context(|| {
            format!("{target} has been broken: the input is in {}; its name begins with `crash`", seeds.display())
        })?;
    }
    Ok(())
}

/// Where inputs that lead to new places are kept.
fn found(target: &str, effort: Effort) -> Result<PathBuf> {
    let name = match effort {
        Effort::Search { .. } => "found",
        Effort::Test => "found-by-test",
    };
    let folder = workspace::target_dir().join("fuzz").join(name).join(target);
    if matches!(effort, Effort::Test) && folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Builds the targets with counters in them; the path of the program.
fn build() -> Result<PathBuf> {
    let host = command::output(Command::new("rustc").arg("--print=host-tuple"))?;
    let host = host.trim();
    let directory = workspace::target_dir().join("fuzz");
    eprintln!("Building the fuzz targets");
    let mut cargo = command::host_cargo();
    cargo.current_dir(workspace::root());
    cargo.args(["build", "--quiet", "--locked", "--package", "ringsteer-fuzz", "--features", "libfuzzer"]);
    // Named, so that the flags are not for what runs while compiling.
    cargo.args(["--profile", "fuzz", "--bin", "fuzz", "--target", host]).arg("--target-dir").arg(&directory);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}")).env_remove("RUSTFLAGS");
    command::run(&mut cargo)?;
    Ok(directory.join(host).join("fuzz/fuzz"))
}

fn seeds() -> PathBuf {
    workspace::root().join("tests/fuzz/seeds")
}
