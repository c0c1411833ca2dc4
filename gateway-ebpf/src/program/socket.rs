//! How the kernel is asked for the socket of a segment.

use ringsteer_ebpf::wire::family::{Family, V4, V6};

use crate::packet::Segment;

/// The family's form of the kernel's `struct bpf_sock_tuple`.
pub trait Lookup: Family {
    /// The form.
    type Tuple;

    /// That of a segment.
    fn tuple(segment: &Segment) -> Self::Tuple;
}

/// Both ports in a word, source first.
#[inline(always)]
fn ports(segment: &Segment) -> u32 {
    (segment.client_port as u32) | (segment.server_port as u32) << 16
}

impl Lookup for V4 {
    /// Source address, destination address, ports.
    type Tuple = [u32; 3];

    #[inline(always)]
    fn tuple(segment: &Segment) -> [u32; 3] {
        [V4::narrow(&segment.client), V4::narrow(&segment.server), ports(segment)]
    }
}

impl Lookup for V6 {
    /// Source address, destination address, ports.
    type Tuple = [u32; 9];

    #[inline(always)]
    fn tuple(segment: &Segment) -> [u32; 9] {
        let ([a, b, c, d], [e, f, g, h]) = (segment.client, segment.server);
        [a, b, c, d, e, f, g, h, ports(segment)]
    }
}
