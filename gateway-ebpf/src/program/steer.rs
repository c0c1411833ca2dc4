//! What kind of packet it is, and the hot path: a segment of a known flow.

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use ringsteer_ebpf::{
    layout::{
        flow::FlowKey,
        service::{Service, ServiceKey},
        stats::Counter,
    },
    wire::{
        family::{Family, V4, V6},
        headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, Ports, Tcp, flag, protocol},
    },
};

use crate::{
    Verdict, accept, bind, clock, extension, forward, handshake, icmp,
    maps::{self, FLOWS, Hinted, SERVICE_HINT_SLOTS, ServiceHint, counted},
    moving,
    packet::{IP_AT, Segment, at, l4_at},
    socket::Lookup,
    untunnel,
};

/// For how many slots after a SYN its cookie can be valid: its own, the next, and one more for a clock that is ahead.
const COOKIE_LIFE_SLOTS: u32 = 2;

/// Decides about a packet.
#[inline(always)]
pub fn packet(ctx: &XdpContext) -> Verdict {
    let (Some(ethernet), Some(ip)) = (at::<Ethernet>(ctx, 0), at::<Ipv4>(ctx, IP_AT)) else { return not_ours() };
    // SAFETY: `at` has checked that both headers are inside the packet.
    let (ether_type, ip) = unsafe { ((*ethernet).ether_type, &*ip) };
    match ether_type {
        ETHERTYPE_IPV4 if V4::is_plain(ip.version_ihl) => plain::<V4>(ctx, ip),
        ETHERTYPE_IPV4 => Ok(unusual(ctx, ip.version_ihl, ip.protocol, ip.destination)),
        ETHERTYPE_IPV6 => Ok(packet_6(ctx)),
        _ => not_ours(),
    }
}

/// An IPv6 packet. Gives the XDP action, counted.
///
/// A function of its own, so that the way of IPv4 packets has the registers and the stack for itself.
#[inline(never)]
fn packet_6(ctx: &XdpContext) -> u32 {
    let verdict = match (at::<Ipv6>(ctx, IP_AT), first_byte(ctx, IP_AT)) {
        (Some(ip), Some(first)) if V6::is_plain(first) => {
            // SAFETY: `at` has checked that the header is inside the packet.
            let ip = unsafe { &*ip };
            if extension::is_extension(ip.next_header) {
                Ok(extension::packet(ctx, ip.next_header))
            } else {
                plain::<V6>(ctx, ip)
            }
        }
        _ => not_ours(),
    };
    crate::action(verdict)
}

/// A packet whose payload follows its IP header.
#[inline(always)]
fn plain<F: Hinted + Lookup>(ctx: &XdpContext, ip: &F::Header) -> Verdict {
    let protocol = F::protocol(ip);
    if protocol == protocol::TCP {
        segment::<F>(ctx, ip)
    } else if protocol == protocol::UDP {
        untunnel::packet::<F>(ctx, ip)
    } else if protocol == F::ICMP {
        Ok(icmp::packet::<F>(ctx))
    } else {
        not_ours()
    }
}

/// The byte at `offset`, where an IP header tells its version.
#[inline(always)]
pub fn first_byte(ctx: &XdpContext, offset: usize) -> Option<u8> {
    // SAFETY: `at` has checked that the byte is inside the packet.
    at::<u8>(ctx, offset).map(|byte| unsafe { *byte })
}

/// Not for us: the kernel goes on with it.
#[inline(always)]
pub fn not_ours() -> Verdict {
    counted(Counter::not_ours, xdp_action::XDP_PASS)
}

/// The service a packet with this address and port, as bytes in memory, is for.
#[inline(always)]
pub fn service_at<F: Family>(address: F::Address, port: u16) -> Option<&'static Service> {
    maps::service(&ServiceKey { address: bytemuck::cast(F::widen(address)), port: u16::from_be(port) as u32 })
}

/// The [`FlowKey`] of a client's address and port, as bytes in memory, and a service's number. In whole words, because the
/// kernel hashes it so: what was written in halves, a processor cannot read at once as a whole.
#[inline(always)]
pub fn flow_key<F: Family>(client: F::Address, client_port: u16, service: u16) -> [u32; 5] {
    let [a, b, c, d] = F::widen(client);
    // The halves in their order in memory, on this little-endian target.
    [a, b, c, d, u16::from_be(client_port) as u32 | (service as u32) << 16]
}

/// How long a service's number is believed without looking, in nanoseconds.
const SERVICE_HINT_LIFE_NS: u64 = 100_000_000;

/// The number of the service a segment with these addresses is for. Almost every segment is for one that this CPU has
/// just seen: a comparison then stands in for a hash lookup.
#[inline(always)]
fn service_number<F: Hinted>(address: F::Address, port: u16, now_ns: u64) -> Option<u16> {
    let slot = u16::from_be(port) as u32 & (SERVICE_HINT_SLOTS as u32 - 1);
    let hint = F::service_hints().get_ptr_mut(slot)?;
    // SAFETY: the entry is this CPU's own.
    let hint = unsafe { &mut *hint };
    if hint.address != address || hint.port != port || now_ns >= hint.expires_ns {
        let found = service_at::<F>(address, port)?.service as u16;
        *hint = ServiceHint { expires_ns: now_ns + SERVICE_HINT_LIFE_NS, address, port, service: found };
    }
    Some(hint.service)
}

