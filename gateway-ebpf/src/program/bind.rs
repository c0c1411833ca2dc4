//! Late binding: the owner is chosen at the first data segment, by the key in it.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_CURRENT_NETNS, bpf_sock_tuple, xdp_action},
    helpers::generated::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use aya_log_ebpf::warn;
use ringsteer_ebpf::{
    cookie, crc32,
    key::{Key, WINDOW},
    layout::{
        Address,
        flow::{Flow, FlowKey},
        service::Service,
        stats::Counter,
    },
    wire::{family::Family, headers::flag},
};

use crate::{
    Verdict, clock, forward, handshake, log,
    maps::{self, FLOWS, count, counted},
    moving, owner,
    packet::{IP_AT, Segment, within},
    proof, scan,
    socket::Lookup,
};

/// What [`unknown`] and [`renewed`] return for a segment that begins no connection.
pub const NOT_NEW: u32 = u32::MAX;

/// A segment of no known flow, SYN apart. Gives the XDP action, counted, if it follows a SYN that we answered, and
/// [`NOT_NEW`] otherwise.
#[inline(never)]
pub fn unknown<F: Lookup>(ctx: &XdpContext, service: &Service, key: &FlowKey) -> u32 {
    let Some(segment) = Segment::read::<F>(ctx) else { return crate::action(Err(Counter::drop_malformed)) };
    if !segment.has(flag::ACK) || segment.any(flag::RST) {
        return NOT_NEW;
    }
    crate::action(match proof::of_segment() {
        Ok(cookie::Verdict::Foreign) => return NOT_NEW,
        Ok(cookie::Verdict::Early) => Err(Counter::drop_early_segment),
        Ok(cookie::Verdict::Valid { .. }) => first::<F>(ctx, service, key, segment),
        Err(reason) => Err(reason),
    })
}

/// The segment read last, if it is of no known flow and begins none. Gives the XDP action, counted.
#[inline(never)]
pub fn stranger<F: Lookup>(ctx: &XdpContext) -> u32 {
    crate::action(without_flow::<F>(ctx))
}

#[inline(always)]
fn without_flow<F: Lookup>(ctx: &XdpContext) -> Verdict {
    if has_socket::<F>(ctx) {
        return counted(Counter::found_socket, xdp_action::XDP_PASS);
    }
    let Some(scratch) = maps::scratch() else { return Err(Counter::drop_internal) };
    // SAFETY: the scratch memory is this CPU's own.
    let segment = unsafe { &(*scratch).segment };
    if segment.any(flag::RST) {
        return Err(Counter::drop_stray_rst);
    }
    handshake::reset::<F>(ctx, segment, Counter::rst_unknown_flow)
}

/// A segment that arrives for a live flow after a SYN did. Gives the XDP action, counted, if it is of a new connection
/// on the same addresses and ports, and [`NOT_NEW`] if it is the old one's.
#[inline(never)]
pub fn renewed<F: Family>(ctx: &XdpContext, service: &Service, key: &FlowKey) -> u32 {
    let Some(segment) = Segment::read::<F>(ctx) else { return NOT_NEW };
    if !segment.has(flag::ACK) || segment.any(flag::RST) {
        return NOT_NEW;
    }
    let verdict = match proof::of_segment() {
        Ok(cookie::Verdict::Foreign) => return NOT_NEW,
        Ok(cookie::Verdict::Early) => Err(Counter::drop_early_segment),
        Ok(cookie::Verdict::Valid { .. }) => {
            if segment.payload > 0 {
                count(Counter::rebound);
            }
            first::<F>(ctx, service, key, segment)
        }
        Err(reason) => Err(reason),
    };
    crate::action(verdict)
}

/// A segment of a flow whose node is gone. Gives the XDP action, counted.
#[inline(never)]
pub fn node_gone<F: Family>(ctx: &XdpContext, key: &FlowKey) -> u32 {
    crate::action(without_node::<F>(ctx, key))
}

/// The client is told, as the node's own stack would if it came back without the connection: with a RST at the number
/// that the segment acknowledges. That is where the client expects the next byte, so it believes the RST; and if it has
/// just answered another RST with a challenge (RFC 5961 section 3.2), this segment is that challenge.
#[inline(always)]
fn without_node<F: Family>(ctx: &XdpContext, key: &FlowKey) -> Verdict {
    let Some(segment) = Segment::read::<F>(ctx) else { return Err(Counter::drop_malformed) };
    if let Some(flow) = FLOWS.get_ptr_mut(key) {
        // SAFETY: the entry stays mapped for the program's run; of two values written at once either will do.
        unsafe { (*flow).closing = 1 };
    }
    if segment.any(flag::RST) {
        return Err(Counter::drop_unknown_node);
    }
    handshake::reset::<F>(ctx, segment, Counter::rst_node_gone)
}

