//! Admission, tc ingress at the owner: the kernel is asked to create the socket of a connection from the first segment
//! that an edge sent here.
//!
//! Only segments that carry the edge's mark are looked at. The kernel does the rest (`cookie_v4_check`,
//! `cookie_v6_check`): it makes the established socket, puts it into the listener's accept queue and delivers the data
//! with it.

use aya_ebpf::{
    Global,
    bindings::{__sk_buff, BPF_F_CURRENT_NETNS, BPF_F_INGRESS, bpf_sock, bpf_sock_tuple},
    helpers::generated::{
        bpf_clone_redirect, bpf_sk_release, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes, bpf_skc_lookup_tcp, bpf_skc_to_tcp_sock, bpf_skc_to_tcp_timewait_sock, bpf_tcp_sock,
    },
    programs::TcContext,
};
use aya_log_ebpf::warn;
use ringsteer_ebpf::{
    cookie::{self, Options, RCV_WSCALE},
    kfunc::{ASSIGN_REQSK, ReqAttrs},
    layout::{Address, flow::FlowKey, stats::Counter},
    wire::{
        answer::{Answer, Headers},
        family::{Family, V4, V6},
        headers::{ADMISSION_MARK, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, TCP, Tcp, protocol},
        options::{AREA, MAX, Parsed},
    },
};

use crate::{
    log,
    maps::{self, count},
    moving,
    packet::{IP_AT, Segment, l4_at, within},
    proof, scan,
    socket::Lookup,
    steer::{flow_key, service_at},
};

/// The next program, or the stack.
const NEXT: i32 = -1;
/// No further.
const DROP: i32 = 2;

/// Where `tw_rcv_nxt` stands in `struct tcp_timewait_sock`; the agent finds it in the kernel's BTF.
///
/// The initial value is one that nothing else has: the compiler merges constants of equal bytes, and a 0 here, once
/// overridden at load time, would change every other 0 that a program points to.
#[unsafe(no_mangle)]
static TIMEWAIT_RCV_NXT: Global<u32> = Global::new(0xffff_5374);

/// Socket states, from the kernel's `net/tcp_states.h`.
mod state {
    pub const TIME_WAIT: u32 = 6;
    pub const LISTEN: u32 = 10;
}

/// The mark of a segment that comes by for the second time, after a stale socket has been closed; lives in the packet's
/// `mark` while it is queued on this host.
const SECOND_TRY: u32 = 0x7269_6e67;

/// Decides about a packet on its way up.
#[inline(always)]
pub fn packet(ctx: &TcContext) -> i32 {
    /// Ethernet, IPv4 and TCP headers: nothing of ours is shorter.
    const LEAST: usize = l4_at::<V4>() + TCP;
    if !pull(ctx, LEAST) || ctx.data() + LEAST > ctx.data_end() {
        return NEXT;
    }
    // SAFETY: the header is inside the packet, as just checked.
    match unsafe { (*(ctx.data() as *const Ethernet)).ether_type } {
        ETHERTYPE_IPV4 => of_family::<V4>(ctx),
        ETHERTYPE_IPV6 => of_family::<V6>(ctx),
        _ => NEXT,
    }
}

/// Has the first `length` bytes of the packet where they can be read directly. Packet pointers are void afterwards.
#[inline(always)]
fn pull(ctx: &TcContext, length: usize) -> bool {
    if ctx.data() + length > ctx.data_end() {
        if (ctx.len() as usize) < length {
            return false;
        }
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_pull_data(skb(ctx), length as u32) };
    }
    true
}

/// Decides about a packet of the family.
#[inline(never)]
fn of_family<F: Lookup>(ctx: &TcContext) -> i32 {
    match marked::<F>(ctx) {
        Some(headers) => segment::<F>(ctx, &headers),
        None => NEXT,
    }
}

/// The headers of a segment with our mark.
#[inline(always)]
fn marked<F: Family>(ctx: &TcContext) -> Option<Headers<F>> {
    let end = l4_at::<F>() + TCP;
    if !pull(ctx, end) {
        return None;
    }
    let start = ctx.data();
    if start + end > ctx.data_end() {
        return None;
    }
    // SAFETY: the headers are inside the packet, as just checked.
    let (headers, first_byte) = unsafe { (&*((start + IP_AT) as *const Headers<F>), *((start + IP_AT) as *const u8)) };
    let ours = F::is_plain(first_byte)
        && F::protocol(&headers.ip) == protocol::TCP
        && headers.tcp.offset_reserved & ADMISSION_MARK != 0;
    if ours { Some(*headers) } else { None }
}

#[inline(always)]
fn skb(ctx: &TcContext) -> *mut __sk_buff {
    ctx.skb.skb
}

/// Counts a drop and gives the action that goes with it.
#[inline(always)]
fn dropped(why: Counter) -> i32 {
    count(why);
    DROP
}

