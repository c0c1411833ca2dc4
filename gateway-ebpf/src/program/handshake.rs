//! Answers that the edge gives itself: SYN+ACK with a cookie, and RST. Both are made of the packet that asked for them
//! and are never longer than it by more than TCP options, so nobody can use us to amplify anything.

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_xdp_load_bytes, programs::XdpContext};
use ringsteer_ebpf::{
    cookie::{self, Options, RCV_WSCALE, SYN_ACK_WINDOW},
    layout::{service::Service, stats::Counter},
    wire::{
        answer::{Answer, Headers},
        checksum,
        family::Family,
        headers::{Ethernet, TCP, flag},
        options::{AREA, MAX, kind},
    },
};

use crate::{
    Verdict, clock,
    maps::{self, counted},
    packet::{IP_AT, Segment, at, l4_at, resize, within},
    proof, scan,
};

/// Answers a SYN with a cookie. Gives the XDP action, counted.
#[inline(never)]
pub fn answer<F: Family>(ctx: &XdpContext, service: &Service) -> u32 {
    crate::action(syn_ack::<F>(ctx, service))
}

#[inline(always)]
fn syn_ack<F: Family>(ctx: &XdpContext, service: &Service) -> Verdict {
    let options_at = l4_at::<F>() + TCP;
    let Some(segment) = Segment::read::<F>(ctx) else { return Err(Counter::drop_malformed) };
    let Some(scratch) = maps::scratch() else { return Err(Counter::drop_internal) };
    let options_length = segment.options_length::<F>();
    // SAFETY: the scratch memory is this CPU's own; its option area takes AREA bytes, and the helper checks the range
    // against the packet.
    let parsed = unsafe {
        if options_length > MAX as u32 {
            return Err(Counter::drop_malformed);
        }
        let area = (&raw mut (*scratch).options).cast();
        if options_length != 0
            && bpf_xdp_load_bytes(ctx.ctx, options_at as u32, area, within::<AREA>(options_length)) != 0
        {
            return Err(Counter::drop_malformed);
        }
        scan::scan_options(options_length);
        &(*scratch).parsed
    };
    // 0 if the SYN names none: then the default counts, and less than that cannot be admitted.
    let class = cookie::mss_class(if parsed.mss < F::DEFAULT_MSS { F::DEFAULT_MSS } else { parsed.mss });
    let cookie = proof::cookie_for(class);

    let mss = (kind::MSS as u32) << 24 | 4 << 16 | service.mss;
    let with_timestamps = parsed.has_timestamps != 0;
    let options_length = if with_timestamps { 20 } else { 4 };
    if !resize(ctx, options_at + options_length) {
        return Err(Counter::drop_no_headroom);
    }
    let mut answer = Answer {
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
        let Some(area) = at::<[u32; 5]>(ctx, options_at) else { return Err(Counter::drop_malformed) };
        // SAFETY: `at` has checked that the area is inside the packet.
        unsafe { *area = words };
        for word in &words[1..] {
            answer.options_sum += checksum::halves(*word);
        }
    } else {
        let Some(area) = at::<u32>(ctx, options_at) else { return Err(Counter::drop_malformed) };
        // SAFETY: `at` has checked that the area is inside the packet.
        unsafe { *area = mss.to_be() };
    }
    send_back::<F>(ctx, segment, &answer)?;
    counted(Counter::syn_answered, xdp_action::XDP_TX)
}

/// Answers a segment with RST, so that its sender knows at once (RFC 9293 section 3.10.7.1).
#[inline(always)]
pub fn reset<F: Family>(ctx: &XdpContext, segment: &Segment, why: Counter) -> Verdict {
    if !resize(ctx, l4_at::<F>() + TCP) {
        return Err(Counter::drop_no_headroom);
    }
    let answer = if segment.has(flag::ACK) {
        Answer::reset_at(segment.acknowledgement)
    } else {
        Answer::reset_acknowledging(segment.sequence_end())
    };
    send_back::<F>(ctx, segment, &answer)?;
    counted(why, xdp_action::XDP_TX)
}

/// Writes the headers of the answer to `segment` over those of the packet, back the way it came.
#[inline(always)]
fn send_back<F: Family>(ctx: &XdpContext, segment: &Segment, answer: &Answer) -> Result<(), Counter> {
    let (Some(ethernet), Some(headers)) = (at::<Ethernet>(ctx, 0), at::<Headers<F>>(ctx, IP_AT)) else {
        return Err(Counter::drop_malformed);
    };
    // SAFETY: `at` has checked that the headers are inside the packet.
    unsafe {
        let Ethernet { destination, source, ether_type } = *ethernet;
        *ethernet = Ethernet { destination: source, source: destination, ether_type };
        *headers = answer.headers::<F>(&segment.ends_of_answer());
    }
    Ok(())
}