/// What follows a SYN that we answered.
#[inline(always)]
fn first<F: Family>(ctx: &XdpContext, service: &Service, key: &FlowKey, segment: &Segment) -> Verdict {
    if segment.payload == 0 {
        return if segment.any(flag::FIN) {
            handshake::reset::<F>(ctx, segment, Counter::rst_before_data)
        } else {
            // The client is ready; the owner's stack will see the handshake completed by the data that is to come.
            Err(Counter::handshake_acks)
        };
    }
    let found = read_key(ctx, service, segment);
    let (position, key_hash) = match found {
        Key::Hash(hash) => (hash, hash),
        Key::None => (tuple_hash::<F>(segment), 0),
    };
    let node = owner::of(position)?;
    let now_ns = clock::coarse_ns();
    let flow = Flow {
        bound_ns: now_ns,
        last_seen_ns: now_ns,
        packets: 1,
        bytes: (segment.payload_at - IP_AT as u32 + segment.payload) as u64,
        node,
        key_hash,
        first_ack: segment.acknowledgement,
        last_ack: segment.acknowledgement,
        closing: segment.any(flag::FIN) as u16,
        moved: 0,
        syn_slot: 0,
    };
    if FLOWS.insert(key, flow, BPF_ANY as u64).is_err() {
        if log::allowed() {
            let client: Address = bytemuck::cast(segment.client);
            warn!(ctx, "the flow table is full: a connection from {:i} has to wait", client);
        }
        return Err(Counter::drop_flow_table_full);
    }
    moving::forget(key);
    count(match found {
        Key::Hash(_) => Counter::bound_by_key,
        Key::None => Counter::bound_by_tuple,
    });
    forward::mark::<F>(ctx);
    // Nothing is on the move on these addresses and ports any more.
    forward::onward::<F>(ctx, node, now_ns)
}

/// The key in a first segment.
#[inline(always)]
fn read_key(ctx: &XdpContext, service: &Service, segment: &Segment) -> Key {
    let Some(scratch) = maps::scratch() else { return Key::None };
    if service.parameter_length == 0 || segment.payload == 0 {
        return Key::None;
    }
    let length = if segment.payload > WINDOW as u32 { WINDOW as u32 } else { segment.payload };
    let length = within::<{ WINDOW as u32 }>(length);
    // SAFETY: the scratch memory is this CPU's own, its window takes WINDOW bytes, and the helper checks the range
    // against the packet.
    let loaded = unsafe {
        (*scratch).parameter = service.parameter;
        bpf_xdp_load_bytes(ctx.ctx, segment.payload_at, (&raw mut (*scratch).window).cast(), length)
    };
    if loaded != 0 { Key::None } else { scan::find(length, service.parameter_length) }
}

/// Where a connection without a readable key goes: anywhere, but the same for each of its segments.
#[inline(always)]
pub fn tuple_hash<F: Family>(segment: &Segment) -> u32 {
    let mut register = crc32::START;
    for byte in F::entropy(F::narrow(&segment.client)).to_ne_bytes() {
        register = crc32::step(register, byte);
    }
    for byte in segment.client_port.to_ne_bytes() {
        register = crc32::step(register, byte);
    }
    crc32::finish(register)
}

/// Whether this node has a socket for the segment read last, listeners apart.
#[inline(never)]
pub fn has_socket<F: Lookup>(ctx: &XdpContext) -> bool {
    /// TCP_LISTEN, from the kernel's `net/tcp_states.h`.
    const LISTEN: u32 = 10;
    let Some(scratch) = maps::scratch() else { return false };
    // SAFETY: the scratch memory is this CPU's own.
    let mut tuple = F::tuple(unsafe { &(*scratch).segment });
    // SAFETY: the tuple is the family's form of `bpf_sock_tuple`; a socket found is released on every path.
    unsafe {
        let socket = bpf_skc_lookup_tcp(
            ctx.ctx.cast(),
            (&raw mut tuple).cast::<bpf_sock_tuple>(),
            size_of_val(&tuple) as u32,
            BPF_F_CURRENT_NETNS as u64,
            0,
        );
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state != LISTEN
    }
}
