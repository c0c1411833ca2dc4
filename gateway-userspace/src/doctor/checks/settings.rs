//! What stands below `/proc/sys`.

use std::{collections::BTreeSet, net::IpAddr};

use crate::{
    config::Mode,
    doctor::{
        facts::{Fact, Facts, Interface, Settings},
        finding::{Check, Finding, Setting, shown},
        subject::Node,
    },
};

/// `net.ipv4.tcp_syncookies`.
pub const SYNCOOKIES: Check = Check {
    name: "syncookies",
    why: "The kernel creates the sockets of steered connections only with this on, and says nothing when it is off: \
          every connection is then reset.",
};

/// Window scale, SACK, timestamps.
pub const TCP_OPTIONS: Check = Check {
    name: "tcp-options",
    why: "The edge agrees on these options with the client; an owner on which one is off refuses to create the socket.",
};

/// `forwarding`.
pub const FORWARDING: Check = Check {
    name: "forwarding",
    why: "The next hop to other nodes is looked up as a router does it (bpf_fib_lookup), which is refused where \
          forwarding is off: packets are counted as drop_no_route.",
};

/// `rp_filter`.
pub const REVERSE_PATH: Check = Check {
    name: "reverse-path",
    why: "Routes are asymmetric by design. A strict filter drops a client's packets, also those out of the tunnel, \
          unless the route to the client leaves by the interface they came in by.",
};

/// `arp_ignore` and `arp_announce`.
pub const ARP: Check = Check {
    name: "arp",
    why: "Every node has the virtual address, and only the edge may be asked for it: a node that answers ARP for it, \
          or asks with it as sender, takes the address over in its neighbours' tables.",
};

const TCP_SYNCOOKIES: &str = "net/ipv4/tcp_syncookies";
const OPTIONS: [&str; 3] = ["net/ipv4/tcp_timestamps", "net/ipv4/tcp_window_scaling", "net/ipv4/tcp_sack"];

/// Over IPv6 routes are looked up as for packets from `lo`: any other interface would believe no router advertisement
/// any more while it forwards.
const FORWARDING_IPV6: &str = "net/ipv6/conf/lo/forwarding";

/// Per-interface settings, and whether they are IPv6's.
const PER_INTERFACE: [(&str, bool); 5] =
    [("forwarding", false), ("rp_filter", false), ("arp_ignore", false), ("arp_announce", false), ("accept_ra", true)];

/// Settings these checks look at, on a host with these interfaces.
pub fn settings<'a>(interfaces: impl Iterator<Item = &'a str>) -> Vec<String> {
    let host = [TCP_SYNCOOKIES, FORWARDING_IPV6];
    let mut names: Vec<String> = host.iter().chain(&OPTIONS).map(|name| name.to_string()).collect();
    for interface in interfaces.chain(["all"]) {
        names.extend(PER_INTERFACE.iter().map(|(name, ipv6)| of(interface, name, *ipv6)));
    }
    names
}

fn of(interface: &str, name: &str, ipv6: bool) -> String {
    format!("net/ipv{}/conf/{interface}/{name}", if ipv6 { 6 } else { 4 })
}

pub(super) fn all(node: &Node, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![syncookies(&facts.settings)];
    findings.extend(tcp_options(node.mode, &facts.settings));
    if let Some(own) = node.own_address() {
        findings.extend(forwarding(node, own, &facts.settings, &facts.learnt_routes));
    }
    findings.extend(node.interfaces.iter().filter_map(|interface| reverse_path(node, interface, facts)));
    findings.extend(arp(node, facts));
    findings
}

/// Whether cookies make sockets.
pub fn syncookies(settings: &Settings) -> Finding {
    let setting = Setting::new(TCP_SYNCOOKIES, "1");
    match settings.number(TCP_SYNCOOKIES) {
        Ok(0) => SYNCOOKIES.wrong("net.ipv4.tcp_syncookies is 0", setting.command()).mended_by([setting]),
        Ok(value) => SYNCOOKIES.ok(format!("net.ipv4.tcp_syncookies is {value}")),
        Err(unknown) => SYNCOOKIES.unchecked(unknown.0),
    }
}

