//! Keys and values of the pinned maps.
//!
//! The field names are an interface: `bpftool map dump` prints them, and an operator reads them without our source.
//! Hence plain integers in host byte order, times as nanoseconds since boot, addresses always as 16 bytes (IPv4 as `::ffff:a.b.c.d`,
//! so a dump ends in the four decimals one knows), and no padding the compiler chose.

pub mod bench;
pub mod flow;
pub mod moves;
pub mod node;
pub mod ring;
pub mod secret;
pub mod service;
pub mod stats;

/// An IPv6 address, or an IPv4 address mapped into it (RFC 4291 section 2.5.5.2).
pub type Address = [u8; 16];

/// The 16-byte form of an IPv4 address.
#[inline(always)]
pub const fn mapped(ipv4: [u8; 4]) -> Address {
    let [a, b, c, d] = ipv4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// What stands in front of an IPv4 address in its 16-byte form, as words in memory.
pub const MAPPED_PREFIX: [u32; 3] = [0, 0, 0xffff_0000u32.to_le()];

/// The IPv4 address in a 16-byte one, if it is one.
#[inline(always)]
pub fn unmapped(address: &Address) -> Option<[u8; 4]> {
    match *address {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// Declares a plain-old-data struct that maps carry: `repr(C)`, no padding, and known to aya on the userspace side.
macro_rules! map_pod {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        // SAFETY: `bytemuck::Pod` has just been derived, which checks what aya's trait asks for: no padding, no
        // pointers, every bit pattern valid.
        #[cfg(feature = "userspace")]
        #[allow(unsafe_code)]
        unsafe impl aya::Pod for $name {}
    };
}
pub(crate) use map_pod;
