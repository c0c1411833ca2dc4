//! To the node that holds a flow: up this node's own TCP stack, or through the tunnel.

use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, xdp_action},
    helpers::generated::{bpf_fib_lookup, bpf_redirect, bpf_xdp_adjust_head},
    programs::XdpContext,
};
use ringsteer_ebpf::{
    layout::{stats::Counter, unmapped},
    tunnel,
    wire::{
        checksum,
        headers::{ADMISSION_MARK, DONT_FRAGMENT, ETHERTYPE_IPV4, IPV4_PLAIN, Ipv4, Ports, Tcp, protocol},
    },
};

use crate::{
    Verdict,
    maps::{NEXT_HOPS, NODES, NextHop, THIS_NODE, TUNNEL_HEADERS, count, counted},
    packet::{IP_AT, L4_AT, at},
};

/// How long the kernel's answer to "how do I reach this node" is believed, in nanoseconds. A route or neighbour that
/// changes is followed within this time; at any rate worth speeding up, the lookup's cost vanishes.
const NEXT_HOP_LIFE_NS: u64 = 100_000_000;

/// Bytes put in front of the packet: the tunnel's IPv4 and UDP headers. The Ethernet header is written anew.
const OVERHEAD: i32 = tunnel::OVERHEAD_V4 as i32;

/// Marks the segment for admission.
#[inline(always)]
pub fn mark(ctx: &XdpContext) {
    let Some(tcp) = at::<Tcp>(ctx, L4_AT) else { return };
    // SAFETY: `at` has checked that the header is inside the packet.
    let tcp = unsafe { &mut *tcp };
    tcp.set_offset_reserved(tcp.offset_reserved | ADMISSION_MARK);
}

/// Sends the packet, an IPv4 one, to `node`.
#[inline(always)]
pub fn to(ctx: &XdpContext, node: u32, now_ns: u64) -> Verdict {
    let Some(hop) = NEXT_HOPS.get_ptr_mut(node) else { return Err(Counter::drop_unknown_node) };
    // SAFETY: the entry is this CPU's own.
    let hop = unsafe { &mut *hop };
    if now_ns >= hop.expires_ns {
        resolve(ctx, node, now_ns, hop)?;
    }
    if hop.here != 0 {
        return counted(Counter::delivered, xdp_action::XDP_PASS);
    }
    encapsulate(ctx, hop)?;
    count(Counter::tunnelled);
    if hop.ifindex == ctx.ingress_ifindex() as u32 {
        return Ok(xdp_action::XDP_TX);
    }
    // SAFETY: no pointers; an interface that has gone makes the kernel drop the packet.
    Ok(unsafe { bpf_redirect(hop.ifindex, 0) } as u32)
}

/// Puts the tunnel's headers in front of the packet.
#[inline(always)]
fn encapsulate(ctx: &XdpContext, hop: &NextHop) -> Result<(), Counter> {
    let (Some(ip), Some(ports)) = (at::<Ipv4>(ctx, IP_AT), at::<Ports>(ctx, L4_AT)) else {
        return Err(Counter::drop_malformed);
    };
    // SAFETY: `at` has checked that the headers are inside the packet.
    let (inner_length, source_port) =
        unsafe { (u16::from_be((*ip).total_length), tunnel::source_port((*ip).source, (*ports).source)) };
    // SAFETY: the context is the program's own; the packet pointers above are not used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -OVERHEAD) } != 0 {
        return Err(Counter::drop_no_headroom);
    }
    let Some(headers) = at::<[u32; 10]>(ctx, 0) else { return Err(Counter::drop_no_headroom) };
    let Some(tail) = at::<u16>(ctx, TUNNEL_HEADERS - 2) else { return Err(Counter::drop_no_headroom) };
    let length = (inner_length as u32 + OVERHEAD as u32) as u16;
    let udp_length = (length as u32 - 20) as u16;
    let ip_checksum = checksum::finish(hop.ip_sum + length.to_be() as u32);
    // SAFETY: `at` has checked that the 42 bytes are inside the packet. Words of headers, by the offset of their field:
    // IPv4 total length at 16, checksum at 24; UDP source port at 34, length at 38; UDP checksum at 40, zero: the inner
    // packet has its own, and the one in UDP is optional over IPv4 (RFC 768).
    unsafe {
        let words = &hop.headers;
        (*headers)[0] = words[0];
        (*headers)[1] = words[1];
        (*headers)[2] = words[2];
        (*headers)[3] = words[3];
        (*headers)[4] = words[4] | length.to_be() as u32;
        (*headers)[5] = words[5];
        (*headers)[6] = words[6] | ip_checksum as u32;
        (*headers)[7] = words[7];
        (*headers)[8] = words[8] | (source_port.to_be() as u32) << 16;
        (*headers)[9] = words[9] | (udp_length.to_be() as u32) << 16;
        *tail = 0;
    }
    Ok(())
}

