//! Out of the tunnel: the owner's side of `forward`.

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_xdp_adjust_head, programs::XdpContext};
use aya_log_ebpf::warn;
use ringsteer_ebpf::{
    layout::{mapped_word, node::NodeAddress, stats::Counter},
    tunnel,
    wire::headers::{ETHERTYPE_IPV4, Ethernet, IPV4_PLAIN, IS_FRAGMENT, Ipv4, Ports, Udp, protocol},
};

use crate::{
    Verdict, icmp, log,
    maps::{NODE_ADDRS, THIS_NODE, counted},
    packet::{IP_AT, L4_AT, at},
    steer::{not_ours, service_at},
};

/// Bytes between the outer IP header and the inner one.
const OVERHEAD: usize = tunnel::OVERHEAD_V4 as usize;

/// A UDP datagram.
#[inline(always)]
pub fn packet(ctx: &XdpContext, ip: &Ipv4) -> Verdict {
    let Some(udp) = at::<Udp>(ctx, L4_AT) else { return not_ours() };
    let Some(this_node) = THIS_NODE.get(0) else { return not_ours() };
    // SAFETY: `at` has checked that the header is inside the packet.
    let port = u16::from_be(unsafe { (*udp).destination }) as u32;
    if port != this_node.tunnel_port || mapped_word(ip.destination) != this_node.address {
        return not_ours();
    }
    if ip.fragment & IS_FRAGMENT != 0 {
        return Err(Counter::drop_fragment);
    }
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    if unsafe { NODE_ADDRS.get(NodeAddress { address: mapped_word(ip.source) }) }.is_none() {
        let sender = ip.source;
        return Err(stranger(ctx, sender));
    }
    content(ctx)?;
    let Some(outer) = at::<Ethernet>(ctx, 0) else { return Err(Counter::drop_tunnel_content) };
    // SAFETY: `at` has checked that the header is inside the packet.
    let outer = unsafe { *outer };
    // SAFETY: the context is the program's own; no packet pointer from before is used again.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, OVERHEAD as i32) } != 0 {
        return Err(Counter::drop_tunnel_content);
    }
    let Some(ethernet) = at::<Ethernet>(ctx, 0) else { return Err(Counter::drop_tunnel_content) };
    // SAFETY: `at` has checked that the header is inside the packet.
    unsafe { *ethernet = Ethernet { ether_type: ETHERTYPE_IPV4, ..outer } };
    counted(Counter::untunnelled, xdp_action::XDP_PASS)
}

/// What comes out must be for one of our services: the tunnel is no way into this host for anything else.
#[inline(always)]
fn content(ctx: &XdpContext) -> Result<(), Counter> {
    const INNER_IP: usize = IP_AT + OVERHEAD;
    const INNER_L4: usize = L4_AT + OVERHEAD;
    let (Some(ip), Some(ports)) = (at::<Ipv4>(ctx, INNER_IP), at::<Ports>(ctx, INNER_L4)) else {
        return Err(Counter::drop_tunnel_content);
    };
    // SAFETY: `at` has checked that both headers are inside the packet.
    let (ip, ports) = unsafe { (&*ip, &*ports) };
    if ip.version_ihl != IPV4_PLAIN {
        return Err(Counter::drop_tunnel_content);
    }
    let ours = match ip.protocol {
        protocol::TCP => service_at(ip.destination, ports.destination).is_some(),
        protocol::ICMP => icmp::quoted(ctx, INNER_L4).is_some_and(|quoted| {
            ip.destination == quoted.server && service_at(quoted.server, quoted.server_port).is_some()
        }),
        _ => false,
    };
    if ours { Ok(()) } else { Err(Counter::drop_tunnel_content) }
}

/// Somebody who is no node sends tunnel packets.
#[inline(never)]
fn stranger(ctx: &XdpContext, sender: u32) -> Counter {
    if log::allowed() {
        warn!(ctx, "tunnel packet from {:i}, which is no node's address: dropped", u32::from_be(sender));
    }
    Counter::drop_tunnel_sender
}
