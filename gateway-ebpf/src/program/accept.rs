//! Mode "accept", for kernels that cannot create a socket from a segment: the node that client address and port hash to
//! accepts the connection the ordinary way, and its gateway hands it to the owner of its user.
//!
//! The edge answers no SYN and makes no flow: whatever it wrote down for packets of strangers, strangers could fill. The
//! agent makes the flow when it hears that the node's stack has accepted the connection. Until then packets go where the
//! hash says, and `dialling`, in which a new connection takes the place of an old one when it is full, keeps them there
//! while the ring changes.

use aya_ebpf::{Global, bindings::BPF_ANY, bindings::xdp_action, programs::XdpContext};
use ringsteer_ebpf::layout::{flow::FlowKey, stats::Counter};

use crate::{
    Verdict, bind, clock, forward,
    maps::{DIALLING, Dialling, FLOWS, NODES, count, counted},
    moving, owner,
    packet::Segment,
    socket::Lookup,
};

/// 1 in mode "accept"; the agent sets it at load time, so the verifier takes the other mode's code out of the program.
///
/// The initial value is one that nothing else has, as with `TIMEWAIT_RCV_NXT`.
#[unsafe(no_mangle)]
static ACCEPT: Global<u32> = Global::new(0xffff_4143);

/// How long a place in `dialling` counts, in nanoseconds: for as long as Linux tries to connect, and no longer, so that
/// a later connection on the same addresses and ports goes by the ring of its time.
const DIALLING_LIFE_NS: u64 = 130_000_000_000;

/// Whether the mode is "accept".
#[inline(always)]
pub fn is_on() -> bool {
    ACCEPT.load() == 1
}

/// A SYN for a flow, to `node`. Gives the XDP action, counted.
///
/// It may be the client, dialling anew from the same port, or anybody's forgery. The node's stack knows which, as it would
/// without us (RFC 9293 section 3.10.7.4, RFC 5961 section 4). The flow stays where it is.
#[inline(never)]
pub fn dialled_anew<F: Lookup>(ctx: &XdpContext, key: &FlowKey, node: u32) -> u32 {
    match forward::to::<F>(ctx, node, clock::coarse_ns()) {
        Err(Counter::drop_unknown_node) => {
            // Nobody has that connection any more.
            let _ = FLOWS.remove(key);
            without_flow::<F>(ctx, key, 1)
        }
        verdict => {
            if verdict.is_ok() {
                count(Counter::syn_passed_on);
            }
            crate::action(verdict)
        }
    }
}

/// A segment of no known flow, a SYN if `opening` is not 0. Gives the XDP action, counted.
#[inline(never)]
pub fn without_flow<F: Lookup>(ctx: &XdpContext, key: &FlowKey, opening: u32) -> u32 {
    crate::action(by_addresses::<F>(ctx, key, opening != 0))
}

#[inline(always)]
fn by_addresses<F: Lookup>(ctx: &XdpContext, key: &FlowKey, opening: bool) -> Verdict {
    let Some(segment) = Segment::read::<F>(ctx) else { return Err(Counter::drop_malformed) };
    if moving::any() {
        match moving::of_arrived::<F>(ctx) {
            moving::STAYS => {}
            moving::HELD => return Err(Counter::held),
            node => return Ok(moving::send_arrived::<F>(ctx, node)),
        }
    }
    if !opening && bind::has_socket::<F>(ctx) {
        return counted(Counter::found_socket, xdp_action::XDP_PASS);
    }
    let now_ns = clock::coarse_ns();
    let node = match dialled(key, now_ns) {
        Some(node) => node,
        None => owner::of(bind::tuple_hash::<F>(segment))?,
    };
    if opening {
        // Were there no room, the hash alone would have to do.
        let _ = DIALLING.insert(key, Dialling { seen_ns: now_ns, node, unused: 0 }, BPF_ANY as u64);
    }
    // Nothing is on the move on these addresses and ports, as was just seen.
    let action = forward::onward::<F>(ctx, node, now_ns)?;
    count(if opening { Counter::syn_passed_on } else { Counter::passed_by_tuple });
    Ok(action)
}

/// Where the connection's SYN went a moment ago, if that is a node still.
#[inline(always)]
fn dialled(key: &FlowKey, now_ns: u64) -> Option<u32> {
    // SAFETY: an entry that another CPU puts to another use meanwhile names a node all the same.
    let place = unsafe { DIALLING.get(key) }?;
    let node = place.node;
    if now_ns.wrapping_sub(place.seen_ns) > DIALLING_LIFE_NS {
        return None;
    }
    // SAFETY: entries of a preallocated hash stay mapped for the program's run.
    unsafe { NODES.get(node) }.map(|_| node)
}
