//! What is connected to what, as commands for `ip`. Pure: text out, nothing is run here.
//!
//! ```text
//! client0 ─┐               ┌─ node0
//! client1 ─┤ router ─ fleet┼─ node1      192.0.2.1 on lo of every node,
//! pusher  ─┘ (a bridge in it)  …         routed by the router to one of them, the edge
//! ```

use super::addresses;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// The name that every host but the router has for its one interface.
pub const INTERFACE: &str = "eth0";

/// The router's bridge to the nodes.
pub const BRIDGE: &str = "fleet";

/// The metric of the routes over the veth links: a rough link puts better ones (0) in front of them, and when its
/// device goes, the kernel falls back to these by itself.
pub const METRIC: u32 = 100;

/// A host beside the router, as the topology sees it.
pub struct Link {
    /// The host's namespace.
    pub namespace: String,
    /// The router's end of the link.
    pub router_interface: String,
    /// The host's address.
    pub address: Ipv4Addr,
    /// Whether it is a node on the fleet bridge, or a client on a link of its own.
    pub is_node: bool,
}

/// Settings that interfaces made later inherit; applied in every namespace right after it was made.
pub fn early_sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        // Answers go straight from the owner to the client: routes are asymmetric by design.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        // No neighbour discovery or router solicitation between the packets a test counts.
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ]
}

/// Settings of the router.
pub fn router_sysctls() -> &'static [(&'static str, &'static str)] {
    &[("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/send_redirects", "0")]
}

/// Settings of a node, once its interface exists.
pub fn node_sysctls() -> &'static [(&'static str, &'static str)] {
    &[
        // Every node has the virtual address, and no node may answer ARP for it.
        ("net/ipv4/conf/all/arp_ignore", "1"),
        ("net/ipv4/conf/all/arp_announce", "2"),
        // bpf_fib_lookup refuses on an interface that does not forward.
        ("net/ipv4/conf/eth0/forwarding", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/eth0/send_redirects", "0"),
        // Anything but 0 lets the kernel create sockets from cookies that it did not send itself.
        ("net/ipv4/tcp_syncookies", "1"),
    ]
}

/// The batch for the router: it makes all links, the far ends directly in the hosts' namespaces, so nothing is ever
/// created in the namespace the machine itself lives in.
pub fn router_batch(links: &[Link]) -> String {
    let mut batch = format!(
        "link set lo up\n\
         link add {BRIDGE} address {} type bridge forward_delay 0 stp_state 0 mcast_snooping 0\n\
         addr add {}/24 dev {BRIDGE}\n\
         link set {BRIDGE} up\n",
        addresses::link_address(addresses::ROUTER_FLEET, 1),
        addresses::ROUTER_FLEET,
    );
    for Link { namespace, router_interface, address, is_node } in links {
        let (near, far) = (addresses::link_address(*address, 1), addresses::link_address(*address, 0));
        let _ = writeln!(
            batch,
            "link add {router_interface} address {near} type veth peer name {INTERFACE} address {far} netns {namespace}"
        );
        if *is_node {
            let _ = writeln!(batch, "link set {router_interface} master {BRIDGE} up");
        } else {
            let (router, spare) = (addresses::ROUTER_CLIENT, addresses::spare(*address));
            let _ = writeln!(
                batch,
                "link set {router_interface} up\n\
                 addr add {router}/32 dev {router_interface}\n\
                 route add {address}/32 dev {router_interface} src {router} metric {METRIC}\n\
                 route add {spare}/32 dev {router_interface} src {router}\n\
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
    let address = link.address;
    if link.is_node {
        format!(
            "link set lo up\n\
             addr add {}/32 dev lo\n\
             addr add {address}/24 dev {INTERFACE}\n\
             link set {INTERFACE} up\n\
             route add default via {}\n",
            addresses::VIRTUAL,
            addresses::ROUTER_FLEET
        )
    } else {
        format!(
            "link set lo up\n\
             addr add {address}/32 dev {INTERFACE}\n\
             link set {INTERFACE} up\n\
             route add default via {} dev {INTERFACE} onlink src {address} metric {METRIC}\n",
            addresses::ROUTER_CLIENT
        )
    }
}
