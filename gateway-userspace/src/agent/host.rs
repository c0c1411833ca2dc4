//! What the host must provide, checked before anything is touched.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use crate::config::Config;

/// Checks the host, and turns on what the programs need where it is off.
pub fn check(config: &Config) -> Result<()> {
    for interface in &config.node.interfaces {
        ensure!(
            nix::net::if_::if_nametoindex(interface.as_str()).is_ok(),
            "there is no interface `{interface}` here; `ip link` lists those there are"
        );
    }
    // The kernel creates sockets from cookies only with this on, and says nothing when it is off.
    setting(
        "net/ipv4/tcp_syncookies",
        |value| value != "0",
        "1",
        "it lets the kernel create the sockets of steered connections",
    )?;
    for interface in &config.node.interfaces {
        setting(
            &format!("net/ipv4/conf/{interface}/forwarding"),
            |value| value == "1",
            "1",
            "the next hop to other nodes is looked up as a router does it (bpf_fib_lookup)",
        )?;
    }
    Ok(())
}

/// Makes sure of a sysctl.
fn setting(name: &str, good: impl Fn(&str) -> bool, wanted: &str, why: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let shown = name.replace('/', ".");
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read the setting {shown}"))?;
    if good(value.trim()) {
        return Ok(());
    }
    if let Err(error) = fs::write(&path, wanted) {
        bail!("{shown} is {}, and setting it failed ({error}). {why}: run `sysctl -w {shown}={wanted}`", value.trim());
    }
    tracing::info!("set {shown} to {wanted}: {why}");
    Ok(())
}
