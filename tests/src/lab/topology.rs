//! What is connected to what, as commands for `ip`. Pure: text out, nothing is run here.
//!
//! ```text
//! client0 ─┐               ┌─ node0
//! client1 ─┤ router ─ fleet┼─ node1      192.0.2.1 and 2001:db8:2::1 on lo of every node,
//! pusher  ─┘ (a bridge in it) …          routed by the router to one of them, the edge
//!                          └─ store0     a host beside the fleet, for what its nodes share
//! ```
//!
//! IPv6 addresses are given in full, link-local ones included, and without duplicate address detection: nothing in a lab
//! waits for a timer of the kernel, and nobody speaks unasked.

use super::Family;
use super::addresses::{self, Addresses};
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

/// The name that every host but the router has for its one interface.
pub const INTERFACE: &str = "eth0";

/// The router's bridge to the nodes.
pub const BRIDGE: &str = "fleet";

/// The metric of the routes over the veth links: a rough link puts better ones in front of them, and when its device
/// goes, the kernel falls back to these by itself.
pub const METRIC: u32 = 100;

/// What a host beside the router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the fleet's bridge, with the virtual addresses.
    Node,
    /// On the fleet's bridge, an ordinary host.
    Store,
    /// On a link of its own.
    Client,
}

/// A host beside the router, as the topology sees it.
pub struct Link {
    /// The host's namespace.
    pub namespace: String,
    /// The router's end of the link.
    pub router_interface: String,
    /// The host's addresses.
    pub addresses: Addresses,
    /// Where it stands.
    pub place: Place,
}

/// Settings that interfaces made later inherit; applied in every namespace right after it was made.
pub fn early_sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        // Answers go straight from the owner to the client: routes are asymmetric by design.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        // Addresses can be used at once, and no router is asked for between the packets a test counts.
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv6/conf/default/router_solicitations", "0"),
        // No link-local address of the kernel's choosing: it would come when the link is up, which is later.
        ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ]
}

/// Settings of the router.
pub fn router_sysctls() -> &'static [(&'static str, &'static str)] {
    &[("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/send_redirects", "0"), ("net/ipv6/conf/all/forwarding", "1")]
}

/// Settings of the router that only a kernel with bridge filtering has: no packet between the nodes is shown to its IP
/// filters. There are none, and asking costs each packet time.
pub fn bridge_sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        ("net/bridge/bridge-nf-call-arptables", "0"),
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ]
}

/// Settings of a node, once its interface exists.
pub fn node_sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        // Every node has the virtual address, and no node may answer ARP for it. Neighbour discovery needs no such
        // setting: Linux answers it for addresses of the interface asked on, and the virtual one is on lo.
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
        // bpf_fib_lookup refuses on an interface that does not forward.
        ("net/ipv4/conf/eth0/forwarding", "1"),
        ("net/ipv6/conf/eth0/forwarding", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
        // Anything but 0 lets the kernel create sockets from cookies that it did not send itself.
        ("net/ipv4/tcp_syncookies", "1"),
    ]
}

/// The addresses that a host has on its interface or, a node, on `lo`.
pub fn local_addresses(link: &Link) -> impl Iterator<Item = IpAddr> {
    let shared = (link.place == Place::Node).then_some(addresses::VIRTUAL);
    [link.addresses].into_iter().chain(shared).flat_map(Addresses::each)
}

/// The batch for the router: it makes all links, the far ends directly in the hosts' namespaces, so nothing is ever
/// created in the namespace the machine itself lives in.
pub fn router_batch(links: &[Link]) -> String {
    let mut batch = format!(
        "link set lo up\n\
         link add {BRIDGE} address {} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
         link set {BRIDGE} up\n\
         {}",
        addresses::link_address(addresses::ROUTER_FLEET, 1),
        interface_addresses(BRIDGE, addresses::ROUTER_FLEET, Place::Store),
    );
    for Link { namespace, router_interface, addresses: host, place } in links {
        let (near, far) = (addresses::link_address(*host, 1), addresses::link_address(*host, 0));
        let _ = writeln!(
            batch,
            "link add {router_interface} address {near} type veth peer name {INTERFACE} address {far} netns {namespace}"
        );
        if *place != Place::Client {
            let _ = writeln!(batch, "link set {router_interface} master {BRIDGE} up");
            continue;
        }
        let _ = writeln!(batch, "link set {router_interface} up");
        batch += &interface_addresses(router_interface, addresses::ROUTER_CLIENT, Place::Client);
        for family in Family::ALL {
            let bits = family.bits();
            let [host, spare, router] =
                [*host, addresses::spare(*host), addresses::ROUTER_CLIENT].map(|both| both.of(family));
            let _ = writeln!(
                batch,
                "route add {host}/{bits} dev {router_interface} src {router} metric {METRIC}\n\
                 route add {spare}/{bits} dev {router_interface} src {router}\n\
                 neigh add {spare} lladdr {far} dev {router_interface} nud permanent"
            );
        }
    }
    for (network, bits) in addresses::NOBODY {
        let _ = writeln!(batch, "route add blackhole {network}/{bits}");
    }
    batch
}

/// The batch for a client, a node or the pusher, once its interface exists.
pub fn host_batch(link: &Link) -> String {
    let mut batch = "link set lo up\n".to_owned();
    if link.place == Place::Node {
        for address in addresses::VIRTUAL.each() {
            let _ = writeln!(batch, "addr add {address}/{} dev lo", Family::of(address).bits());
        }
    }
    let _ = writeln!(batch, "link set {INTERFACE} up");
    batch += &interface_addresses(INTERFACE, link.addresses, link.place);
    for family in Family::ALL {
        let everywhere = family.unspecified();
        let _ = if link.place == Place::Client {
            let (router, host) = (addresses::ROUTER_CLIENT.of(family), link.addresses.of(family));
            writeln!(batch, "route add {everywhere}/0 via {router} dev {INTERFACE} onlink src {host} metric {METRIC}")
        } else {
            writeln!(batch, "route add {everywhere}/0 via {}", addresses::ROUTER_FLEET.of(family))
        };
    }
    batch
}

/// An interface gets a host's addresses. On the fleet's bridge they come with the network's prefix.
fn interface_addresses(interface: &str, host: Addresses, place: Place) -> String {
    let (v4_bits, v6_bits) = if place == Place::Client { (32, 128) } else { (24, 64) };
    // Neighbour discovery speaks from it, where a packet's own source is another host's.
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host.v6.segments()[7]);
    format!(
        "addr add {}/{v4_bits} dev {interface}\n\
         addr add {}/{v6_bits} dev {interface} nodad\n\
         addr add {link_local}/64 dev {interface} nodad\n",
        host.v4, host.v6
    )
}
