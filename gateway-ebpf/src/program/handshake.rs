//! Answers that the edge gives itself: SYN+ACK with a cookie, and RST. Both are made of the packet that asked for them
//! and are never longer than it by more than TCP options, so nobody can use us to amplify anything.

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_xdp_load_bytes, programs::XdpContext};
use ringsteer_ebpf::{
    cookie::{self, Options, RCV_WSCALE, SYN_ACK_WINDOW},
    layout::{service::Service, stats::Counter},
    wire::{
        checksum,
        headers::{DONT_FRAGMENT, Ethernet, IPV4, IPV4_PLAIN, Ipv4, TCP, Tcp, flag, protocol},
        options::{MAX, kind},
    },
};

use crate::{
    Verdict, bind, clock,
    maps::{self, counted},
    packet::{IP_AT, L4_AT, Segment, at, resize},
    scan,
};

/// The client's MSS if its SYN names none (RFC 9293 section 3.7.1).
const DEFAULT_MSS: u16 = 536;

/// Answers a SYN with a cookie. Gives the XDP action, counted.
#[inline(never)]
pub fn answer(ctx: &XdpContext, service: &Service) -> u32 {
    crate::action(syn_ack(ctx, service))
}

#[inline(always)]
fn syn_ack(ctx: &XdpContext, service: &Service) -> Verdict {
    let Some(segment) = Segment::read(ctx) else { return Err(Counter::drop_malformed) };
    let Some(scratch) = maps::scratch() else { return Err(Counter::drop_internal) };
    let options_length = segment.payload_at - (L4_AT + TCP) as u32;
    // SAFETY: the scratch memory is this CPU's own; its option area takes 64 bytes, and the helper checks the range
    // against the packet.
    let parsed = unsafe {
        if options_length > MAX as u32 {
            return Err(Counter::drop_malformed);
        }
        let area = (&raw mut (*scratch).options).cast();
        if options_length != 0
            && bpf_xdp_load_bytes(ctx.ctx, (L4_AT + TCP) as u32, area, ((options_length - 1) & 63) + 1) != 0
        {
            return Err(Counter::drop_malformed);
        }
        scan::scan_options(options_length);
        (*scratch).parsed
    };
    let secrets = maps::secrets()?;
    let class = cookie::mss_class(if parsed.mss == 0 { DEFAULT_MSS } else { parsed.mss });
    let cookie = cookie::make(secrets.current(), &bind::tuple(&segment), clock::slot(), segment.sequence, class);

    let mss = (kind::MSS as u32) << 24 | 4 << 16 | service.mss;
    let with_timestamps = parsed.has_timestamps != 0;
    let options_length = if with_timestamps { 20 } else { 4 };
    if !resize(ctx, L4_AT + TCP + options_length) {
        return Err(Counter::drop_no_headroom);
    }
    let mut reply = Reply {
        sequence: cookie,
        acknowledgement: segment.sequence.wrapping_add(1),
        flags: flag::SYN | flag::ACK,
        window: SYN_ACK_WINDOW,
        options_length: options_length as u32,
        options_sum: checksum::halves(mss.to_be()),
    };
    if with_timestamps {
        let offered = Options {
            window_scale: if parsed.has_window_scale != 0 { Some(parsed.window_scale) } else { None },
            sack: parsed.sack_permitted != 0,
        };
        // Milliseconds, near enough: the client only compares them with each other.
        let stamp = offered.into_timestamp((clock::coarse_ns() >> 20) as u32);
        let padding = (kind::NOP as u32) << 24 | (kind::NOP as u32) << 16;
        let sack = if offered.sack { (kind::SACK_PERMITTED as u32) << 24 | 2 << 16 } else { padding };
        let scale = (kind::WINDOW_SCALE as u32) << 16 | 3 << 8 | RCV_WSCALE as u32;
        let words = [
            mss.to_be(),
            (sack | (kind::TIMESTAMPS as u32) << 8 | 10).to_be(),
            stamp.to_be(),
            parsed.timestamp.to_be(),
            (if parsed.has_window_scale != 0 { (kind::NOP as u32) << 24 | scale } else { padding | padding >> 16 })
                .to_be(),
        ];
        let Some(area) = at::<[u32; 5]>(ctx, L4_AT + TCP) else { return Err(Counter::drop_malformed) };
        // SAFETY: `at` has checked that the area is inside the packet.
        unsafe { *area = words };
        for word in &words[1..] {
            reply.options_sum += checksum::halves(*word);
        }
    } else {
        let Some(area) = at::<u32>(ctx, L4_AT + TCP) else { return Err(Counter::drop_malformed) };
        // SAFETY: `at` has checked that the area is inside the packet.
        unsafe { *area = mss.to_be() };
    }
    reply.write(ctx, &segment)?;
    counted(Counter::syn_answered, xdp_action::XDP_TX)
}

