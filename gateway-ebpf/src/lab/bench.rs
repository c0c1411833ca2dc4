//! Undoes what `steer` did to a packet, then runs it again.
//!
//! `BPF_PROG_TEST_RUN` repeats a program on one and the same packet without restoring it, so a program that
//! encapsulates would see its own output the second time. This one goes in front of it.

use aya_ebpf::{
    btf_maps::{Array, ProgramArray},
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    macros::btf_map,
    programs::XdpContext,
};
use ringsteer_ebpf::layout::bench::{Acknowledgements, MAX_ACKNOWLEDGEMENTS, Plan, RESTORED, WORDS, client};

/// How a round begins.
#[btf_map(name = "bench_plan")]
static PLAN: Array<Plan, 1> = Array::new();

/// What the connections acknowledge.
#[btf_map(name = "bench_acks")]
static ACKNOWLEDGEMENTS: Array<Acknowledgements, 1> = Array::new();

/// The program under test, in slot 0.
#[btf_map(name = "bench_program")]
static PROGRAM: ProgramArray<1> = ProgramArray::new();

/// Where fields of an untagged IPv4 and TCP packet are.
mod at {
    pub const CLIENT_LAST_BYTE: usize = 29;
    pub const CLIENT_PORT: usize = 34;
    pub const ACKNOWLEDGEMENT: usize = 42;
}

/// Restores the packet and hands it on. Comes back only if something failed.
#[inline(always)]
pub fn round(ctx: &XdpContext) {
    if restore(ctx).is_some() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { PROGRAM.tail_call(ctx, 0) };
    }
}

#[inline(always)]
fn restore(ctx: &XdpContext) -> Option<()> {
    // SAFETY: benchmarks run one at a time; nobody else has the entry.
    let plan = unsafe { &mut *PLAN.get_ptr_mut(0)? };
    // SAFETY: the context is the program's own; packet pointers are taken below.
    unsafe {
        let grown = bpf_xdp_get_buff_len(ctx.ctx) as i32 - plan.length as i32;
        if grown != 0 {
            let failed = match plan.at_tail {
                0 => bpf_xdp_adjust_head(ctx.ctx, grown),
                _ => bpf_xdp_adjust_tail(ctx.ctx, -grown),
            };
            if failed != 0 {
                return None;
            }
        }
    }
    let start = ctx.data();
    if start + RESTORED > ctx.data_end() {
        return None;
    }
    let connection = plan.step();
    // SAFETY: all of it lies within the first RESTORED bytes of the packet, as just checked. A restored packet begins
    // where the kernel first put it, on a word boundary; the fields are as aligned as their offsets say.
    unsafe {
        for word in 0..WORDS {
            // Volatile, or the compiler finds that this is `memmove`, which here goes byte by byte.
            (start as *mut u64).add(word).write_volatile(plan.words[word]);
        }
        *((start + RESTORED - 2) as *mut u16) = plan.rest;
        if plan.with_client != 0 {
            let (address, port) = client(connection);
            let last = (start + at::CLIENT_LAST_BYTE) as *mut u8;
            *last = (*last).wrapping_add(address);
            *((start + at::CLIENT_PORT) as *mut u16) = port.to_be();
        }
        if plan.with_acknowledgement != 0 {
            let prepared = ACKNOWLEDGEMENTS.get(0)?;
            let number = prepared.numbers[connection as usize & (MAX_ACKNOWLEDGEMENTS - 1)];
            *((start + at::ACKNOWLEDGEMENT) as *mut u16) = number as u16;
            *((start + at::ACKNOWLEDGEMENT + 2) as *mut u16) = (number >> 16) as u16;
        }
    }
    Some(())
}
