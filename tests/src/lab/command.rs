//! Runs the tools that set a lab up, and says what they said when they fail.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a tool to its end and gives its standard output.
///
/// # Errors
/// If the tool is not installed or fails; the message carries its standard error.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    run_with_input(program, arguments, "")
}

/// Runs `ip -batch` in the namespace of that name, one command a line.
///
/// # Errors
/// As [`run`], with the batch in the message.
pub fn ip_batch(namespace: Option<&str>, batch: &str) -> Result<()> {
    let mut arguments = Vec::new();
    if let Some(namespace) = namespace {
        arguments.extend(["-n", namespace]);
    }
    arguments.extend(["-batch", "-"]);
    run_with_input("ip", &arguments, batch).with_context(|| format!("batch given to ip:\n{batch}"))?;
    Ok(())
}

/// As [`run`], with something on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let line = || format!("{program} {}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`; the lab needs Debian's iproute2, ethtool and nftables", line()))?;
    // A tool that stops reading has failed: its own message, below, says more than our broken pipe.
    let _ = child.stdin.take().expect("piped above").write_all(input.as_bytes());
    let output = child.wait_with_output().with_context(|| format!("waiting for `{}`", line()))?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", line(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_failing_tool_is_quoted() {
        let error = super::run("sh", &["-c", "echo the reason >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("the reason") && error.contains('3'), "{error}");
    }
}
