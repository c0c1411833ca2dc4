//! The interfaces the programs run on: XDP, offloads, MTU.

use ringsteer_ebpf::tunnel;

use crate::{
    config::{Mode, XdpMode},
    doctor::{
        facts::{Attachment, Driver, Fact, Facts, Interface},
        finding::{Check, Finding},
        subject::Node,
    },
};

/// Whether it is there, on, and its own.
pub const INTERFACE: Check = Check {
    name: "interface",
    why: "Clients and nodes reach this node by the configured interfaces; the programs run on them.",
};

/// `steer`.
pub const XDP: Check = Check {
    name: "xdp",
    why: "`steer` is the XDP program of the interface. There can be no other beside it; in the driver it costs a \
          fraction of what it costs behind it.",
};

/// `admit`.
pub const ADMIT: Check =
    Check { name: "admit", why: "Without `admit` on tc ingress no socket is created for what `steer` sends here." };

/// Frames that `steer` sends.
pub const XDP_TRANSMIT: Check = Check {
    name: "xdp-transmit",
    why: "SYN+ACKs and tunnel packets leave from XDP. What a driver cannot send it drops, and tcpdump does not see it.",
};

/// Large receive offload.
pub const OFFLOADS: Check = Check {
    name: "offloads",
    why: "Large receive offload merges segments before XDP sees them; drivers refuse XDP while it is on, or turn it off.",
};

/// The largest packet.
pub const MTU: Check = Check {
    name: "mtu",
    why: "The MSS offered to clients leaves room for the tunnel, so a small MTU leaves none for them; a large one does \
          not fit the page that drivers give XDP.",
};

/// The MTU at which the MSS is the least the kernel admits: 536 bytes, 40 of headers, and room for the tunnel.
const LEAST_MTU_IPV4: u32 = 536 + 40 + tunnel::RESERVED;
/// The least MTU there is for IPv6 (RFC 8200 section 5).
const LEAST_MTU_IPV6: u32 = 1280;
/// Above this, few drivers run XDP: a page, less headroom (256), `skb_shared_info` (320) and link header.
const LARGEST_NATIVE_MTU: u32 = 3498;

pub(super) fn all(node: &Node, facts: &Facts) -> Vec<Finding> {
    let found = match &facts.interfaces {
        Ok(found) => found,
        Err(unknown) => return vec![INTERFACE.unchecked(unknown.0.clone())],
    };
    let mut findings = Vec::new();
    for name in &node.interfaces {
        let mut about = |finding: Finding| findings.push(finding.about(name));
        let Some(one) = found.iter().find(|interface| interface.name == *name) else {
            about(missing(name));
            continue;
        };
        about(presence(one, facts));
        about(xdp(node, one, facts));
        about(admit(node, one, facts));
        about(mtu(node, one));
        if let Some(driver) = &one.driver {
            about(transmit(node, one, driver));
            about(offloads(one, driver));
        }
    }
    findings
}

/// A configured interface that is not there.
pub fn missing(name: &str) -> Finding {
    INTERFACE.wrong(
        format!("there is no interface `{name}` here"),
        "correct `interfaces` in the configuration; `ip link` lists those there are",
    )
}

/// Whether the interface is usable.
fn presence(one: &Interface, facts: &Facts) -> Finding {
    let name = &one.name;
    if !one.up {
        return INTERFACE.wrong("switched off", format!("ip link set {name} up"));
    }
    if !one.carrier {
        return INTERFACE.warning("no carrier", "look at the cable, the switch, or the other end");
    }
    if let Some(master) = one.master {
        let master = facts.interface_name(master);
        return INTERFACE.warning(
            format!("belongs to {master}, which has the addresses"),
            format!(
                "name {master} in `interfaces` instead, unless you know that the driver of {name} must run the program"
            ),
        );
    }
    INTERFACE.ok(format!("up, MTU {}", one.mtu))
}

/// The numbers of our programs, as far as anything tells.
fn our_programs(facts: &Facts) -> Fact<Vec<u32>> {
    match (&facts.pins.links, facts.running()) {
        (Err(unknown), None) => Err(unknown.clone()),
        (links, running) => {
            let pinned = links.iter().flatten().map(|link| link.program);
            Ok(pinned.chain(running.into_iter().flat_map(|running| running.programs.iter().copied())).collect())
        }
    }
}

/// The name that an interface has in the names of pins.
fn pinned_name(interface: &str) -> String {
    interface.replace('.', "_")
}

fn xdp(node: &Node, one: &Interface, facts: &Facts) -> Finding {
    let name = &one.name;
    let Some(&(attachment, _)) = one.xdp.first() else { return xdp_to_come(node, one, facts) };
    let ours = match our_programs(facts) {
        Ok(ours) => ours,
        Err(unknown) => return XDP.unchecked(format!("a program is attached; whose it is, is not known: {unknown}")),
    };
    if let Some((_, foreign)) = one.xdp.iter().find(|(_, program)| !ours.contains(program)) {
        return XDP.wrong(
            format!("another XDP program, id {foreign}, is attached"),
            format!(
                "stop what attached it (`bpftool prog show id {foreign}`, `bpftool link`), or: ip link set dev {name} xdp off"
            ),
        );
    }
    let native_possible = matches!(&one.driver, Some(Driver { xdp: Ok(features), .. }) if features.native);
    match (attachment, node.xdp_mode) {
        (Attachment::Native, _) => XDP.ok("`steer` runs in the driver"),
        (Attachment::Offloaded, _) => XDP.ok("`steer` runs on the card"),
        (Attachment::Generic, XdpMode::Generic) => XDP.ok("`steer` runs behind the driver, as configured"),
        (Attachment::Generic, _) if native_possible => XDP.warning(
            "`steer` runs behind the driver, though the driver can run it",
            "ringsteer uninstall, then start the agent: its log says why the driver refuses; live steered connections \
             end with it",
        ),
        (Attachment::Generic, _) => no_native(one),
    }
}