/// Answers a segment with RST, so that its sender knows at once (RFC 9293 section 3.10.7.1).
#[inline(always)]
pub fn reset(ctx: &XdpContext, segment: &Segment, why: Counter) -> Verdict {
    if !resize(ctx, L4_AT + TCP) {
        return Err(Counter::drop_no_headroom);
    }
    let reply = if segment.has(flag::ACK) {
        Reply { sequence: segment.acknowledgement, acknowledgement: 0, flags: flag::RST, ..Reply::PLAIN }
    } else {
        Reply {
            sequence: 0,
            acknowledgement: segment.sequence.wrapping_add(segment.sequence_length()),
            flags: flag::RST | flag::ACK,
            ..Reply::PLAIN
        }
    };
    reply.write(ctx, segment)?;
    counted(why, xdp_action::XDP_TX)
}

/// What is particular about an answer.
struct Reply {
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    /// Bytes of options, already in place.
    options_length: u32,
    /// Their sum, in 16-bit words as in memory.
    options_sum: u32,
}

impl Reply {
    const PLAIN: Self =
        Self { sequence: 0, acknowledgement: 0, flags: 0, window: 0, options_length: 0, options_sum: 0 };

    /// Writes the headers of the answer to `segment` over those of the packet, back the way it came.
    #[inline(always)]
    fn write(&self, ctx: &XdpContext, segment: &Segment) -> Result<(), Counter> {
        let tcp_length = TCP as u32 + self.options_length;
        let total_length = (IPV4 as u32 + tcp_length) as u16;
        let (Some(ethernet), Some(ip), Some(tcp)) =
            (at::<Ethernet>(ctx, 0), at::<Ipv4>(ctx, IP_AT), at::<Tcp>(ctx, L4_AT))
        else {
            return Err(Counter::drop_malformed);
        };
        let addresses = checksum::halves(segment.client) + checksum::halves(segment.server);
        let mut ip_header = Ipv4 {
            version_ihl: IPV4_PLAIN,
            tos: 0,
            total_length: total_length.to_be(),
            identification: 0,
            fragment: DONT_FRAGMENT,
            ttl: 64,
            protocol: protocol::TCP,
            checksum: 0,
            source: segment.server,
            destination: segment.client,
        };
        // The words of the header in memory order: a byte pair (a, b) is a | b << 8 on this little-endian target.
        let ip_sum = IPV4_PLAIN as u32
            + ip_header.total_length as u32
            + DONT_FRAGMENT as u32
            + (64 | (protocol::TCP as u32) << 8)
            + addresses;
        ip_header.checksum = checksum::finish(ip_sum);
        let offset_reserved = ((tcp_length >> 2) << 4) as u8;
        let mut tcp_header = Tcp {
            source: segment.server_port,
            destination: segment.client_port,
            sequence: self.sequence.to_be(),
            acknowledgement: self.acknowledgement.to_be(),
            offset_reserved,
            flags: self.flags,
            window: self.window.to_be(),
            checksum: 0,
            urgent: 0,
        };
        let tcp_sum = addresses
            + ((protocol::TCP as u32) << 8)
            + (tcp_length as u16).to_be() as u32
            + segment.server_port as u32
            + segment.client_port as u32
            + checksum::halves(tcp_header.sequence)
            + checksum::halves(tcp_header.acknowledgement)
            + (offset_reserved as u32 | (self.flags as u32) << 8)
            + tcp_header.window as u32
            + self.options_sum;
        tcp_header.checksum = checksum::finish(tcp_sum);
        // SAFETY: `at` has checked that the headers are inside the packet.
        unsafe {
            let Ethernet { destination, source, ether_type } = *ethernet;
            *ethernet = Ethernet { destination: source, source: destination, ether_type };
            *ip = ip_header;
            *tcp = tcp_header;
        }
        Ok(())
    }
}