/// A marked segment.
#[inline(always)]
fn segment<F: Lookup>(ctx: &TcContext, headers: &Headers<F>) -> i32 {
    if service_at::<F>(F::destination(&headers.ip), headers.tcp.destination).is_none() {
        return NEXT;
    }
    // SAFETY: the field belongs to the context.
    let second_try = unsafe { (*skb(ctx)).mark } == SECOND_TRY;
    if second_try {
        ctx.set_mark(0);
    }
    let Some(segment) = Segment::of::<F>(&headers.ip, &headers.tcp, ctx.len() as usize) else {
        return dropped(Counter::drop_malformed);
    };
    let mut key = F::tuple(segment);
    // SAFETY: the tuple is the family's form of `bpf_sock_tuple`; a socket found is released on every path below.
    let socket = unsafe {
        bpf_skc_lookup_tcp(
            skb(ctx).cast(),
            (&raw mut key).cast::<bpf_sock_tuple>(),
            size_of_val(&key) as u32,
            BPF_F_CURRENT_NETNS as u64,
            0,
        )
    };
    if socket.is_null() {
        return dropped(Counter::drop_no_listener);
    }
    let action = with_socket::<F>(ctx, segment, &headers.tcp, socket, second_try);
    // SAFETY: the socket came from the lookup above and is not used again.
    unsafe { bpf_sk_release(socket.cast()) };
    action
}

/// A marked segment, and the socket the kernel would give it to.
#[inline(always)]
fn with_socket<F: Family>(
    ctx: &TcContext,
    segment: &Segment,
    tcp: &Tcp,
    socket: *mut bpf_sock,
    second_try: bool,
) -> i32 {
    let Ok(proof) = proof::of_segment() else { return dropped(Counter::drop_internal) };
    // SAFETY: the lookup has given a socket, and the verifier knows its state may be read.
    let state = unsafe { (*socket).state };
    if state == state::LISTEN {
        return match proof {
            cookie::Verdict::Valid { mss } => admit::<F>(ctx, segment, tcp, socket, mss),
            _ => dropped(Counter::drop_admission_cookie),
        };
    }
    if let cookie::Verdict::Valid { .. } = proof
        && let Some(expected) = stale(socket, state, segment.sequence, segment.acknowledgement)
    {
        return close_stale::<F>(ctx, segment, expected, second_try);
    }
    clear_mark::<F>(ctx, tcp);
    count(Counter::admitted_before);
    NEXT
}

/// If the socket is an older connection's, left behind on the same 4-tuple: the sequence number it expects next.
///
/// A connection admitted from a segment like this one has taken in its data, and the client has acknowledged nothing
/// the owner sent: both numbers are a little ahead of the segment's. On an older connection they are anywhere.
///
/// Of the segments that follow the first, until the client has heard the owner, one in 16384 has a sequence number that
/// fits the cookie, too. Such a one is not behind what the socket expects next, and not far ahead of it either.
#[inline(always)]
fn stale(socket: *mut bpf_sock, state: u32, sequence: u32, acknowledgement: u32) -> Option<u32> {
    /// Further ahead than any first request and any first answer.
    const NEAR: u32 = 1 << 24;
    /// Further ahead than all that clients send and owners answer before they have heard each other.
    const AHEAD: u32 = 1 << 20;
    if state == state::TIME_WAIT {
        // SAFETY: the helper checks that the socket is what we take it for. The offset is that of a 32-bit field in the
        // running kernel's type, and the verifier checks that too.
        return unsafe {
            let timewait = bpf_skc_to_tcp_timewait_sock(socket.cast());
            if timewait.is_null() {
                return None;
            }
            Some(timewait.cast::<u8>().add(TIMEWAIT_RCV_NXT.load() as usize).cast::<u32>().read())
        };
    }
    // SAFETY: the helper checks that the socket is a full TCP socket.
    unsafe {
        let tcp = bpf_tcp_sock(socket);
        if tcp.is_null() {
            return None;
        }
        let received = (*tcp).rcv_nxt;
        let unheard = (*tcp).snd_una.wrapping_sub(acknowledgement);
        let is_first = received.wrapping_sub(sequence).wrapping_sub(1) < NEAR && unheard < NEAR;
        let is_next = sequence.wrapping_sub(received) < AHEAD && unheard < AHEAD;
        if is_first || is_next { None } else { Some(received) }
    }
}

/// Closes the older connection's socket and lets the segment come by once more.
///
/// The kernel has no call for that, but it does what a RST says. The segment is put back at the end of the line as it
/// is; this copy becomes a RST that fits the old socket exactly (`tcp_validate_incoming`, `tcp_timewait_state_process`)
/// and goes up at once. When the segment comes by again, the way to the listener is free.
#[inline(always)]
fn close_stale<F: Family>(ctx: &TcContext, segment: &Segment, expected: u32, second_try: bool) -> i32 {
    if second_try {
        return dropped(Counter::drop_stale_socket);
    }
    ctx.set_mark(SECOND_TRY);
    // SAFETY: the context is the program's own; no packet pointer is used afterwards.
    unsafe {
        let ifindex = (*skb(ctx)).ifindex;
        bpf_clone_redirect(skb(ctx), ifindex, BPF_F_INGRESS as u64);
    }
    ctx.set_mark(0);
    let headers = Answer::reset_at(expected).headers::<F>(&segment.ends());
    // SAFETY: the context is the program's own, `headers` is as long as we say.
    let written = unsafe {
        bpf_skb_change_tail(skb(ctx), (l4_at::<F>() + TCP) as u32, 0) == 0
            && bpf_skb_store_bytes(
                skb(ctx).cast(),
                IP_AT as u32,
                (&raw const headers).cast(),
                size_of::<Headers<F>>() as u32,
                0,
            ) == 0
    };
    if !written {
        return dropped(Counter::drop_stale_socket);
    }
    count(Counter::stale_socket_closed);
    NEXT
}

