//! Packet memory: the one place that turns an offset into a pointer.

use aya_ebpf::{
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use ringsteer_ebpf::wire::{
    answer::Ends,
    family::{Family, Words},
    headers::{ETHERNET, TCP, Tcp, flag},
};

use crate::maps;

/// Where the IP header starts in an untagged frame.
pub const IP_AT: usize = ETHERNET;

/// Where what follows a plain IP header starts.
#[inline(always)]
pub const fn l4_at<F: Family>() -> usize {
    IP_AT + F::HEADER
}

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

/// `length`, which is between 1 and `LIMIT`, a power of two, in a form in which the verifier sees that it is. The compiler
/// must not: it would leave out what it can prove.
#[inline(always)]
pub fn within<const LIMIT: u32>(length: u32) -> u32 {
    (core::hint::black_box(length).wrapping_sub(1) & (LIMIT - 1)) + 1
}

/// A TCP segment for a service, in this CPU's scratch memory and not in the packet: nothing of it dangles when the
/// packet is resized, functions of both families share it, and it takes none of the stack, which would not do for two
/// IPv6 addresses in each of the functions on the way down.
#[repr(C)]
pub struct Segment {
    /// The client.
    pub client: Words,
    /// The virtual address.
    pub server: Words,
    /// The client's port, bytes as in memory.
    pub client_port: u16,
    /// The service's port, bytes as in memory.
    pub server_port: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Where the TCP payload starts, from the frame's start.
    pub payload_at: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// Flags.
    pub flags: u32,
}

impl Segment {
    /// Whether all of these flags are set.
    #[inline(always)]
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags as u32 == flags as u32
    }

    /// Whether any of these flags is set.
    #[inline(always)]
    pub fn any(&self, flags: u8) -> bool {
        self.flags & flags as u32 != 0
    }

    /// Where the sequence space that the segment takes ends.
    #[inline(always)]
    pub fn sequence_end(&self) -> u32 {
        let length = self.payload + self.any(flag::SYN) as u32 + self.any(flag::FIN) as u32;
        self.sequence.wrapping_add(length)
    }

    /// Its ends, the client as the sender.
    #[inline(always)]
    pub fn ends(&self) -> Ends {
        Ends { from: self.client, to: self.server, from_port: self.client_port, to_port: self.server_port }
    }

    /// Its ends, the other way round: those of an answer.
    #[inline(always)]
    pub fn ends_of_answer(&self) -> Ends {
        Ends { from: self.server, to: self.client, from_port: self.server_port, to_port: self.client_port }
    }

    /// Bytes of TCP options.
    #[inline(always)]
    pub fn options_length<F: Family>(&self) -> u32 {
        self.payload_at.wrapping_sub((l4_at::<F>() + TCP) as u32)
    }

    /// Reads the packet's, over the one read before. `None` if the lengths in the headers contradict each other or the
    /// frame.
    #[inline(always)]
    pub fn read<F: Family>(ctx: &XdpContext) -> Option<&'static Self> {
        let ip = at::<F::Header>(ctx, IP_AT)?;
        let tcp = at::<Tcp>(ctx, l4_at::<F>())?;
        // SAFETY: `at` has checked that the headers are inside the packet.
        let (ip, tcp) = unsafe { (&*ip, &*tcp) };
        let frame = length(ctx);
        Self::of::<F>(ip, tcp, frame)
    }

    /// That with these headers, over the one read before. `None` if their lengths contradict each other or that of the
    /// frame.
    #[inline(always)]
    pub fn of<F: Family>(ip: &F::Header, tcp: &Tcp, frame: usize) -> Option<&'static Self> {
        let header_length = tcp.header_length();
        let total_length = F::length(ip);
        let headers = F::HEADER + header_length;
        if header_length < TCP || total_length < headers || IP_AT + total_length > frame {
            return None;
        }
        let scratch = maps::scratch()?;
        // SAFETY: the scratch memory is this CPU's own and outlives the program's run. Whoever reads another segment
        // is done with the one before.
        let segment = unsafe { &mut (*scratch).segment };
        segment.client = F::widen(F::source(ip));
        segment.server = F::widen(F::destination(ip));
        segment.client_port = tcp.source;
        segment.server_port = tcp.destination;
        segment.sequence = u32::from_be(tcp.sequence);
        segment.acknowledgement = u32::from_be(tcp.acknowledgement);
        segment.payload_at = (IP_AT + headers) as u32;
        segment.payload = (total_length - headers) as u32;
        segment.flags = tcp.flags as u32;
        Some(segment)
    }
}
