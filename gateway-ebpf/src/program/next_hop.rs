//! The kernel's answer to "how do I reach this node", remembered for a moment with the tunnel's headers prepared.

use aya_ebpf::{bindings::bpf_fib_lookup as FibLookup, helpers::generated::bpf_fib_lookup, programs::XdpContext};
use ringsteer_ebpf::{
    layout::{MAPPED_PREFIX, node::ThisNode, stats::Counter},
    wire::{
        checksum,
        family::Words,
        headers::{DONT_FRAGMENT, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4_PLAIN, IPV6_PLAIN, protocol},
    },
};

use crate::maps::{self, NEXT_HOPS_6, NODES, NextHop, THIS_NODE};

/// How long the kernel's answer is believed, in nanoseconds. A route or neighbour that changes is followed within this
/// time; at any rate worth speeding up, the lookup's cost vanishes.
const LIFE_NS: u64 = 100_000_000;

/// Hops that a tunnel packet may take.
const TTL: u32 = 64;

/// How packets reach a node; values of [`NextHop::way`].
pub mod way {
    pub const OVER_IPV4: u32 = 0;
    pub const OVER_IPV6: u32 = 1;
    /// The node is this one.
    pub const HERE: u32 = 2;
}

/// The tunnel's ends.
struct Ends {
    from: Words,
    to: Words,
}

/// Asks the kernel how to reach `node`, and remembers the answer.
#[inline(never)]
pub fn resolve(ctx: &XdpContext, node: u32, now_ns: u64, hop: &mut NextHop) -> Result<(), Counter> {
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    let Some(target) = (unsafe { NODES.get(node) }) else { return Err(Counter::drop_unknown_node) };
    if target.here != 0 {
        hop.way = way::HERE;
        hop.expires_ns = now_ns + LIFE_NS;
        return Ok(());
    }
    let Some(this_node) = THIS_NODE.get(0) else { return Err(Counter::drop_internal) };
    let ends = Ends { from: bytemuck::cast(this_node.address), to: bytemuck::cast(target.address) };
    let ([a, b, c, from], [d, e, f, to]) = (ends.from, ends.to);
    match ([a, b, c] == MAPPED_PREFIX, [d, e, f] == MAPPED_PREFIX) {
        (true, true) => over_ipv4(ctx, this_node, from, to, hop)?,
        (false, false) => over_ipv6(ctx, this_node, &ends, node, hop)?,
        // A tunnel has one family; the agent refuses such a ring.
        _ => return Err(Counter::drop_no_route),
    }
    hop.build = crate::BUILD;
    hop.expires_ns = now_ns + LIFE_NS;
    Ok(())
}

/// The route to a node on an IPv4 network, looked up as for a packet to be forwarded.
#[inline(always)]
fn over_ipv4(ctx: &XdpContext, this_node: &ThisNode, from: u32, to: u32, hop: &mut NextHop) -> Result<(), Counter> {
    /// AF_INET.
    const INET: u8 = 2;
    let lookup = question(INET, ctx.ingress_ifindex() as u32)?;
    lookup.__bindgen_anon_3.ipv4_src = from;
    lookup.__bindgen_anon_4.ipv4_dst = to;
    ask(ctx, lookup)?;
    let [first, second, third] = link_addresses(lookup);
    let port = (this_node.tunnel_port as u16).to_be() as u32;
    hop.headers = [
        first,
        second,
        third,
        // Ethernet type, IPv4 version and length, type of service.
        ETHERTYPE_IPV4 as u32 | (IPV4_PLAIN as u32) << 16,
        // Total length, identification.
        0,
        // Fragment field, time to live, protocol.
        DONT_FRAGMENT as u32 | TTL << 16 | (protocol::UDP as u32) << 24,
        // Checksum, source address.
        from << 16,
        from >> 16 | to << 16,
        // Destination address, UDP source port.
        to >> 16,
        // UDP destination port, length.
        port,
        // UDP checksum.
        0,
    ];
    hop.ip_sum = IPV4_PLAIN as u32
        + DONT_FRAGMENT as u32
        + (TTL | (protocol::UDP as u32) << 8)
        + checksum::halves(from)
        + checksum::halves(to);
    hop.ifindex = lookup.ifindex;
    hop.way = way::OVER_IPV4;
    Ok(())
}

