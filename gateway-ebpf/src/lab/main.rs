//! Programs that only the lab loads.
//!
//! A veth drops what XDP sends into it unless its receiving end runs an XDP program too: [`lab_pass`] is that program
//! for the ends that have nothing to steer. [`lab_switch`] makes a switch of the router's. [`bench_restore`] goes in front of a program whose speed is measured.
#![no_std]
#![no_main]
// The attribute macros make an undocumented twin of each program.
#![allow(missing_docs)]

mod bench;
mod switch;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Lets every packet through.
#[xdp]
pub fn lab_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Forwards to whom it is for.
#[xdp]
pub fn lab_switch(ctx: XdpContext) -> u32 {
    switch::forward(&ctx)
}

/// Begins a round of a benchmark.
#[xdp]
pub fn bench_restore(ctx: XdpContext) -> u32 {
    bench::round(&ctx);
    xdp_action::XDP_ABORTED
}

/// What the kernel goes by when it decides which helpers a program may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the verifier refuses a program that could panic.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