/// A segment of no known flow, SYN apart. Gives the XDP action, counted.
///
/// Step by step from here, and not one step from within the other: the stack is for a few calls only.
#[inline(always)]
fn unknown<F: Lookup>(ctx: &XdpContext, service: &Service, key: &FlowKey) -> u32 {
    match bind::unknown::<F>(ctx, service, key) {
        bind::NOT_NEW => {}
        action => return action,
    }
    if moving::any() {
        match moving::of_arrived::<F>(ctx) {
            moving::STAYS => {}
            moving::HELD => return crate::action(Err(Counter::held)),
            node => return moving::send_arrived::<F>(ctx, node),
        }
    }
    bind::stranger::<F>(ctx)
}

/// An IPv4 header with options. Nobody sends them to a messaging service; what must not happen is that such a packet
/// slips past us into a socket of the wrong node.
#[inline(never)]
fn unusual(ctx: &XdpContext, version_ihl: u8, protocol: u8, destination: u32) -> u32 {
    let header_length = (version_ihl & 0xf) as usize * 4;
    let ours = protocol == protocol::TCP
        && at::<Ports>(ctx, IP_AT + header_length)
            // SAFETY: `at` has checked that the ports are inside the packet.
            .is_some_and(|ports| service_at::<V4>(destination, unsafe { (*ports).destination }).is_some());
    crate::action(if ours { Err(Counter::drop_malformed) } else { not_ours() })
}

/// A TCP segment.
#[inline(always)]
fn segment<F: Hinted + Lookup>(ctx: &XdpContext, ip: &F::Header) -> Verdict {
    let Some(tcp) = at::<Tcp>(ctx, l4_at::<F>()) else { return not_ours() };
    // SAFETY: `at` has checked that the header is inside the packet.
    let tcp = unsafe { &*tcp };
    let (address, port) = (F::destination(ip), tcp.destination);
    let now_ns = clock::coarse_ns();
    let Some(service) = service_number::<F>(address, port, now_ns) else { return not_ours() };
    if F::is_fragment(ip) {
        return Err(Counter::drop_fragment);
    }
    let key = flow_key::<F>(F::source(ip), tcp.source, service);
    let key: &FlowKey = bytemuck::cast_ref(&key);
    // By value: what comes below may move the packet, and the header with it.
    let (flags, acknowledgement) = (tcp.flags, u32::from_be(tcp.acknowledgement));
    let length = F::length(ip);
    let opening = flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN;
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        if accept::is_on() {
            return Ok(accept::without_flow::<F>(ctx, key, opening as u32));
        }
        let Some(service) = service_at::<F>(address, port) else { return not_ours() };
        return Ok(if opening { handshake::answer::<F>(ctx, service) } else { unknown::<F>(ctx, service, key) });
    };
    // SAFETY: the entry stays mapped for the program's run. Two CPUs write the same flow at once only if its packets
    // are spread over queues; each field is then one of the values written, which is good enough for all of them.
    let flow = unsafe { &mut *flow };
    if opening && accept::is_on() {
        return Ok(accept::dialled_anew::<F>(ctx, key, flow.node));
    }
    if opening {
        // The client's, dialling anew from the same port, or anybody's: a cookie costs nothing, and the flow stays as
        // it is until a segment proves that there is a new connection.
        flow.syn_slot = clock::slot();
        let Some(service) = service_at::<F>(address, port) else { return not_ours() };
        return Ok(handshake::answer::<F>(ctx, service));
    }
    if !accept::is_on() && flow.syn_slot != 0 && acknowledgement != flow.first_ack {
        if clock::slot().wrapping_sub(flow.syn_slot) > COOKIE_LIFE_SLOTS {
            flow.syn_slot = 0;
        } else if let Some(service) = service_at::<F>(address, port) {
            match bind::renewed::<F>(ctx, service, key) {
                bind::NOT_NEW => {}
                action => return Ok(action),
            }
        }
    }
    if flags & (flag::FIN | flag::RST) != 0 {
        flow.closing = 1;
    } else if flow.closing != 0 && Segment::read::<F>(ctx).is_some_and(|segment| segment.payload > 0) {
        // Data after FIN or RST: that one was not the client's.
        flow.closing = 0;
    }
    flow.last_seen_ns = now_ns;
    flow.packets += 1;
    flow.bytes += length as u64;
    flow.last_ack = acknowledgement;
    // One that has moved has a socket: its segments are not for admission, even if the client has not heard the owner yet.
    if !accept::is_on() && acknowledgement == flow.first_ack && flow.moved == 0 {
        forward::mark::<F>(ctx);
    }
    match forward::to::<F>(ctx, flow.node, now_ns) {
        Err(Counter::drop_unknown_node) => Ok(bind::node_gone::<F>(ctx, key)),
        verdict => verdict,
    }
}
