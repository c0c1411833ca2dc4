//! The programs' own types, in the kernel.
//!
//! Maps made later, each new ring, need them so that a dump shows field names. The kernel would give out the types that
//! came in with the programs by their number, but only to CAP_SYS_ADMIN (`bpf_btf_get_fd_by_id` in
//! `kernel/bpf/syscall.c`), and the agent is to do without. Loading them once more takes CAP_BPF, which it has.

use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

/// Loads the types of `object`.
pub(super) fn load(object: &mut aya_obj::Object) -> Result<OwnedFd> {
    let features = aya::features().btf().context("this kernel takes no BTF; ringsteer needs Linux 6.8 or newer")?;
    let types = object
        .fixup_and_sanitize_btf(features)
        .context("cannot read the programs' types")?
        .context("the programs carry no BTF")?
        .to_bytes();
    load_bytes(&types).context("cannot load the programs' types")
}

fn load_bytes(types: &[u8]) -> std::io::Result<OwnedFd> {
    /// `BPF_BTF_LOAD`.
    const COMMAND: libc::c_long = 18;
    /// The part of `union bpf_attr` this command reads. No log is asked for.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        types: u64,
        log: u64,
        length: u32,
        log_size: u32,
        log_level: u32,
    }
    let length = u32::try_from(types.len()).map_err(std::io::Error::other)?;
    let attributes = Attributes { types: types.as_ptr() as u64, length, ..Attributes::default() };
    // SAFETY: the attributes are as long as we say and point to as many bytes as they say; the kernel only reads both,
    // and is done with them when the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, COMMAND, &raw const attributes, size_of::<Attributes>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
