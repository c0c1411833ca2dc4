//! IPv6 packets with extension headers (RFC 8200 section 4), fragments among them. Nobody sends them to a messaging
//! service; what must not happen is that such a packet slips past us, into a socket of the wrong node.

use aya_ebpf::{helpers::generated::bpf_xdp_load_bytes, programs::XdpContext};
use ringsteer_ebpf::{
    layout::{Address, stats::Counter},
    wire::{
        family::{Family, V6},
        headers::{Ipv6, protocol},
    },
};

use crate::{
    Verdict,
    maps::THIS_NODE,
    packet::{IP_AT, at, l4_at},
    steer::{not_ours, service_at},
};

/// Most extension headers that are looked behind. RFC 8200 section 4.1 knows no reason for more; a packet with more is
/// dropped, and so is one whose payload is farther in the frame than [`FARTHEST`].
const MOST: usize = 8;
/// See [`MOST`].
const FARTHEST: u32 = 1500;

/// Whether a next-header number is that of an extension header.
#[inline(always)]
pub fn is_extension(kind: u8) -> bool {
    use protocol::{
        AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, HOST_IDENTITY, MOBILITY, ROUTING, SHIM6,
    };
    matches!(
        kind,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6
    )
}

/// A packet whose first extension header is of this kind. Gives the XDP action, counted.
#[inline(never)]
pub fn packet(ctx: &XdpContext, kind: u8) -> u32 {
    crate::action(behind(ctx, kind))
}

#[inline(always)]
fn behind(ctx: &XdpContext, first: u8) -> Verdict {
    let (mut kind, mut position, mut fragment) = (first, l4_at::<V6>() as u32, false);
    for _ in 0..=MOST {
        if !is_extension(kind) {
            return payload(ctx, kind, position, fragment);
        }
        // Every one of them begins with the kind of the next and its own length.
        let Some([next, length]) = load::<2>(ctx, position) else { return not_ours() };
        position += match kind {
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (length as u32 + 2) * 4,
            _ => (length as u32 + 1) * 8,
        };
        if position > FARTHEST {
            return Err(Counter::drop_malformed);
        }
        fragment |= kind == protocol::FRAGMENT;
        kind = next;
    }
    Err(Counter::drop_malformed)
}

/// What is behind the extension headers.
#[inline(always)]
fn payload(ctx: &XdpContext, kind: u8, position: u32, fragment: bool) -> Verdict {
    let Some(ip) = at::<Ipv6>(ctx, IP_AT) else { return not_ours() };
    let Some([_, _, high, low]) = load::<4>(ctx, position) else { return not_ours() };
    // SAFETY: `at` has checked that the header is inside the packet.
    let to = V6::destination(unsafe { &*ip });
    // Bytes as in memory.
    let port = u16::from_ne_bytes([high, low]);
    let reason = if fragment { Counter::drop_fragment } else { Counter::drop_malformed };
    let tunnel = |node: &ringsteer_ebpf::layout::node::ThisNode| {
        let address: Address = bytemuck::cast(to);
        fragment && u16::from_be(port) as u32 == node.tunnel_port && address == node.address
    };
    match kind {
        protocol::TCP if service_at::<V6>(to, port).is_some() => Err(reason),
        protocol::UDP if THIS_NODE.get(0).is_some_and(tunnel) => Err(reason),
        _ => not_ours(),
    }
}

/// `N` bytes of the packet.
#[inline(always)]
fn load<const N: usize>(ctx: &XdpContext, position: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the helper checks the range against the packet, and the buffer is as long as we say.
    let result = unsafe { bpf_xdp_load_bytes(ctx.ctx, position, bytes.as_mut_ptr().cast(), N as u32) };
    (result == 0).then_some(bytes)
}
