//! ICMP errors about a flow follow the flow: "fragmentation needed" that reached the edge would otherwise never lower
//! the owner's path MTU, and its large frames would vanish.

use aya_ebpf::programs::XdpContext;
use ringsteer_ebpf::{
    layout::{flow::FlowKey, mapped_word, stats::Counter},
    wire::headers::{ICMP, ICMP_UNREACHABLE, IPV4_PLAIN, Icmp, Ipv4, Ports, protocol},
};

use crate::{
    Verdict, clock, forward,
    maps::{FLOWS, count},
    packet::{L4_AT, at},
    steer::{not_ours, service_at},
};

/// The connection that an ICMP error is about, from the packet quoted in it. That packet went from us to the client.
pub struct Quoted {
    /// The virtual address, bytes as in memory.
    pub server: u32,
    /// The service's port, bytes as in memory.
    pub server_port: u16,
    /// The client's address, bytes as in memory.
    client: u32,
    /// The client's port, bytes as in memory.
    client_port: u16,
}

/// The connection quoted in the ICMP message at `icmp_at`, if it is an error about TCP.
#[inline(always)]
pub fn quoted(ctx: &XdpContext, icmp_at: usize) -> Option<Quoted> {
    let icmp = at::<Icmp>(ctx, icmp_at)?;
    let ip = at::<Ipv4>(ctx, icmp_at + ICMP)?;
    let ports = at::<Ports>(ctx, icmp_at + ICMP + size_of::<Ipv4>())?;
    // SAFETY: `at` has checked that all three are inside the packet.
    let (icmp, ip, ports) = unsafe { (&*icmp, &*ip, &*ports) };
    if icmp.kind != ICMP_UNREACHABLE || ip.version_ihl != IPV4_PLAIN || ip.protocol != protocol::TCP {
        return None;
    }
    Some(Quoted {
        server: ip.source,
        server_port: ports.source,
        client: ip.destination,
        client_port: ports.destination,
    })
}

/// An ICMP packet to this address. Gives the XDP action, counted.
#[inline(never)]
pub fn packet(ctx: &XdpContext, destination: u32) -> u32 {
    crate::action(error(ctx, destination))
}

#[inline(always)]
fn error(ctx: &XdpContext, destination: u32) -> Verdict {
    let Some(quoted) = quoted(ctx, L4_AT) else { return not_ours() };
    if quoted.server != destination {
        return not_ours();
    }
    let Some(service) = service_at(quoted.server, quoted.server_port) else { return not_ours() };
    let key = FlowKey {
        client: mapped_word(quoted.client),
        client_port: u16::from_be(quoted.client_port),
        service: service.service as u16,
    };
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    let Some(flow) = (unsafe { FLOWS.get(key) }) else { return not_ours() };
    count(Counter::icmp_steered);
    forward::to(ctx, flow.node, clock::coarse_ns())
}
