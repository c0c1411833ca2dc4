//! What must hold before the agent touches anything. The agent turns on by itself what it may: settings that are off.

use std::{fs, io, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use tracing::{info, warn};

use super::{
    checks::{interfaces, settings},
    facts::Settings,
    finding::{Finding, Outcome, Setting},
    probe::system,
    subject::Node,
};
use crate::{
    config::{Config, Mode},
    dataplane::privileges::{self, Capability},
};

/// Makes sure that the host provides what the programs need.
///
/// # Errors
/// The first thing that is wrong, why it matters and how to mend it.
pub fn check(config: &Config) -> Result<()> {
    // Whatever else the kernel refuses without it stops the agent and is explained there; the neighbours would not.
    ensure!(
        privileges::lacking(&[Capability::NetAdmin]).is_empty(),
        "this process lacks CAP_NET_ADMIN, by which interfaces are set up and the next hops to other nodes kept known; \
         run it as root, or give it CAP_BPF and CAP_NET_ADMIN"
    );
    let is_there = |name: &str| nix::net::if_::if_nametoindex(name).is_ok();
    let found = system::settings(settings::settings([].into_iter()));
    decide(&host(config.node.mode, &config.node.interfaces, is_there, &found), write)
}

/// Makes sure that the programs can find their way to other nodes, over the family of `own`, the address of this node.
///
/// # Errors
/// As [`check`].
pub fn forwarding(config: &Config, own: IpAddr) -> Result<()> {
    let node = Node::of(config);
    let found = system::settings(settings::settings(node.interfaces.iter().map(String::as_str)));
    decide(&settings::forwarding(&node, own, &found, &system::learnt_routes()), write)
}

/// Keeps this host from answering ARP for addresses of another interface than the one asked, and from asking in their
/// name. IPv6 answers only for addresses of the interface asked (`ndisc_recv_ns` in `net/ipv6/ndisc.c`).
///
/// # Errors
/// If a setting cannot be written.
pub fn silence_arp() -> Result<()> {
    let found = system::settings(settings::settings([].into_iter()));
    for setting in settings::silence(&found) {
        write(&setting).with_context(|| format!("cannot do what `{}` does", setting.command()))?;
        info!("{}: {}", setting.command(), settings::ARP.why);
    }
    Ok(())
}

fn write(setting: &Setting) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(&setting.name), setting.value)
}

fn host(mode: Mode, names: &[String], is_there: impl Fn(&str) -> bool, found: &Settings) -> Vec<Finding> {
    let missing = names.iter().filter(|name| !is_there(name)).map(|name| interfaces::missing(name));
    missing.chain([settings::syncookies(found)]).chain(settings::tcp_options(mode, found)).collect()
}

/// Mends what can be mended by settings; refuses what is wrong otherwise, before anything is mended.
fn decide(findings: &[Finding], mut mend: impl FnMut(&Setting) -> io::Result<()>) -> Result<()> {
    let is_wrong = |finding: &&Finding| finding.outcome == Outcome::Wrong;
    if let Some(refused) = findings.iter().filter(is_wrong).find(|finding| finding.settings.is_empty()) {
        bail!(refusal(refused, ""));
    }
    for finding in findings.iter().filter(is_wrong) {
        for setting in &finding.settings {
            if let Err(error) = mend(setting) {
                bail!(refusal(finding, &format!(", and setting it failed ({error})")));
            }
            info!("{} ({}): {}", setting.command(), finding.found, finding.why);
        }
    }
    for finding in findings.iter().filter(|finding| finding.outcome == Outcome::Unchecked) {
        warn!(check = finding.check, "not checked: {}", finding.found);
    }
    Ok(())
}

fn refusal(finding: &Finding, besides: &str) -> String {
    let mend = finding.mend.as_deref().unwrap_or("see `ringsteer doctor`");
    format!("{}{besides}. {} To mend it: {mend}", finding.found, finding.why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixtures::{healthy, node};

    fn all(settings: &Settings) -> Vec<Finding> {
        let mut findings = host(Mode::LateBinding, &node().interfaces, |name| name == "eth0", settings);
        findings.extend(settings::forwarding(&node(), node().own_address().unwrap(), settings, &Ok(vec![])));
        findings
    }

    #[test]
    fn settings_that_are_off_are_turned_on() {
        let mut settings = healthy().settings;
        for name in ["net/ipv4/tcp_syncookies", "net/ipv4/conf/eth0/forwarding"] {
            settings.0.insert(name.into(), Ok("0".into()));
        }
        let findings = all(&settings);
        let mut commands = Vec::new();
        decide(&findings, |setting| {
            commands.push(setting.command());
            Ok(())
        })
        .unwrap();
        assert_eq!(commands, ["sysctl -w net.ipv4.tcp_syncookies=1", "sysctl -w net.ipv4.conf.eth0.forwarding=1"]);

        let refused = decide(&findings, |_| Err(io::ErrorKind::PermissionDenied.into())).unwrap_err().to_string();
        assert!(
            refused.starts_with("net.ipv4.tcp_syncookies is 0, and setting it failed (permission denied)."),
            "{refused}"
        );
        assert!(refused.ends_with("To mend it: sysctl -w net.ipv4.tcp_syncookies=1"), "{refused}");
    }

    #[test]
    fn what_is_refused_is_refused_before_anything_is_changed() {
        let mut settings = healthy().settings;
        settings.0.insert("net/ipv4/tcp_syncookies".into(), Ok("0".into()));
        let untouched = |_: &Setting| panic!("nothing may be changed");
        let missing = decide(&host(Mode::LateBinding, &["eth7".into()], |_| false, &settings), untouched)
            .unwrap_err()
            .to_string();
        assert!(missing.starts_with("there is no interface `eth7` here. "), "{missing}");
        settings.0.insert("net/ipv4/tcp_sack".into(), Ok("0".into()));
        let sack = decide(&all(&settings), untouched).unwrap_err().to_string();
        assert!(sack.ends_with("To mend it: sysctl -w net.ipv4.tcp_sack=1"), "{sack}");
    }

    #[test]
    fn what_cannot_be_read_stops_nobody() {
        decide(&all(&Settings::default()), |_| panic!("nothing may be changed")).unwrap();
    }
}
