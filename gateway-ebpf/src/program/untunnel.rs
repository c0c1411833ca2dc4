//! Out of the tunnel: the owner's side of `forward`.

use core::mem::offset_of;

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use aya_log_ebpf::warn;
use ringsteer_ebpf::{
    layout::{
        Address,
        node::{NodeAddress, ThisNode},
        stats::Counter,
    },
    wire::{
        family::{Family, V4, V6, Words},
        headers::{Ethernet, Ports, TCP, Tcp, UDP, Udp, protocol},
    },
};

use crate::{
    Verdict, icmp, log,
    maps::{NODE_ADDRS, THIS_NODE, counted},
    moving,
    packet::{IP_AT, at, l4_at},
    steer::{first_byte, not_ours, service_at},
};

/// Bytes between the outer IP header and the inner one.
pub const fn overhead<O: Family>() -> usize {
    O::HEADER + UDP
}

/// A UDP datagram of family `O`.
#[inline(always)]
pub fn packet<O: Family>(ctx: &XdpContext, ip: &O::Header) -> Verdict {
    let Some(udp) = at::<Udp>(ctx, l4_at::<O>()) else { return not_ours() };
    let Some(this_node) = THIS_NODE.get(0) else { return not_ours() };
    // SAFETY: `at` has checked that the header is inside the packet.
    let udp = unsafe { &*udp };
    if u16::from_be(udp.destination) as u32 != this_node.tunnel_port
        || O::widen(O::destination(ip)) != own_address(this_node)
    {
        return not_ours();
    }
    if O::is_fragment(ip) {
        return Err(Counter::drop_fragment);
    }
    let from = O::widen(O::source(ip));
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    if unsafe { NODE_ADDRS.get(bytemuck::cast_ref::<_, NodeAddress>(&from)) }.is_none() {
        return Err(stranger(ctx, &from));
    }
    let datagram = u16::from_be(udp.length) as usize;
    if O::length(ip) != O::HEADER + datagram || ctx.data() + IP_AT + O::length(ip) > ctx.data_end() {
        return Err(Counter::drop_tunnel_content);
    }
    let inner = datagram.wrapping_sub(UDP);
    let ether_type = match first_byte(ctx, IP_AT + overhead::<O>()) {
        Some(first) if V4::is_plain(first) => content::<O, V4>(ctx, inner)?,
        Some(first) if V6::is_plain(first) => content::<O, V6>(ctx, inner)?,
        _ => return Err(Counter::drop_tunnel_content),
    };
    if moving::any() {
        let ipv4 = ether_type == V4::ETHERTYPE;
        match if ipv4 { moving::of_tunnelled::<O, V4>(ctx) } else { moving::of_tunnelled::<O, V6>(ctx) } {
            moving::STAYS => {}
            moving::HELD => return Err(Counter::held),
            node if ipv4 => return Ok(moving::send_tunnelled::<O, V4>(ctx, node)),
            node => return Ok(moving::send_tunnelled::<O, V6>(ctx, node)),
        }
    }
    let Some(outer) = at::<Ethernet>(ctx, 0) else { return Err(Counter::drop_tunnel_content) };
    // SAFETY: `at` has checked that the header is inside the packet.
    let outer = unsafe { *outer };
    // SAFETY: the context is the program's own; no packet pointer from before is used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, overhead::<O>() as i32) } != 0 {
        return Err(Counter::drop_tunnel_content);
    }
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else { return Err(Counter::drop_tunnel_content) };
    // SAFETY: `at` has checked that the header is inside the packet.
    unsafe { *ethernet = Ethernet { ether_type, ..outer } };
    counted(Counter::untunnelled, xdp_action::XDP_PASS)
}

/// Our node address. Copied as words: as an array of bytes it would be compared byte by byte.
#[inline(always)]
fn own_address(this_node: &ThisNode) -> Words {
    const AT: usize = offset_of!(ThisNode, address) / 4;
    let words: &[u32; size_of::<ThisNode>() / 4] = bytemuck::cast_ref(this_node);
    [words[AT], words[AT + 1], words[AT + 2], words[AT + 3]]
}

/// What comes out, a packet of family `I` and `inner` bytes, must be for one of our services, and whole: the tunnel is
/// no way into this host for anything else. Gives its EtherType.
#[inline(always)]
fn content<O: Family, I: Family>(ctx: &XdpContext, inner: usize) -> Result<u16, Counter> {
    let ip_at = IP_AT + overhead::<O>();
    let l4_at = ip_at + I::HEADER;
    let (Some(ip), Some(ports)) = (at::<I::Header>(ctx, ip_at), at::<Ports>(ctx, l4_at)) else {
        return Err(Counter::drop_tunnel_content);
    };
    // SAFETY: `at` has checked that both headers are inside the packet.
    let (ip, ports) = unsafe { (&*ip, &*ports) };
    if I::length(ip) != inner {
        return Err(Counter::drop_tunnel_content);
    }
    let to = I::destination(ip);
    let protocol = I::protocol(ip);
    let ours = if protocol == protocol::TCP {
        // SAFETY: `at` checks that the header is inside the packet.
        let header = at::<Tcp>(ctx, l4_at).map_or(0, |tcp| unsafe { (*tcp).header_length() });
        header >= TCP && I::HEADER + header <= inner && service_at::<I>(to, ports.destination).is_some()
    } else if protocol == I::ICMP {
        icmp::quoted::<I>(ctx, l4_at)
            .is_some_and(|quoted| to == quoted.server && service_at::<I>(to, quoted.server_port).is_some())
    } else {
        false
    };
    if ours { Ok(I::ETHERTYPE) } else { Err(Counter::drop_tunnel_content) }
}

/// Somebody who is no node sends tunnel packets.
#[inline(never)]
fn stranger(ctx: &XdpContext, sender: &Words) -> Counter {
    if log::allowed() {
        let sender: Address = bytemuck::cast(*sender);
        warn!(ctx, "tunnel packet from {:i}, which is no node's address: dropped", sender);
    }
    Counter::drop_tunnel_sender
}
