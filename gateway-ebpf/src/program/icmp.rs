//! ICMP errors about a flow follow the flow: "fragmentation needed" or "packet too big" that reached the edge would
//! otherwise never lower the owner's path MTU, and its large frames would vanish.
//!
//! What else ICMP is for, neighbour discovery above all, is the kernel's.

use aya_ebpf::programs::XdpContext;
use ringsteer_ebpf::{
    layout::{flow::FlowKey, stats::Counter},
    wire::{
        family::Family,
        headers::{ICMP, Icmp, Ports, protocol},
    },
};

use crate::{
    Verdict, clock, forward,
    maps::{FLOWS, count},
    packet::{at, l4_at},
    steer::{first_byte, flow_key, not_ours, service_at},
};

/// The connection that an ICMP error is about, from the packet quoted in it. That packet went from us to the client.
pub struct Quoted<F: Family> {
    /// The virtual address.
    pub server: F::Address,
    /// The service's port, bytes as in memory.
    pub server_port: u16,
    /// The client's address.
    pub client: F::Address,
    /// The client's port, bytes as in memory.
    pub client_port: u16,
}

/// The connection quoted in the ICMP message at `icmp_at`, if it is an error about TCP.
#[inline(always)]
pub fn quoted<F: Family>(ctx: &XdpContext, icmp_at: usize) -> Option<Quoted<F>> {
    let icmp = at::<Icmp>(ctx, icmp_at)?;
    let ip = at::<F::Header>(ctx, icmp_at + ICMP)?;
    let ports = at::<Ports>(ctx, icmp_at + ICMP + F::HEADER)?;
    let first = first_byte(ctx, icmp_at + ICMP)?;
    // SAFETY: `at` has checked that all three are inside the packet.
    let (icmp, ip, ports) = unsafe { (&*icmp, &*ip, &*ports) };
    if !F::is_error(icmp.kind) || !F::is_plain(first) || F::protocol(ip) != protocol::TCP {
        return None;
    }
    Some(Quoted {
        server: F::source(ip),
        server_port: ports.source,
        client: F::destination(ip),
        client_port: ports.destination,
    })
}

/// An ICMP packet of the family. Gives the XDP action, counted.
#[inline(never)]
pub fn packet<F: Family>(ctx: &XdpContext) -> u32 {
    crate::action(error::<F>(ctx))
}

#[inline(always)]
fn error<F: Family>(ctx: &XdpContext) -> Verdict {
    let Some(quoted) = quoted::<F>(ctx, l4_at::<F>()) else { return not_ours() };
    let Some(ip) = at::<F::Header>(ctx, crate::packet::IP_AT) else { return not_ours() };
    // SAFETY: `at` has checked that the header is inside the packet.
    if F::destination(unsafe { &*ip }) != quoted.server {
        return not_ours();
    }
    let Some(service) = service_at::<F>(quoted.server, quoted.server_port) else { return not_ours() };
    let key = flow_key::<F>(quoted.client, quoted.client_port, service.service as u16);
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    let Some(flow) = (unsafe { FLOWS.get(bytemuck::cast_ref::<_, FlowKey>(&key)) }) else { return not_ours() };
    count(Counter::icmp_steered);
    forward::to::<F>(ctx, flow.node, clock::coarse_ns())
}
