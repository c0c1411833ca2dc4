//! The virtual addresses and our own.

use std::net::IpAddr;

use crate::doctor::{
    facts::{Address, Facts},
    finding::{Check, Finding},
    subject::Node,
};

/// On `lo` of every node.
pub const VIRTUAL: Check = Check {
    name: "virtual-address",
    why: "A packet for an address that this host does not have is not taken in, and the gateway cannot listen on it. On \
          `lo` it is taken in without being announced.",
};

/// What the ring says about us.
pub const OWN: Check = Check {
    name: "node-address",
    why: "The other nodes send their tunnel packets to the address in the ring, and take packets from that one only.",
};

pub(super) fn all(node: &Node, facts: &Facts) -> Vec<Finding> {
    let addresses = match &facts.addresses {
        Ok(addresses) => addresses,
        Err(unknown) => return vec![VIRTUAL.unchecked(unknown.0.clone()), OWN.unchecked(unknown.0.clone())],
    };
    let virtuals = node.virtual_addresses();
    let mut findings: Vec<_> = virtuals.iter().map(|one| virtual_address(*one, addresses, facts)).collect();
    findings.extend(own(node, addresses));
    findings
}

/// Length of a prefix that holds one address only.
fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn virtual_address(wanted: IpAddr, addresses: &[Address], facts: &Facts) -> Finding {
    let add = format!("ip address add {wanted}/{} dev lo", host_prefix(wanted));
    let here: Vec<_> = addresses.iter().filter(|one| one.address == wanted).collect();
    let finding = if here.is_empty() {
        VIRTUAL.wrong("not an address of this host", add)
    } else if let Some(loud) = here.iter().find(|one| facts.interface(one.interface).is_some_and(|on| on.arp)) {
        let on = facts.interface_name(loud.interface);
        VIRTUAL.warning(
            format!("on {on}, which answers for it: right on the one node that announces it, and nowhere else"),
            format!("on the other nodes: ip address del {wanted}/{} dev {on} && {add}", loud.prefix),
        )
    } else if let Some(wide) = here.iter().find(|one| one.prefix < host_prefix(wanted)) {
        let on = facts.interface_name(wide.interface);
        VIRTUAL.warning(
            format!(
                "/{} on {on} makes this host take the whole network for itself: no one in it is answered",
                wide.prefix
            ),
            format!("ip address del {wanted}/{} dev {on} && {add}", wide.prefix),
        )
    } else {
        VIRTUAL.ok(format!("on {}", facts.interface_name(here[0].interface)))
    };
    finding.about(wanted.to_string())
}

fn own(node: &Node, addresses: &[Address]) -> Option<Finding> {
    let ours = node.own_address()?;
    let finding = if addresses.iter().any(|one| one.address == ours) {
        OWN.ok("an address of this host")
    } else {
        OWN.wrong(
            format!("the others send there what is for {}, and it is not an address of this host", node.identity),
            "correct `identity` or `address` in this node's configuration, or the member's `address` in the ring",
        )
    };
    Some(finding.about(ours.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::Outcome,
        fixtures::{healthy, node},
    };

    fn first(facts: &Facts, check: &Check) -> Finding {
        all(&node(), facts).into_iter().find(|finding| finding.check == check.name).unwrap()
    }

    fn with(change: impl FnOnce(&mut Vec<Address>)) -> Facts {
        let mut facts = healthy();
        change(facts.addresses.as_mut().unwrap());
        facts
    }

    #[test]
    fn the_virtual_address_is_missing_loud_or_too_wide() {
        assert_eq!(first(&healthy(), &VIRTUAL).found, "on lo");
        let missing = first(&with(|all| all.retain(|one| one.address.to_string() != "192.0.2.1")), &VIRTUAL);
        assert_eq!(
            (missing.outcome, missing.mend.as_deref()),
            (Outcome::Wrong, Some("ip address add 192.0.2.1/32 dev lo"))
        );
        let loud = first(&with(|all| all[0].interface = 2), &VIRTUAL);
        assert!(loud.outcome == Outcome::Warning && loud.found.contains("eth0"), "{loud:?}");
        let wide = first(&with(|all| all[0].prefix = 24), &VIRTUAL);
        assert_eq!(wide.outcome, Outcome::Warning);
        assert_eq!(wide.mend.unwrap(), "ip address del 192.0.2.1/24 dev lo && ip address add 192.0.2.1/32 dev lo");
    }

    #[test]
    fn the_ring_knows_where_we_are() {
        assert_eq!(first(&healthy(), &OWN).outcome, Outcome::Ok);
        let elsewhere = first(&with(|all| all[1].address = "198.51.100.99".parse().unwrap()), &OWN);
        assert!(elsewhere.outcome == Outcome::Wrong && elsewhere.found.contains("gw-1.example:88"), "{elsewhere:?}");
    }
}
