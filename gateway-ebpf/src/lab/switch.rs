//! What a rack's switch does: a frame goes out where its destination is connected. A switch of silicon takes no host's
//! time; a bridge in the kernel does. A benchmark on one machine would count it among the hosts' work.

use aya_ebpf::{bindings::xdp_action, btf_maps::DevMapHash, macros::btf_map, programs::XdpContext};

/// Most hosts a switch can have.
const PORTS: usize = 256;

/// The interface behind which a host is, by the last four bytes of its link address as they are in memory.
#[btf_map(name = "switch_ports")]
static PORT: DevMapHash<PORTS> = DevMapHash::new();

/// Offset of the last four bytes of the destination in an Ethernet header.
const DESTINATION_TAIL: usize = 2;

/// Forwards to the port of the destination. What is for nobody in particular, or for the router itself, is left to the
/// kernel.
#[inline(always)]
pub fn forward(ctx: &XdpContext) -> u32 {
    let at = ctx.data() + DESTINATION_TAIL;
    if at + size_of::<u32>() > ctx.data_end() {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the comparison above says that the four bytes are inside the packet.
    let destination = unsafe { (at as *const u32).read_unaligned() };
    PORT.redirect(destination, u64::from(xdp_action::XDP_PASS)).unwrap_or_else(|refused| refused)
}
