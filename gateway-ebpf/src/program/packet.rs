//! Packet memory: the one place that turns an offset into a pointer.

use aya_ebpf::{
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use ringsteer_ebpf::wire::headers::{IPV4, Ipv4, TCP, Tcp, flag};

/// Offsets of headers in an untagged frame with a plain IPv4 header.
pub const IP_AT: usize = 14;
/// See [`IP_AT`].
pub const L4_AT: usize = IP_AT + IPV4;

/// A `T` at `offset` of the packet, if all of it is there.
#[inline(always)]
pub fn at<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let start = ctx.data() + offset;
    if start + size_of::<T>() > ctx.data_end() { None } else { Some(start as *mut T) }
}

/// The frame's length. Asked of the kernel: the difference of the two packet pointers is a number that the optimiser
/// likes to take apart, and the verifier allows no arithmetic on its parts.
#[inline(always)]
pub fn length(ctx: &XdpContext) -> usize {
    // SAFETY: the context is the program's own (Linux 5.18).
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as usize }
}

/// Makes the frame `length` bytes long.
#[inline(always)]
pub fn resize(ctx: &XdpContext, length: usize) -> bool {
    let delta = length as i32 - self::length(ctx) as i32;
    // SAFETY: the context is the program's own; all packet pointers are taken anew afterwards, which the verifier sees to.
    unsafe { bpf_xdp_adjust_tail(ctx.ctx, delta) == 0 }
}

/// A TCP segment for a service, by value: nothing of it dangles when the packet is resized.
#[derive(Clone, Copy)]
pub struct Segment {
    /// The client, bytes as in memory.
    pub client: u32,
    /// The virtual address, bytes as in memory.
    pub server: u32,
    /// The client's port, bytes as in memory.
    pub client_port: u16,
    /// The service's port, bytes as in memory.
    pub server_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Where the TCP payload starts, from the frame's start.
    pub payload_at: u32,
    /// Bytes of payload.
    pub payload: u32,
}

impl Segment {
    /// Whether all of these flags are set.
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether any of these flags is set.
    #[inline(always)]
    pub fn any(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// How much sequence space the segment takes.
    #[inline(always)]
    pub fn sequence_length(&self) -> u32 {
        self.payload + self.any(flag::SYN) as u32 + self.any(flag::FIN) as u32
    }

    /// Reads it. `None` if the lengths in the headers contradict each other or the frame.
    #[inline(always)]
    pub fn read(ctx: &XdpContext) -> Option<Self> {
        let ip = at::<Ipv4>(ctx, IP_AT)?;
        let tcp = at::<Tcp>(ctx, L4_AT)?;
        // SAFETY: `at` has checked that the headers are inside the packet.
        let (ip, tcp) = unsafe { (&*ip, &*tcp) };
        let header_length = tcp.header_length();
        let total_length = u16::from_be(ip.total_length) as usize;
        let headers = IPV4 + header_length;
        if header_length < TCP || total_length < headers || IP_AT + total_length > length(ctx) {
            return None;
        }
        Some(Self {
            client: ip.source,
            server: ip.destination,
            client_port: tcp.source,
            server_port: tcp.destination,
            sequence: u32::from_be(tcp.sequence),
            acknowledgement: u32::from_be(tcp.acknowledgement),
            flags: tcp.flags,
            payload_at: (IP_AT + headers) as u32,
            payload: (total_length - headers) as u32,
        })
    }
}