/// Asks the kernel how to reach `node`, and remembers the answer.
#[inline(never)]
fn resolve(ctx: &XdpContext, node: u32, now_ns: u64, hop: &mut NextHop) -> Result<(), Counter> {
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    let Some(target) = (unsafe { NODES.get(node) }) else { return Err(Counter::drop_unknown_node) };
    if target.here != 0 {
        hop.here = 1;
        hop.expires_ns = now_ns + NEXT_HOP_LIFE_NS;
        return Ok(());
    }
    let Some(this_node) = THIS_NODE.get(0) else { return Err(Counter::drop_internal) };
    let (Some(from), Some(to)) = (unmapped(&this_node.address), unmapped(&target.address)) else {
        return Err(Counter::drop_no_route);
    };
    let (from, to) = (u32::from_ne_bytes(from), u32::from_ne_bytes(to));
    // SAFETY: all-zero is a valid value of this struct of integers.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    /// AF_INET.
    const INET: u8 = 2;
    lookup.family = INET;
    lookup.l4_protocol = protocol::UDP;
    lookup.ifindex = ctx.ingress_ifindex() as u32;
    lookup.__bindgen_anon_3.ipv4_src = from;
    lookup.__bindgen_anon_4.ipv4_dst = to;
    // SAFETY: the struct is as large as we say.
    let answer = unsafe { bpf_fib_lookup(ctx.ctx.cast(), &raw mut lookup, size_of::<FibLookup>() as i32, 0) };
    /// BPF_FIB_LKUP_RET_NO_NEIGH.
    const NO_NEIGHBOUR: i64 = 7;
    match answer {
        0 => {}
        NO_NEIGHBOUR => return Err(Counter::drop_no_neighbour),
        _ => return Err(Counter::drop_no_route),
    }
    let [d0, d1, d2, d3, d4, d5] = lookup.dmac;
    let [s0, s1, s2, s3, s4, s5] = lookup.smac;
    let port = (this_node.tunnel_port as u16).to_be() as u32;
    let (from_low, from_high) = (from & 0xffff, from >> 16);
    let (to_low, to_high) = (to & 0xffff, to >> 16);
    hop.headers = [
        u32::from_ne_bytes([d0, d1, d2, d3]),
        u32::from_ne_bytes([d4, d5, s0, s1]),
        u32::from_ne_bytes([s2, s3, s4, s5]),
        // Ethernet type, IPv4 version and length, type of service.
        ETHERTYPE_IPV4 as u32 | (IPV4_PLAIN as u32) << 16,
        // Total length, identification.
        0,
        // Fragment field, time to live, protocol.
        DONT_FRAGMENT as u32 | 64 << 16 | (protocol::UDP as u32) << 24,
        // Checksum, source address.
        from_low << 16,
        from_high | to_low << 16,
        // Destination address, UDP source port.
        to_high,
        // UDP destination port, length.
        port,
        // UDP checksum.
        0,
    ];
    hop.ip_sum = IPV4_PLAIN as u32
        + DONT_FRAGMENT as u32
        + (64 | (protocol::UDP as u32) << 8)
        + checksum::halves(from)
        + checksum::halves(to);
    hop.ifindex = lookup.ifindex;
    hop.here = 0;
    hop.build = crate::BUILD;
    hop.expires_ns = now_ns + NEXT_HOP_LIFE_NS;
    Ok(())
}
