//! What the host must provide, checked before anything is touched.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    config::Config,
    dataplane::privileges::{self, Capability},
};

/// Checks the host, and turns on what the programs need where it is off.
pub fn check(config: &Config) -> Result<()> {
    // Whatever else the kernel refuses without it stops the agent and is explained there; the neighbours would not.
    ensure!(
        privileges::lacking(&[Capability::NetAdmin]).is_empty(),
        "this process lacks CAP_NET_ADMIN, by which interfaces are set up and the next hops to other nodes kept known; \
         run it as root, or give it CAP_BPF and CAP_NET_ADMIN"
    );
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
    )
}

/// Makes sure that the programs can find their way to other nodes, over the family of `this`, the address of this node.
pub fn forwarding(config: &Config, this: IpAddr) -> Result<()> {
    match this {
        IpAddr::V4(_) => config.node.interfaces.iter().try_for_each(|interface| {
            let name = format!("net/ipv4/conf/{interface}/forwarding");
            setting(&name, |value| value == "1", "1", WHY_FORWARDING)
        }),
        IpAddr::V6(_) => route_over_ipv6(),
    }
}

/// Why forwarding is turned on somewhere.
const WHY_FORWARDING: &str = "the next hop to other nodes is looked up as a router does it (bpf_fib_lookup)";

/// The programs look routes up as for packets from `lo`, so that is where forwarding has to be on. An interface would
/// believe no router advertisement any more; `lo` gets none. (And nothing is forwarded by that: over IPv6, the setting
/// for all interfaces decides.)
///
/// One thing does happen when it is turned on anywhere: the kernel drops the routes it learnt from advertisements
/// (`addrconf_fixup_forwarding`), until the next ones come. If there are any, that is for the operator to time.
fn route_over_ipv6() -> Result<()> {
    const FORWARDING: &str = "net/ipv6/conf/lo/forwarding";
    if read(FORWARDING)? != "1" {
        let routes = fs::read_to_string(LEARNT_ROUTES).with_context(|| format!("cannot read {LEARNT_ROUTES}"))?;
        // Where advertisements are believed in spite of forwarding, routes stay.
        let loses =
            |interface: &&str| read(&format!("net/ipv6/conf/{interface}/accept_ra")).is_ok_and(|value| value != "2");
        if let Some(interface) = learnt_on(&routes).find(loses) {
            let shown = FORWARDING.replace('/', ".");
            bail!(
                "{shown} has to be 1: {WHY_FORWARDING}. Turning it on makes the kernel drop, until the next router \
                 advertisement, the routes that it learnt from one on {interface}, so it is left to you: put \
                 `{shown}=1` into /etc/sysctl.d, where it takes effect before there are any, and for now run \
                 `sysctl -w {shown}=1`"
            );
        }
    }
    setting(FORWARDING, |value| value == "1", "1", WHY_FORWARDING)
}

/// The IPv6 routes, one a line, flags and interface last.
const LEARNT_ROUTES: &str = "/proc/net/ipv6_route";

/// The interfaces with routes from router advertisements, by the text of [`LEARNT_ROUTES`].
fn learnt_on(routes: &str) -> impl Iterator<Item = &str> {
    /// RTF_DEFAULT and RTF_ADDRCONF, from the kernel's `linux/ipv6_route.h`.
    const LEARNT: u32 = 0x0001_0000 | 0x0004_0000;
    routes.lines().filter_map(|line| {
        let mut from_the_end = line.split_ascii_whitespace().rev();
        let (interface, flags) = (from_the_end.next()?, from_the_end.next()?);
        (u32::from_str_radix(flags, 16).ok()? & LEARNT == LEARNT).then_some(interface)
    })
}

/// The value of a sysctl.
fn read(name: &str) -> Result<String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name));
    Ok(value.with_context(|| format!("cannot read the setting {}", name.replace('/', ".")))?.trim().to_owned())
}

/// Keeps this host from answering ARP for addresses of another interface than the one asked, and from asking in their
/// name. IPv6 answers only for addresses of the interface asked (`ndisc_recv_ns` in `net/ipv6/ndisc.c`).
pub fn silence_arp() -> Result<()> {
    const WHY: &str = "every node has the virtual addresses, and the network must not learn them from any";
    setting("net/ipv4/conf/all/arp_ignore", |value| value == "1" || value == "2", "1", WHY)?;
    setting("net/ipv4/conf/all/arp_announce", |value| value == "2", "2", WHY)
}

/// Makes sure of a sysctl.
fn setting(name: &str, good: impl Fn(&str) -> bool, wanted: &str, why: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let shown = name.replace('/', ".");
    let value = read(name)?;
    if good(&value) {
        return Ok(());
    }
    if let Err(error) = fs::write(&path, wanted) {
        bail!("{shown} is {value}, and setting it failed ({error}). {why}: run `sysctl -w {shown}={wanted}`");
    }
    tracing::info!("set {shown} to {wanted}: {why}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_from_advertisements_are_told_from_others() {
        // As Linux 6.18 shows them: a default route that was learnt, the learnt prefix, a static route, an address.
        let zeros = "0".repeat(32);
        let routes = [("00450003", "eth0"), ("004c0001", "eth0"), ("00000003", "eth1"), ("80200001", "lo")]
            .map(|(flags, interface)| {
                format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 {flags} {interface:>8}\n")
            })
            .concat();
        assert_eq!(learnt_on(&routes).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(learnt_on("").count() + learnt_on("\n?\n").count(), 0);
    }
}