/// Whether the options that clients are promised are on.
pub fn tcp_options(mode: Mode, settings: &Settings) -> Vec<Finding> {
    let one = |name: &str| {
        let finding = match settings.number(name) {
            Ok(0) if mode == Mode::Accept => {
                TCP_OPTIONS.not_applicable(format!("{} is 0, and clients are told so", shown(name)))
            }
            Ok(0) => TCP_OPTIONS.wrong(format!("{} is 0", shown(name)), Setting::new(name, "1").command()),
            Ok(_) => TCP_OPTIONS.ok("on"),
            Err(unknown) => TCP_OPTIONS.unchecked(unknown.0),
        };
        finding.about(name.rsplit('/').next().unwrap_or(name))
    };
    OPTIONS.iter().map(|name| one(name)).collect()
}

/// Whether next hops can be looked up, by a node with that address. `learnt` are the interfaces with default routes from
/// router advertisements.
pub fn forwarding(node: &Node, own: IpAddr, settings: &Settings, learnt: &Fact<Vec<String>>) -> Vec<Finding> {
    if own.is_ipv6() {
        return vec![forwarding_ipv6(settings, learnt)];
    }
    let one = |interface: &String| {
        let name = of(interface, "forwarding", false);
        forwards(&name, settings).about(interface)
    };
    node.interfaces.iter().map(one).collect()
}

/// A setting that is to be on, and that nothing speaks against turning on.
fn forwards(name: &str, settings: &Settings) -> Finding {
    let setting = Setting::new(name, "1");
    match settings.number(name) {
        Ok(0) => FORWARDING.wrong(format!("{} is 0", shown(name)), setting.command()).mended_by([setting]),
        Ok(_) => FORWARDING.ok(format!("{} is 1", shown(name))),
        Err(unknown) => FORWARDING.unchecked(unknown.0),
    }
}

/// Turned on anywhere, it makes the kernel drop the default routes that it learnt from advertisements
/// (`addrconf_fixup_forwarding`), until the next ones come. If there are any, that is for the operator to time.
fn forwarding_ipv6(settings: &Settings, learnt: &Fact<Vec<String>>) -> Finding {
    let finding = forwards(FORWARDING_IPV6, settings);
    if finding.settings.is_empty() {
        return finding;
    }
    // Where advertisements are believed in spite of forwarding, routes stay.
    let believes = |interface: &String| matches!(settings.number(&of(interface, "accept_ra", true)), Ok(2));
    let loses = match learnt {
        Ok(learnt) => learnt.iter().find(|interface| !believes(interface)),
        Err(unknown) => return FORWARDING.unchecked(format!("{}; {unknown}", finding.found)),
    };
    let Some(interface) = loses else { return finding };
    let command = Setting::new(FORWARDING_IPV6, "1").command();
    FORWARDING.wrong(
        format!(
            "{}; turning it on makes the kernel drop, until the next router advertisement, the routes that it learnt from \
             one on {interface}, so the agent leaves it to you",
            finding.found
        ),
        format!(
            "{command}, at a time of your choice, and {} in /etc/sysctl.d, where it takes effect before there are any",
            command.trim_start_matches("sysctl -w ")
        ),
    )
}

/// The value in force: the higher of the interface's own and that of `all` (`IN_DEV_MAXCONF`), and where it stands.
fn in_force(interface: &str, name: &str, facts: &Facts) -> Result<(i64, String), String> {
    let candidates = [interface, "all"].map(|whose| of(whose, name, false));
    let mut highest = (i64::MIN, String::new());
    for candidate in candidates {
        let value = facts.settings.number(&candidate).map_err(|unknown| unknown.0)?;
        if value > highest.0 {
            highest = (value, candidate);
        }
    }
    Ok(highest)
}

/// IPv6 has no such setting; rules of a firewall that do the same are the check `firewall`'s.
fn reverse_path(node: &Node, interface: &str, facts: &Facts) -> Option<Finding> {
    if !node.services.iter().any(|service| service.address.is_ipv4()) {
        return None;
    }
    const STRICT: i64 = 1;
    let finding = match in_force(interface, "rp_filter", facts) {
        Err(unknown) => REVERSE_PATH.unchecked(unknown),
        Ok((STRICT, name)) => strict(interface, &name, facts),
        Ok((0, _)) => REVERSE_PATH.ok("no filter"),
        Ok(_) => REVERSE_PATH.ok("loose"),
    };
    Some(finding.about(interface))
}

