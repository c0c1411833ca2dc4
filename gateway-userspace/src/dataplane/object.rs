//! The compiled kernel programs, and linking them to the kernel function they call.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use object::{Object as _, ObjectSection as _, SectionKind};
use ringsteer_ebpf::kfunc::{ASSIGN_REQSK, ASSIGN_REQSK_NAME};

use super::kernel_types::KernelTypes;

/// The programs this binary was built with.
static EMBEDDED: &[u8] = aya::include_bytes_aligned!(env!("RINGSTEER_OBJECT"));

/// The object file to load: the one given, or else the embedded one.
pub fn read(path: Option<&Path>) -> Result<Vec<u8>> {
    match path {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("cannot read the kernel programs from {}", path.display()))
        }
        None => Ok(EMBEDDED.to_vec()),
    }
}

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// A source register of 2 makes it a call of a kernel function (`BPF_PSEUDO_KFUNC_CALL`); the destination is unused.
const KERNEL_FUNCTION: u8 = 2 << 4;
/// Length of an instruction.
const INSTRUCTION: usize = 8;

/// What helps where the kernel lacks the function.
const REMEDY: &str = "without it the owner's kernel cannot make the sockets of connections that are bound late. Boot Linux 6.8 \
                      or newer, or set `mode = \"accept\"` in `[node]`, on all nodes";

/// Turns the placeholder calls in `object` into calls of this kernel's `bpf_sk_assign_tcp_reqsk`. Gives where the field
/// stands that `admit` reads of a socket in TIME_WAIT.
///
/// See [`ringsteer_ebpf::kfunc`] for why this is needed.
pub fn link(object: &mut [u8]) -> Result<u32> {
    let types = KernelTypes::of_running_kernel()?;
    let type_id = types.function(ASSIGN_REQSK_NAME).context(REMEDY)?;
    let timewait_offset = types.field_offset("tcp_timewait_sock", "skc_tw_rcv_nxt")?;
    let elf = object::File::parse(&*object).context("the kernel programs are not an ELF object")?;
    let code: Vec<_> = elf
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .filter_map(|section| section.file_range())
        .collect();
    drop(elf);
    let placeholder = u32::try_from(ASSIGN_REQSK).expect("helper numbers are 32 bits").to_le_bytes();
    let mut linked = 0;
    for (start, length) in code {
        for instruction in object[start as usize..(start + length) as usize].chunks_exact_mut(INSTRUCTION) {
            if instruction[..4] == [CALL, 0, 0, 0] && instruction[4..] == placeholder {
                instruction[1] = KERNEL_FUNCTION;
                instruction[4..].copy_from_slice(&type_id.to_le_bytes());
                linked += 1;
            }
        }
    }
    ensure!(
        linked > 0,
        "the kernel programs contain no call to {ASSIGN_REQSK_NAME}: this object was not built by `cargo xtask build-ebpf`"
    );
    Ok(timewait_offset)
}
