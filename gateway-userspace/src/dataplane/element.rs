//! Reading one large element of a map straight onto the heap: a ring is 256 KiB, more than a stack should be asked to
//! hold several times over.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// The part of `union bpf_attr` that the command reads (`include/uapi/linux/bpf.h`).
#[repr(C)]
struct Attributes {
    map: u32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Element `index` of an array map whose values are `V`s.
pub(super) fn of_array<V: bytemuck::Pod>(map: BorrowedFd<'_>, index: u32) -> io::Result<Box<V>> {
    /// `BPF_MAP_LOOKUP_ELEM`.
    const COMMAND: libc::c_long = 1;
    let mut value: Box<V> = bytemuck::zeroed_box();
    let mut attributes = Attributes {
        map: map.as_raw_fd() as u32,
        unused: 0,
        key: &raw const index as u64,
        value: &raw mut *value as u64,
        flags: 0,
    };
    // SAFETY: the attributes are as long as we say. The caller vouches for the map's layout: the key is a `u32` and the
    // value has room for a `V`, for which any bytes will do. Both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, COMMAND, &raw mut attributes, size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