/// A strict filter, in force by the setting `name`.
fn strict(interface: &str, name: &str, facts: &Facts) -> Finding {
    let (Ok(routes), Ok(interfaces)) = (&facts.routes, &facts.interfaces) else {
        return REVERSE_PATH.unchecked("strict, and the routes could not be read");
    };
    let own = interfaces.iter().find(|one| one.name == interface).map(|one| one.index);
    let elsewhere: BTreeSet<u32> = routes
        .iter()
        .filter(|route| !route.ipv6)
        .flat_map(|route| route.interfaces.iter().copied())
        .filter(|index| Some(*index) != own)
        .collect();
    // Loose is 2; the interface's own value wins over a lower one of `all`.
    let mend = Setting::new(of(interface, "rp_filter", false), "2").command();
    let found = |rest: String| format!("strict ({} is 1){rest}", shown(name));
    let default_by_own = routes.iter().any(|route| {
        !route.ipv6 && route.destination.is_none() && own.is_some_and(|own| route.interfaces.contains(&own))
    });
    if elsewhere.is_empty() {
        return REVERSE_PATH.ok(found("; all routes leave by this interface".into()));
    }
    let names: Vec<_> = elsewhere.iter().map(|index| facts.interface_name(*index)).collect();
    let found =
        found(format!(": packets that arrive here are dropped if their sender is routed by {}", names.join(", ")));
    if default_by_own { REVERSE_PATH.warning(found, mend) } else { REVERSE_PATH.wrong(found, mend) }
}

/// On every interface that speaks ARP, for neighbours are on all of them.
fn arp(node: &Node, facts: &Facts) -> Vec<Finding> {
    if !node.services.iter().any(|service| service.address.is_ipv4()) {
        return vec![ARP.not_applicable("no virtual address is an IPv4 one")];
    }
    match &facts.interfaces {
        Ok(interfaces) => interfaces.iter().filter(|one| one.arp && one.up).map(|one| arp_on(one, facts)).collect(),
        Err(unknown) => vec![ARP.unchecked(unknown.0.clone())],
    }
}

/// `arp_ignore()` in net/ipv4/arp.c: 1 and 2 answer for addresses of the interface itself, 8 for none at all; 3 answers
/// for any of global scope, and 4 to 7 mean nothing.
fn is_silent(arp_ignore: i64) -> bool {
    matches!(arp_ignore, 1 | 2 | 8)
}

/// 1 asks with an address of another interface if it lies in the network asked.
fn is_discreet(arp_announce: i64) -> bool {
    arp_announce >= 2
}

/// What would silence ARP on all interfaces, as far as that is not so.
pub fn silence(settings: &Settings) -> Vec<Setting> {
    let wrong = |name: &str, good: fn(i64) -> bool| !settings.number(name).is_ok_and(good);
    let mut wanted = Vec::new();
    let (ignore, announce) = (of("all", "arp_ignore", false), of("all", "arp_announce", false));
    if wrong(&ignore, is_silent) {
        wanted.push(Setting::new(ignore, "1"));
    }
    if wrong(&announce, is_discreet) {
        wanted.push(Setting::new(announce, "2"));
    }
    wanted
}

fn arp_on(interface: &Interface, facts: &Facts) -> Finding {
    let name = &interface.name;
    let (ignore, announce) = match (in_force(name, "arp_ignore", facts), in_force(name, "arp_announce", facts)) {
        (Ok(ignore), Ok(announce)) => (ignore, announce),
        (Err(unknown), _) | (_, Err(unknown)) => return ARP.unchecked(unknown).about(name),
    };
    let (silent, discreet) = (is_silent(ignore.0), is_discreet(announce.0));
    let mut wrong = Vec::new();
    let mut settings = Vec::new();
    if !silent {
        wrong.push(format!("answers for addresses of other interfaces ({} is {})", shown(&ignore.1), ignore.0));
        // A value that is too high stands where it stands; one that is too low is best raised for all.
        let whose = if ignore.0 == 0 { of("all", "arp_ignore", false) } else { ignore.1 };
        settings.push(Setting::new(whose, "1"));
    }
    if !discreet {
        wrong.push(format!(
            "asks in the name of other interfaces' addresses ({} is {})",
            shown(&announce.1),
            announce.0
        ));
        settings.push(Setting::new(of("all", "arp_announce", false), "2"));
    }
    if wrong.is_empty() {
        return ARP.ok("silent about addresses of other interfaces").about(name);
    }
    let mend = settings.iter().map(Setting::command).collect::<Vec<_>>().join(" && ");
    ARP.wrong(wrong.join("; "), mend).about(name)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
