//! Connections that are leaving this node. While one is held, its packets are kept for the agent and nobody answers them;
//! once it has moved, they are sent on, until every edge knows.
//!
//! An idle fleet pays one comparison for this, and only at nodes that have connections, not at edges.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use ringsteer_ebpf::{
    layout::{
        flow::FlowKey,
        moves::{HeldFrame, KEPT_FRAME_MAX},
        stats::Counter,
    },
    wire::{
        checksum,
        family::Family,
        headers::{ADMISSION_MARK, ETHERTYPE_IPV4, Ethernet, Ipv4, Ipv6, Ports, Tcp, protocol},
    },
};

use crate::{
    Verdict, accept, clock, forward, icmp,
    maps::{HELD_FRAMES, MOVES, MOVING, count},
    packet::{self, IP_AT, at, within},
    steer::{flow_key, service_at},
    untunnel,
};

/// What a packet is about.
struct About {
    /// The key of its flow.
    key: [u32; 5],
    /// What it acknowledges, if it carries the mark of segments that begin a connection; 0 otherwise.
    begins: u32,
}

/// Of a connection that stays.
pub const STAYS: u32 = u32::MAX;

/// Of one that is held. Any other number is that of the node to which it has moved.
pub const HELD: u32 = 0;

/// What sending on once more takes from the hops that a tunnel packet has left. It starts with 64: two nodes that each
/// take a connection to be at the other one send a packet to and fro a few times and no more.
const HOPS_TAKEN: u8 = 16;

/// Whether any connection is on the move.
#[inline(always)]
pub fn any() -> bool {
    MOVING.get(0).is_some_and(|moving| moving.entries != 0)
}

/// A new connection begins: whatever an older one on the same addresses and ports has left behind is over.
#[inline(always)]
pub fn forget(key: &FlowKey) {
    if any() {
        // There may be none.
        let _ = MOVES.remove(key);
    }
}

/// What is known of the connection of a packet that would be given to this node's TCP stack. The packet is counted in the
/// entry.
#[inline(never)]
pub fn of_arrived<F: Family>(ctx: &XdpContext) -> u32 {
    look_up(ctx, about::<F>(&whole(ctx), IP_AT))
}

/// The same of a packet that came through a tunnel of family `O` and is still in it.
#[inline(never)]
pub fn of_tunnelled<O: Family, I: Family>(ctx: &XdpContext) -> u32 {
    look_up(ctx, about::<I>(&whole(ctx), IP_AT + untunnel::overhead::<O>()))
}

/// The context, in a form in which the compiler does not see that nothing but two of its fields is read. It would hand
/// those over instead, as numbers, and the verifier allows that for no packet pointer.
#[inline(always)]
fn whole(ctx: &XdpContext) -> XdpContext {
    XdpContext::new(core::hint::black_box(ctx.ctx))
}

#[inline(always)]
fn look_up(ctx: &XdpContext, about: Option<About>) -> u32 {
    let Some(About { key, begins }) = about else { return STAYS };
    let Some(entry) = MOVES.get_ptr_mut(bytemuck::cast_ref::<_, FlowKey>(&key)) else { return STAYS };
    // SAFETY: the entry stays mapped for the program's run; of two values written at once either will do.
    let entry = unsafe { &mut *entry };
    let first_ack = entry.first_ack;
    if begins != 0 && first_ack != 0 && begins != first_ack {
        // Another connection begins. `admit` looks whether that is true, and removes the entry then: a client can mark
        // its segments, too, and so can whoever speaks in its name.
        return STAYS;
    }
    let node = entry.node;
    if node == HELD {
        entry.held += 1;
        keep(ctx, &key);
    } else {
        entry.sent_on += 1;
        entry.last_sent_ns = clock::coarse_ns();
    }
    node
}

/// What the packet at `ip_at` is about.
#[inline(always)]
fn about<F: Family>(ctx: &XdpContext, ip_at: usize) -> Option<About> {
    let l4_at = ip_at + F::HEADER;
    let ip = at::<F::Header>(ctx, ip_at)?;
    let ports = at::<Ports>(ctx, l4_at)?;
    // SAFETY: `at` has checked that both are inside the packet.
    let (ip, ports) = unsafe { (&*ip, &*ports) };
    if F::protocol(ip) == protocol::TCP {
        let tcp = at::<Tcp>(ctx, l4_at)?;
        // SAFETY: `at` has checked that the header is inside the packet.
        let tcp = unsafe { &*tcp };
        let marked = !accept::is_on() && tcp.offset_reserved & ADMISSION_MARK != 0;
        let begins = if marked { u32::from_be(tcp.acknowledgement) } else { 0 };
        let service = service_at::<F>(F::destination(ip), ports.destination)?;
        return Some(About { key: flow_key::<F>(F::source(ip), ports.source, service.service as u16), begins });
    }
    let quoted = icmp::quoted::<F>(ctx, l4_at)?;
    let service = service_at::<F>(quoted.server, quoted.server_port)?;
    Some(About { key: flow_key::<F>(quoted.client, quoted.client_port, service.service as u16), begins: 0 })
}

