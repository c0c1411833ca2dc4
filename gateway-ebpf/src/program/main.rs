// SPDX-License-Identifier: MIT OR GPL-2.0-only

//! The kernel programs: XDP `steer` at the edge, tc `admit` at the owner.
//!
//! A packet's way, by file:
//!
//! * [`steer`]: what kind of packet it is, and the established flow, the hot path;
//! * [`extension`]: what hides its ports behind IPv6 extension headers;
//! * [`accept`]: where connections go that their node accepts itself, in that mode;
//! * [`handshake`]: SYN in, SYN+ACK with a cookie out; RST where one is due;
//! * [`bind`]: the first segment, from cookie ([`proof`]) over key ([`scan`]) and ring ([`owner`]) to a flow;
//! * [`forward`]: into the tunnel ([`next_hop`]) or up to this node's TCP stack;
//! * [`untunnel`]: out of the tunnel;
//! * [`moving`]: connections that are leaving this node, or have left it;
//! * [`icmp`]: errors about a flow follow the flow;
//! * [`admit`]: the socket is created from the first segment.
//!
//! All of it is generic over the family of the packet, IPv4 or IPv6 (`wire::family`), and compiled once for each.
//!
//! Each step returns an XDP action it has counted, or the [`Counter`] of the drop, which is counted once, here.
#![no_std]
#![no_main]
// The macros of aya make public items without documentation.
#![allow(missing_docs)]

mod accept;
mod admit;
mod bind;
mod clock;
mod extension;
mod forward;
mod handshake;
mod icmp;
mod log;
mod maps;
mod moving;
mod next_hop;
mod owner;
mod packet;
mod proof;
mod scan;
mod socket;
mod steer;
mod untunnel;

use aya_ebpf::{
    bindings::xdp_action,
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ringsteer_ebpf::layout::stats::Counter;

/// What becomes of a packet: an XDP action already counted, or the reason to drop it. Functions that are not inlined
/// return the action alone ([`action`]): the verifier lets them return numbers only.
type Verdict = Result<u32, Counter>;

/// Steers what arrives for a service, and takes packets out of the tunnel.
#[xdp]
pub fn steer(ctx: XdpContext) -> u32 {
    action(steer::packet(&ctx))
}

/// The XDP action of a verdict; a drop is counted here.
#[inline(always)]
fn action(verdict: Verdict) -> u32 {
    match verdict {
        Ok(action) => action,
        Err(reason) => {
            maps::count_any(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// Has the TCP stack create the socket of a connection that `steer` bound to this node.
#[classifier]
pub fn admit(ctx: TcContext) -> i32 {
    admit::packet(&ctx)
}

/// Names the build in the program's own instructions, so that two builds have different tags (`bpftool prog`).
const BUILD: u32 = ringsteer_ebpf::crc32::checksum_const(match option_env!("RINGSTEER_VARIANT") {
    Some(variant) => variant.as_bytes(),
    None => env!("CARGO_PKG_VERSION").as_bytes(),
});

/// The kfunc that admission calls is for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing here can panic; the verifier would refuse a program that still had a way into this loop.
    unsafe { core::hint::unreachable_unchecked() }
}