/// The route to a node on an IPv6 network, looked up as for a packet of this host's own.
///
/// That is what a tunnel packet is. It also keeps hands off the interfaces: the kernel answers only if `forwarding` is
/// on at the interface that the lookup names, and that makes of an interface a router, which believes no router
/// advertisement any more. At `lo` nothing depends on it.
#[inline(always)]
fn over_ipv6(ctx: &XdpContext, this_node: &ThisNode, ends: &Ends, node: u32, hop: &mut NextHop) -> Result<(), Counter> {
    /// AF_INET6.
    const INET6: u8 = 10;
    /// LOOPBACK_IFINDEX, where the kernel takes its own packets to come from.
    const LOOPBACK: u32 = 1;
    let Some(prepared) = NEXT_HOPS_6.get_ptr_mut(node) else { return Err(Counter::drop_internal) };
    let lookup = question(INET6, LOOPBACK)?;
    lookup.__bindgen_anon_3.ipv6_src = ends.from;
    lookup.__bindgen_anon_4.ipv6_dst = ends.to;
    ask(ctx, lookup)?;
    let [first, second, third] = link_addresses(lookup);
    let port = (this_node.tunnel_port as u16).to_be() as u32;
    let ([f0, f1, f2, f3], [t0, t1, t2, t3]) = (ends.from, ends.to);
    let headers = [
        first,
        second,
        third,
        // Ethernet type, IPv6 version, traffic class, high bits of the flow label.
        ETHERTYPE_IPV6 as u32 | IPV6_PLAIN << 16,
        // Low bits of the flow label, payload length.
        0,
        // Next header, hop limit, source address.
        protocol::UDP as u32 | TTL << 8 | f0 << 16,
        f0 >> 16 | f1 << 16,
        f1 >> 16 | f2 << 16,
        f2 >> 16 | f3 << 16,
        f3 >> 16 | t0 << 16,
        t0 >> 16 | t1 << 16,
        t1 >> 16 | t2 << 16,
        t2 >> 16 | t3 << 16,
        // Destination address, UDP source port.
        t3 >> 16,
        // UDP destination port, length.
        port,
    ];
    // SAFETY: the entry is this CPU's own.
    unsafe { (*prepared).headers = headers };
    hop.ifindex = lookup.ifindex;
    hop.way = way::OVER_IPV6;
    Ok(())
}

/// A question for the kernel, in the scratch memory: it would be a good part of the stack.
#[inline(always)]
fn question(family: u8, ifindex: u32) -> Result<&'static mut FibLookup, Counter> {
    let Some(scratch) = maps::scratch() else { return Err(Counter::drop_internal) };
    // SAFETY: the scratch memory is this CPU's own, and the one before is answered; all-zero is a valid value of this
    // struct of integers.
    let lookup = unsafe {
        (*scratch).lookup = core::mem::zeroed();
        &mut (*scratch).lookup
    };
    lookup.family = family;
    lookup.l4_protocol = protocol::UDP;
    lookup.ifindex = ifindex;
    Ok(lookup)
}

/// Has the kernel fill in where the packet leaves, and the link-layer addresses.
#[inline(always)]
fn ask(ctx: &XdpContext, lookup: &mut FibLookup) -> Result<(), Counter> {
    /// BPF_FIB_LKUP_RET_NO_NEIGH.
    const NO_NEIGHBOUR: i64 = 7;
    // SAFETY: the struct is as large as we say.
    match unsafe { bpf_fib_lookup(ctx.ctx.cast(), lookup, size_of::<FibLookup>() as i32, 0) } {
        0 => Ok(()),
        NO_NEIGHBOUR => Err(Counter::drop_no_neighbour),
        _ => Err(Counter::drop_no_route),
    }
}

/// Destination and source of the Ethernet header, as its first three words.
#[inline(always)]
fn link_addresses(lookup: &FibLookup) -> [u32; 3] {
    let [d0, d1, d2, d3, d4, d5] = lookup.dmac;
    let [s0, s1, s2, s3, s4, s5] = lookup.smac;
    [u32::from_ne_bytes([d0, d1, d2, d3]), u32::from_ne_bytes([d4, d5, s0, s1]), u32::from_ne_bytes([s2, s3, s4, s5])]
}