/// Keeps the frame for the agent, if there is room.
#[inline(always)]
fn keep(ctx: &XdpContext, key: &[u32; 5]) {
    /// BPF_RB_NO_WAKEUP: the agent comes for it when the hold ends.
    const NO_WAKEUP: u64 = 1;
    let length = packet::length(ctx);
    if length == 0 || length > KEPT_FRAME_MAX {
        return;
    }
    let Some(mut entry) = HELD_FRAMES.reserve::<HeldFrame>(0) else { return };
    let held = entry.as_mut_ptr();
    // SAFETY: the record is ours until it is submitted, and has room for as much as the helper is told; that checks the
    // range against the packet.
    let loaded = unsafe {
        (*held).key = bytemuck::cast(*key);
        (*held).length = length as u32;
        (*held).ifindex = ctx.ingress_ifindex() as u32;
        (*held).unused = 0;
        let room = (&raw mut (*held).frame).cast();
        bpf_xdp_load_bytes(ctx.ctx, 0, room, within::<{ KEPT_FRAME_MAX as u32 }>(length as u32)) == 0
    };
    if loaded { entry.submit(NO_WAKEUP) } else { entry.discard(NO_WAKEUP) }
}

/// Sends a packet that arrived as it is to the node that has its connection now. Gives the XDP action, counted.
#[inline(never)]
pub fn send_arrived<F: Family>(ctx: &XdpContext, node: u32) -> u32 {
    crate::action(send_on::<F>(ctx, node, u8::MAX))
}

/// The same for a packet that came through a tunnel of family `O` and is still in it.
#[inline(never)]
pub fn send_tunnelled<O: Family, I: Family>(ctx: &XdpContext, node: u32) -> u32 {
    crate::action(out_and_on::<O, I>(ctx, node))
}

/// Out of one tunnel and into the next.
#[inline(always)]
fn out_and_on<O: Family, I: Family>(ctx: &XdpContext, node: u32) -> Verdict {
    let (Some(outer), Some(ip)) = (at::<Ethernet>(ctx, 0), at::<O::Header>(ctx, IP_AT)) else {
        return Err(Counter::drop_tunnel_content);
    };
    // SAFETY: `at` has checked that both headers are inside the packet.
    let (outer, hops) = unsafe { (*outer, O::hops(&*ip)) };
    // SAFETY: the context is the program's own; no packet pointer from before is used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, untunnel::overhead::<O>() as i32) } != 0 {
        return Err(Counter::drop_tunnel_content);
    }
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else { return Err(Counter::drop_tunnel_content) };
    // SAFETY: `at` has checked that the header is inside the packet.
    unsafe { *ethernet = Ethernet { ether_type: I::ETHERTYPE, ..outer } };
    send_on::<I>(ctx, node, hops)
}

/// To the node that has the connection now; the packet that brought this one had `hops` hops left.
#[inline(always)]
fn send_on<F: Family>(ctx: &XdpContext, node: u32, hops: u8) -> Verdict {
    if hops <= HOPS_TAKEN {
        return Err(Counter::drop_hops);
    }
    let action = forward::onward::<F>(ctx, node, clock::coarse_ns())?;
    if action == xdp_action::XDP_PASS {
        // The node is this one after all.
        return Ok(action);
    }
    count(Counter::forwarded_moved);
    lower_hops(ctx, hops.wrapping_sub(HOPS_TAKEN));
    Ok(action)
}

/// Lowers the hops of the tunnel packet that this has become, to what it may have.
#[inline(always)]
fn lower_hops(ctx: &XdpContext, most: u8) {
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else { return };
    // SAFETY: `at` has checked that the header is inside the packet.
    if unsafe { (*ethernet).ether_type } == ETHERTYPE_IPV4 {
        let Some(ip) = at::<Ipv4>(ctx, IP_AT) else { return };
        // SAFETY: `at` has checked that the header is inside the packet.
        let ip = unsafe { &mut *ip };
        if ip.ttl > most {
            let word = |ttl| u16::from_ne_bytes([ttl, ip.protocol]);
            ip.checksum = checksum::updated(ip.checksum, word(ip.ttl), word(most));
            ip.ttl = most;
        }
    } else if let Some(ip) = at::<Ipv6>(ctx, IP_AT) {
        // SAFETY: `at` has checked that the header is inside the packet.
        let ip = unsafe { &mut *ip };
        if ip.hop_limit > most {
            ip.hop_limit = most;
        }
    }
}
