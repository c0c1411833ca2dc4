//! The Dockerfile. Building it takes a network and a container runtime; what can go stale without anybody noticing is
//! checked here.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::deploy;

/// The instructions, with continued lines joined and comments left out.
fn instructions() -> Result<Vec<String>> {
    let text = fs::read_to_string(deploy::directory().join("Dockerfile"))?;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    Ok(joined
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.is_empty())
        .collect())
}

#[test]
fn what_it_copies_is_there() -> Result<()> {
    let root = deploy::directory().join("..");
    let ignored = fs::read_to_string(root.join(".dockerignore"))?;
    let mut copies = 0;
    for instruction in instructions()? {
        let Some(arguments) = instruction.strip_prefix("COPY ") else { continue };
        copies += 1;
        if arguments.starts_with("--from=") {
            continue;
        }
        let (sources, _) = arguments.rsplit_once(' ').context("a COPY without destination")?;
        for source in sources.split(' ') {
            ensure!(root.join(source).exists(), "there is no {source}");
            ensure!(!ignored.lines().any(|line| line.trim_start_matches('/') == source), "{source} is ignored");
        }
    }
    ensure!(copies >= 3, "only {copies} things are copied");
    Ok(())
}

#[test]
fn it_builds_with_the_compiler_the_workspace_wants() -> Result<()> {
    let instructions = instructions()?;
    let wanted = format!("FROM rust:{}-bookworm AS build", env!("CARGO_PKG_RUST_VERSION"));
    ensure!(instructions.contains(&wanted), "there is no `{wanted}`");
    // The binary carries the kernel programs: they are built first, and it from the locked dependencies.
    let place = |part: &str| instructions.iter().position(|one| one.contains(part)).with_context(|| part.to_owned());
    let programs = place("cargo xtask build-ebpf")?;
    let binary = place("cargo build --locked --release --package ringsteer --bin ringsteer")?;
    ensure!(programs < binary, "the binary is built before what it carries");
    Ok(())
}

#[test]
fn it_is_licensed_and_nobodys_by_itself() -> Result<()> {
    let instructions = instructions()?;
    let last = instructions.iter().rposition(|one| one.starts_with("FROM ")).context("no FROM")?;
    let image = &instructions[last..];
    ensure!(image.iter().any(|one| one.contains("image.licenses=\"(MIT OR Apache-2.0) AND (MIT OR GPL-2.0-only)\"")));
    let user = image.iter().find_map(|one| one.strip_prefix("USER ")).context("the image runs as root by itself")?;
    ensure!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id != 0)), "the image runs as {user}");
    ensure!(image.iter().any(|one| one == "ENTRYPOINT [\"/usr/local/bin/ringsteer\"]"));
    Ok(())
}
