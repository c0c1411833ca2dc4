//! Running other programs: what they see of our environment, and what is said when they fail.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Runs `command` with its output going to the terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let program = describe(command);
    // An installer that asks a question must fail instead of waiting for an answer that nobody gives.
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{program}`"))?;
    if !status.success() {
        // Why it failed is in what it printed.
        bail!("`{program}` failed ({status})");
    }
    Ok(())
}

/// Becomes `command`: its exit code is ours, and a Ctrl-C is for it alone to handle and clean up after.
pub fn become_it(command: &mut Command) -> Result<Infallible> {
    let program = describe(command);
    Err(command.stdin(Stdio::null()).exec()).with_context(|| format!("cannot run `{program}`"))
}

/// Runs `command` and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let program = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{program}`"))?;
    if !output.status.success() {
        bail!("`{program}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where `program` is found on `PATH` or, as that is often without them for ordinary users, in the `sbin` directories.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// The cargo that started us, for everything that runs on this machine.
pub fn host_cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    hide(&mut cargo, is_about_this_package);
    cargo
}

/// `program`, blind to the compiler, flags and target that cargo or a person chose for building on this machine.
///
/// What says how to reach a registry or where its downloads are kept stays.
pub fn with_clean_environment(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    hide(&mut command, is_about_the_host_build);
    command
}

fn hide(command: &mut Command, unwanted: fn(&str) -> bool) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(unwanted) {
            command.env_remove(name);
        }
    }
}

/// Variables that `cargo run` sets for xtask alone, and that would mislead the next cargo's build scripts.
fn is_about_this_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "LD_LIBRARY_PATH"
}

fn is_about_the_host_build(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
    ];
    let chooses = name.starts_with("CARGO")
        || name.starts_with("RUSTC")
        || name.starts_with("RUSTDOC")
        || matches!(name, "RUSTFLAGS" | "RUSTUP_TOOLCHAIN" | "RUST_TARGET_PATH" | "LD_LIBRARY_PATH");
    chooses && !KEPT.iter().any(|kept| name.starts_with(kept))
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    words.into_iter().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// `a`, `b` and `c` as cargo wants several flags in one variable.
pub fn encoded_flags<I: IntoIterator<Item = OsString>>(flags: I) -> OsString {
    let mut encoded = OsString::new();
    for (index, flag) in flags.into_iter().enumerate() {
        if index > 0 {
            encoded.push("\x1f");
        }
        encoded.push(flag);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_builds_choices_are_hidden_from_the_bpf_build() {
        for name in [
            "CARGO",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_PROFILE_RELEASE_DEBUG",
            "CARGO_TARGET_DIR",
            "LD_LIBRARY_PATH",
            "RUSTC",
            "RUSTC_BOOTSTRAP",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(is_about_the_host_build(name), "{name}");
        }
    }

    #[test]
    fn the_way_to_the_registry_stays() {
        for name in
            ["CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_INDEX", "RUSTUP_HOME", "PATH"]
        {
            assert!(!is_about_the_host_build(name), "{name}");
        }
    }

    #[test]
    fn a_failed_program_is_named() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert!(error.to_string().contains("`sh -c exit 7` failed (exit status: 7)"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = output(&mut Command::new("/nowhere/frobnicate")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/frobnicate"), "{error}");
    }

    #[test]
    fn flags_may_contain_spaces() {
        assert_eq!(encoded_flags(["-C".into(), "linker=/a b/c".into()]), "-C\x1flinker=/a b/c");
    }
}
