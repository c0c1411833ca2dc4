//! To the node that holds a flow: up this node's own TCP stack, or through the tunnel.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_redirect, bpf_xdp_adjust_head},
    programs::XdpContext,
};
use ringsteer_ebpf::{
    layout::stats::Counter,
    tunnel,
    wire::{
        checksum,
        family::{Family, V4, V6},
        headers::{ADMISSION_MARK, ETHERNET, IPV4, IPV6, Ports, Tcp, UDP},
    },
};

use crate::{
    Verdict,
    maps::{NEXT_HOPS, NEXT_HOPS_6, NextHop, count, counted},
    moving,
    next_hop::{self, way},
    packet::{IP_AT, at, l4_at},
};

/// Marks the segment for admission.
#[inline(always)]
pub fn mark<F: Family>(ctx: &XdpContext) {
    let Some(tcp) = at::<Tcp>(ctx, l4_at::<F>()) else { return };
    // SAFETY: `at` has checked that the header is inside the packet.
    let tcp = unsafe { &mut *tcp };
    tcp.set_offset_reserved(tcp.offset_reserved | ADMISSION_MARK);
}

/// Sends the packet, one of family `F`, to `node`, unless that is this one and the connection is on the move.
#[inline(always)]
pub fn to<F: Family>(ctx: &XdpContext, node: u32, now_ns: u64) -> Verdict {
    send::<F>(ctx, node, now_ns, true)
}

/// Sends the packet to `node`, whatever is on the move.
#[inline(always)]
pub fn onward<F: Family>(ctx: &XdpContext, node: u32, now_ns: u64) -> Verdict {
    send::<F>(ctx, node, now_ns, false)
}

#[inline(always)]
fn send<F: Family>(ctx: &XdpContext, node: u32, now_ns: u64, may_move: bool) -> Verdict {
    let Some(hop) = NEXT_HOPS.get_ptr_mut(node) else { return Err(Counter::drop_unknown_node) };
    // SAFETY: the entry is this CPU's own.
    let hop = unsafe { &mut *hop };
    if now_ns >= hop.expires_ns {
        next_hop::resolve(ctx, node, now_ns, hop)?;
    }
    if hop.way == way::HERE {
        if may_move && moving::any() {
            match moving::of_arrived::<F>(ctx) {
                moving::STAYS => {}
                moving::HELD => return Err(Counter::held),
                node => return Ok(moving::send_arrived::<F>(ctx, node)),
            }
        }
        return counted(Counter::delivered, xdp_action::XDP_PASS);
    }
    let inner = Inner::read::<F>(ctx)?;
    let done = if hop.way == way::OVER_IPV4 { over_ipv4(ctx, hop, &inner) } else { over_ipv6(ctx, node, inner) };
    if !done {
        return Err(Counter::drop_no_headroom);
    }
    count(Counter::tunnelled);
    if hop.ifindex == ctx.ingress_ifindex() as u32 {
        return Ok(xdp_action::XDP_TX);
    }
    // SAFETY: no pointers; an interface that has gone makes the kernel drop the packet.
    Ok(unsafe { bpf_redirect(hop.ifindex, 0) } as u32)
}

/// What the tunnel's headers depend on, besides the node.
#[derive(Clone, Copy)]
struct Inner {
    /// Length of the packet that goes into the tunnel, in bytes.
    length: u16,
    /// UDP source port.
    source_port: u16,
}

impl Inner {
    #[inline(always)]
    fn read<F: Family>(ctx: &XdpContext) -> Result<Self, Counter> {
        let (Some(ip), Some(ports)) = (at::<F::Header>(ctx, IP_AT), at::<Ports>(ctx, l4_at::<F>())) else {
            return Err(Counter::drop_malformed);
        };
        // SAFETY: `at` has checked that the headers are inside the packet.
        let (ip, ports) = unsafe { (&*ip, &*ports) };
        let source_port = tunnel::source_port(F::entropy(F::source(ip)), ports.source);
        Ok(Self { length: F::length(ip) as u16, source_port })
    }
}

/// Puts the headers of an IPv4 tunnel in front of the packet, in place of its Ethernet header. Tells whether there was
/// room.
#[inline(always)]
fn over_ipv4(ctx: &XdpContext, hop: &NextHop, inner: &Inner) -> bool {
    /// Ethernet, IPv4, UDP.
    const HEADERS: usize = ETHERNET + V4::HEADER + UDP;
    const OVERHEAD: i32 = tunnel::OVERHEAD_V4 as i32;
    // SAFETY: the context is the program's own; no packet pointer from before is used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -OVERHEAD) } != 0 {
        return false;
    }
    let Some(headers) = at::<[u32; 10]>(ctx, 0) else { return false };
    let Some(tail) = at::<u16>(ctx, HEADERS - 2) else { return false };
    let length = (inner.length as u32 + OVERHEAD as u32) as u16;
    let udp_length = (length as u32 - IPV4 as u32) as u16;
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
        (*headers)[8] = words[8] | (inner.source_port.to_be() as u32) << 16;
        (*headers)[9] = words[9] | (udp_length.to_be() as u32) << 16;
        *tail = 0;
    }
    true
}

/// The same with those of an IPv6 tunnel.
#[inline(never)]
fn over_ipv6(ctx: &XdpContext, node: u32, inner: Inner) -> bool {
    /// Ethernet, IPv6, UDP.
    const HEADERS: usize = ETHERNET + V6::HEADER + UDP;
    const OVERHEAD: i32 = tunnel::OVERHEAD_V6 as i32;
    let Some(prepared) = NEXT_HOPS_6.get_ptr(node) else { return false };
    // SAFETY: the entry is this CPU's own.
    let words = unsafe { &(*prepared).headers };
    // SAFETY: the context is the program's own; no packet pointer from before is used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -OVERHEAD) } != 0 {
        return false;
    }
    let Some(headers) = at::<[u32; 15]>(ctx, 0) else { return false };
    let Some(tail) = at::<u16>(ctx, HEADERS - 2) else { return false };
    let udp_length = (inner.length as u32 + (OVERHEAD as u32 - IPV6 as u32)) as u16;
    // SAFETY: `at` has checked that the 62 bytes are inside the packet. Words of headers, by the offset of their field:
    // low half of the flow label at 16, the flow's number there too (RFC 6438 section 3); payload length at 18; UDP
    // source port at 54, length at 58; UDP checksum at 60, zero: the inner packet has its own, and between tunnel
    // endpoints it may be left out over IPv6 as well (RFC 6935 section 5, RFC 6936 section 4).
    unsafe {
        let mut index = 0;
        while index < 15 {
            (*headers)[index] = words[index];
            index += 1;
        }
        (*headers)[4] = inner.source_port.to_be() as u32 | (udp_length.to_be() as u32) << 16;
        (*headers)[13] = words[13] | (inner.source_port.to_be() as u32) << 16;
        (*headers)[14] = words[14] | (udp_length.to_be() as u32) << 16;
        *tail = 0;
    }
    true
}