/// What is to be expected of an interface without a program.
fn xdp_to_come(node: &Node, one: &Interface, facts: &Facts) -> Finding {
    if facts.steering() {
        return XDP.wrong("no XDP program is attached", "restart the agent");
    }
    let Some(driver) = &one.driver else { return XDP.not_applicable("nothing is attached yet") };
    let native = match &driver.xdp {
        Ok(features) => features.native,
        Err(unknown) => return XDP.unchecked(unknown.0.clone()),
    };
    match (native, node.xdp_mode) {
        (_, XdpMode::Generic) => XDP.ok("nothing is attached yet; generic XDP, as configured, works everywhere"),
        (true, _) => XDP.ok("nothing is attached yet; the driver can run `steer`"),
        (false, XdpMode::Native) => XDP.wrong(
            format!("the driver{} cannot run XDP programs", driver_name(driver)),
            "set `xdp_mode = \"auto\"`, or use another card",
        ),
        (false, XdpMode::Auto) => no_native(one),
    }
}

fn no_native(one: &Interface) -> Finding {
    let driver = one.driver.as_ref().map(driver_name).unwrap_or_default();
    XDP.warning(
        format!("the driver{driver} cannot run XDP programs: `steer` runs behind it and costs more"),
        "use a card whose driver can, or set `xdp_mode = \"generic\"` to accept it",
    )
}

fn driver_name(driver: &Driver) -> String {
    driver.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default()
}

fn admit(node: &Node, one: &Interface, facts: &Facts) -> Finding {
    if node.mode == Mode::Accept {
        return ADMIT.not_applicable("with `mode = \"accept\"` the kernel makes its sockets by itself");
    }
    let links = match &facts.pins.links {
        Ok(links) => links,
        Err(unknown) => return ADMIT.unchecked(unknown.0.clone()),
    };
    let wanted = format!("admit-{}", pinned_name(&one.name));
    match links.iter().find(|link| link.name == wanted) {
        Some(link) => ADMIT.ok(format!("program {} on tc ingress", link.program)),
        None if facts.steering() => ADMIT.wrong("`admit` is not on tc ingress", "restart the agent"),
        None => ADMIT.not_applicable("nothing is attached yet"),
    }
}

fn transmit(node: &Node, one: &Interface, driver: &Driver) -> Finding {
    let name = &one.name;
    let is_veth = matches!(&driver.name, Ok(name) if name == "veth");
    let generic = node.xdp_mode == XdpMode::Generic || one.xdp.iter().any(|(how, _)| *how == Attachment::Generic);
    let features = match &driver.xdp {
        Ok(features) => features,
        Err(unknown) => return XDP_TRANSMIT.unchecked(unknown.0.clone()),
    };
    // What comes in by another interface is redirected into this one; into a veth even what came in by itself needs a
    // receiving end that polls.
    let must_transmit = !generic && features.native && (is_veth || node.interfaces.len() > 1);
    if must_transmit && !features.transmit {
        return if is_veth {
            XDP_TRANSMIT.wrong(
                "its other end does not poll: what `steer` sends is dropped",
                "attach an XDP program to the other end of the veth, be it one that passes everything",
            )
        } else {
            XDP_TRANSMIT.wrong(
                format!("the driver{} cannot send what another interface redirects here", driver_name(driver)),
                "set `xdp_mode = \"generic\"`, or use one interface for clients and nodes",
            )
        };
    }
    let failed: Vec<_> = driver.xdp_errors.iter().filter(|(_, count)| *count > 0).collect();
    if failed.is_empty() {
        return XDP_TRANSMIT.ok("the driver has dropped nothing that `steer` sent");
    }
    let list = failed.iter().map(|(counter, count)| format!("{counter} {count}")).collect::<Vec<_>>().join(", ");
    XDP_TRANSMIT.warning(
        format!("frames sent from XDP were dropped: {list}"),
        format!(
            "watch whether it goes on (ethtool -S {name}); if so, give the card more or longer queues (ethtool -L, -G)"
        ),
    )
}

fn offloads(one: &Interface, driver: &Driver) -> Finding {
    match &driver.lro {
        Ok(true) => OFFLOADS.warning("large receive offload is on", format!("ethtool -K {} lro off", one.name)),
        Ok(false) => OFFLOADS.ok("large receive offload is off"),
        Err(unknown) => OFFLOADS.unchecked(unknown.0.clone()),
    }
}

fn mtu(node: &Node, one: &Interface) -> Finding {
    let (name, mtu) = (&one.name, one.mtu);
    let ipv6 = node.services.iter().any(|service| service.address.is_ipv6());
    let least = if ipv6 { LEAST_MTU_IPV6 } else { LEAST_MTU_IPV4 };
    if mtu < least {
        return MTU.wrong(
            format!("an MTU of {mtu} is too small to tunnel packets between nodes: {least} is the least"),
            format!("ip link set {name} mtu 1500"),
        );
    }
    let attached = one.xdp.iter().any(|(how, _)| *how != Attachment::Generic);
    if mtu > LARGEST_NATIVE_MTU && node.xdp_mode != XdpMode::Generic && !attached {
        return MTU.warning(
            format!("an MTU of {mtu} is more than most drivers take while XDP runs in them"),
            format!("ip link set {name} mtu {LARGEST_NATIVE_MTU}, or set `xdp_mode = \"generic\"` to accept it"),
        );
    }
    MTU.ok(mtu.to_string())
}

#[cfg(test)]
#[path = "interfaces_tests.rs"]
mod tests;