/// Takes the mark away again.
#[inline(always)]
fn clear_mark<F: Family>(ctx: &TcContext, tcp: &Tcp) {
    let mut cleared = *tcp;
    cleared.set_offset_reserved(tcp.offset_reserved & !ADMISSION_MARK);
    // Offset, flags, window, checksum: bytes 12 to 17 of the header. The sum over the packet stays the same, so a
    // checksum that the device computed over it stays right.
    let [window_low, window_high] = tcp.window.to_ne_bytes();
    let [checksum_low, checksum_high] = cleared.checksum.to_ne_bytes();
    let bytes = [cleared.offset_reserved, cleared.flags, window_low, window_high, checksum_low, checksum_high];
    // SAFETY: the context is the program's own, `bytes` is as long as we say; no packet pointer is used afterwards.
    unsafe {
        bpf_skb_store_bytes(skb(ctx).cast(), (l4_at::<F>() + 12) as u32, bytes.as_ptr().cast(), bytes.len() as u32, 0);
    }
}

/// Asks the kernel for the socket.
#[inline(always)]
fn admit<F: Family>(ctx: &TcContext, segment: &Segment, tcp: &Tcp, listener: *mut bpf_sock, mss: u16) -> i32 {
    let Some(parsed) = options::<F>(ctx, segment) else { return dropped(Counter::drop_internal) };
    let mut attributes = ReqAttrs { mss, ..ReqAttrs::default() };
    if parsed.has_timestamps != 0 {
        let offered = Options::from_timestamp(parsed.echo);
        attributes.rcv_tsval = parsed.timestamp;
        attributes.rcv_tsecr = parsed.echo;
        attributes.tstamp_ok = 1;
        attributes.sack_ok = offered.sack as u8;
        if let Some(scale) = offered.window_scale {
            attributes.wscale_ok = 1;
            attributes.snd_wscale = scale;
            attributes.rcv_wscale = RCV_WSCALE;
        }
    }
    clear_mark::<F>(ctx, tcp);
    // SAFETY: the helper checks that the socket is a TCP one. The kernel function is declared as the kernel has it, see
    // `ringsteer_ebpf::kfunc`; the attributes are as long as we say.
    let result = unsafe {
        let listener = bpf_skc_to_tcp_sock(listener.cast());
        if listener.is_null() {
            return dropped(Counter::drop_no_listener);
        }
        let assign: unsafe extern "C" fn(*mut __sk_buff, *mut core::ffi::c_void, *mut ReqAttrs, i32) -> i64 =
            core::mem::transmute(ASSIGN_REQSK);
        assign(skb(ctx), listener.cast(), &raw mut attributes, size_of::<ReqAttrs>() as i32)
    };
    if result as i32 != 0 {
        if log::allowed() {
            let client: Address = bytemuck::cast(segment.client);
            warn!(ctx, "the kernel refused to create a socket for {:i}: error {}", client, result as i32);
        }
        return dropped(Counter::drop_admission_refused);
    }
    count(Counter::admitted);
    forget_earlier::<F>(segment);
    NEXT
}

/// A connection has begun: where an earlier one on its addresses and ports has gone from here does not matter any more.
#[inline(always)]
fn forget_earlier<F: Family>(segment: &Segment) {
    if !moving::any() {
        return;
    }
    let Some(service) = service_at::<F>(F::narrow(&segment.server), segment.server_port) else { return };
    let key = flow_key::<F>(F::narrow(&segment.client), segment.client_port, service.service as u16);
    moving::forget(bytemuck::cast_ref::<_, FlowKey>(&key));
}

/// The segment's TCP options.
#[inline(always)]
fn options<F: Family>(ctx: &TcContext, segment: &Segment) -> Option<&'static Parsed> {
    let scratch = maps::scratch()?;
    let length = segment.options_length::<F>();
    if length > MAX as u32 {
        return None;
    }
    // SAFETY: the scratch memory is this CPU's own; its option area takes AREA bytes, and the helper checks the range
    // against the packet.
    unsafe {
        let area = (&raw mut (*scratch).options).cast();
        let loaded = length == 0
            || bpf_skb_load_bytes(skb(ctx).cast(), (l4_at::<F>() + TCP) as u32, area, within::<AREA>(length)) == 0;
        if !loaded || scan::scan_options(length) != 0 {
            return None;
        }
        Some(&(*scratch).parsed)
    }
}
