//! The maps, pinned by the agent under these names, and typed access to them.

use aya_ebpf::{
    bindings::bpf_fib_lookup,
    btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray},
    macros::{btf_map, map},
    maps::RingBuf,
};
use ringsteer_ebpf::{
    key::Window,
    layout::{
        flow::{DEFAULT_MAX_FLOWS, Flow, FlowKey, MAX_DIALLING},
        moves::{HELD_FRAMES_BYTES, MAX_MOVES, Move, Moving},
        node::{MAX_NODES, Node, NodeAddress, NodeNumber, ThisNode},
        ring::Ring,
        secret::Secrets,
        service::{MAX_PARAMETER, MAX_SERVICES, Service, ServiceKey},
        stats::{Counter, Stats},
    },
    wire::{
        family::{Family, V4, V6, Words},
        options::{AREA, Parsed},
    },
};

use crate::packet::Segment;

/// The virtual addresses and ports that are steered.
#[btf_map(name = "services")]
pub static SERVICES: HashMap<ServiceKey, Service, MAX_SERVICES> = HashMap::new();

/// The ring in force, in slot 0.
#[btf_map(name = "ring")]
pub static RING: ArrayOfMaps<Array<Ring, 1>, 1> = ArrayOfMaps::new();

/// The members, by number.
#[btf_map(name = "nodes")]
pub static NODES: HashMap<u32, Node, MAX_NODES> = HashMap::new();

/// Member numbers, by node address: whom we take tunnel packets from.
#[btf_map(name = "node_addrs")]
pub static NODE_ADDRS: HashMap<NodeAddress, NodeNumber, MAX_NODES> = HashMap::new();

/// Which of the nodes we are.
#[btf_map(name = "this_node")]
pub static THIS_NODE: Array<ThisNode, 1> = Array::new();

/// The steered connections.
#[btf_map(name = "flows")]
pub static FLOWS: HashMap<FlowKey, Flow, { DEFAULT_MAX_FLOWS as usize }> = HashMap::new();

/// The connections that are leaving this node, or have left it.
#[btf_map(name = "moves")]
pub static MOVES: HashMap<FlowKey, Move, { MAX_MOVES as usize }> = HashMap::new();

/// Packets of held connections, for the agent.
#[map(name = "held_frames")]
pub static HELD_FRAMES: RingBuf = RingBuf::with_byte_size(HELD_FRAMES_BYTES, 0);

/// Whether there are any.
#[btf_map(name = "moving")]
pub static MOVING: Array<Moving, 1> = Array::new();

/// What keys the cookies.
#[btf_map(name = "secrets")]
pub static SECRETS: Array<Secrets, 1> = Array::new();

/// One counter for every verdict.
#[btf_map(name = "stats")]
pub static STATS: PerCpuArray<Stats, 1> = PerCpuArray::new();

/// How to reach a node, remembered for a moment. Not pinned.
#[btf_map(name = "next_hops")]
pub static NEXT_HOPS: PerCpuArray<NextHop, MAX_NODES> = PerCpuArray::new();

/// The headers of an IPv6 tunnel to a node; only what is in `next_hops` tells whether they are any good. Not pinned.
#[btf_map(name = "next_hops_6")]
pub static NEXT_HOPS_6: PerCpuArray<Headers6, MAX_NODES> = PerCpuArray::new();

/// Which services this CPU has seen packets for, by the low bits of the port, remembered for a moment. Not pinned.
#[btf_map(name = "service_hints")]
static SERVICE_HINTS: PerCpuArray<ServiceHint<u32>, SERVICE_HINT_SLOTS> = PerCpuArray::new();

/// The same for IPv6. Not pinned.
#[btf_map(name = "service_hints_6")]
static SERVICE_HINTS_6: PerCpuArray<ServiceHint<Words>, SERVICE_HINT_SLOTS> = PerCpuArray::new();

/// A power of two.
pub const SERVICE_HINT_SLOTS: usize = 16;

/// In mode "accept": where the SYNs of connections went that have no flow yet. When it is full, new ones take the places
/// of old ones: a flood of SYNs costs no more than that. One entry in the other mode. Not pinned.
#[btf_map(name = "dialling")]
pub static DIALLING: LruHashMap<FlowKey, Dialling, MAX_DIALLING> = LruHashMap::new();

/// Room to work in, beyond the 512 bytes of stack. Not pinned.
#[btf_map(name = "scratch")]
pub static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// The kernel's answer to "how do I reach this node".
#[repr(C)]
pub struct NextHop {
    /// When to ask again, in nanoseconds since boot.
    pub expires_ns: u64,
    /// One of [`crate::next_hop::way`].
    pub way: u32,
    /// Where the packet leaves.
    pub ifindex: u32,
    /// Over IPv4: sum of the IPv4 header's words without total length and checksum.
    pub ip_sum: u32,
    /// No padding the compiler chose.
    pub unused: u32,
    /// Over IPv4: Ethernet, IPv4 and UDP headers, lengths and source port still zero; two bytes more than they need.
    pub headers: [u32; 11],
    /// Which build of the program wrote this.
    pub build: u32,
}

/// Ethernet, IPv6 and UDP headers, lengths, flow label and source port still zero; without the UDP checksum.
#[repr(C)]
pub struct Headers6 {
    /// Words as in memory.
    pub headers: [u32; 15],
}

/// See [`DIALLING`].
#[repr(C)]
pub struct Dialling {
    /// When the last SYN was seen, in nanoseconds since boot.
    pub seen_ns: u64,
    /// Where it went.
    pub node: u32,
    /// No padding the compiler chose.
    pub unused: u32,
}

/// The number of the service at an address and port; both as bytes in memory.
#[repr(C)]
pub struct ServiceHint<A> {
    /// When to look it up again, in nanoseconds since boot.
    pub expires_ns: u64,
    /// The virtual address.
    pub address: A,
    /// TCP port.
    pub port: u16,
    /// Its number in `services`.
    pub service: u16,
}

/// A family with a memory of the services seen: one for each, since shorter addresses compare faster.
pub trait Hinted: Family + Sized {
    /// That memory.
    fn service_hints() -> &'static PerCpuArray<ServiceHint<Self::Address>, SERVICE_HINT_SLOTS>;
}

impl Hinted for V4 {
    #[inline(always)]
    fn service_hints() -> &'static PerCpuArray<ServiceHint<u32>, SERVICE_HINT_SLOTS> {
        &SERVICE_HINTS
    }
}

impl Hinted for V6 {
    #[inline(always)]
    fn service_hints() -> &'static PerCpuArray<ServiceHint<Words>, SERVICE_HINT_SLOTS> {
        &SERVICE_HINTS_6
    }
}

/// See [`SCRATCH`].
#[repr(C)]
pub struct Scratch {
    /// The segment under consideration.
    pub segment: Segment,
    /// A question for the kernel about a route.
    pub lookup: bpf_fib_lookup,
    /// The beginning of a first segment's payload.
    pub window: Window,
    /// The name of the service's parameter.
    pub parameter: [u8; MAX_PARAMETER],
    /// The options of a TCP header.
    pub options: [u8; AREA as usize],
    /// What they say.
    pub parsed: Parsed,
    /// Always 0, which neither compiler nor verifier know.
    pub zero: u32,
    /// When the next log line may be written, in nanoseconds since boot.
    pub next_log_ns: u64,
}

/// This CPU's working memory.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// Counts a verdict.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(stats) = STATS.get_ptr_mut(0) {
        // SAFETY: `Stats` is `repr(C)` with one `u64` for each `Counter`, in the same order; the copy is this CPU's own.
        unsafe { *stats.cast::<u64>().add(counter as usize) += 1 };
    }
}

/// Counts a verdict that is not known where this is compiled.
#[inline(always)]
pub fn count_any(counter: Counter) {
    // The compiler knows that the number is small and would leave the check out; the verifier has to see it.
    let index = core::hint::black_box(counter as u32) as usize;
    if let Some(stats) = STATS.get_ptr_mut(0)
        && index < Stats::NAMES.len()
    {
        // SAFETY: as in `count`.
        unsafe { *stats.cast::<u64>().add(index) += 1 };
    }
}

/// Counts a verdict and gives the XDP action that goes with it.
#[inline(always)]
pub fn counted(counter: Counter, action: u32) -> super::Verdict {
    count(counter);
    Ok(action)
}

/// The secrets; none only before the agent has filled the map, and that it does before it attaches the programs.
#[inline(always)]
pub fn secrets() -> Option<&'static Secrets> {
    SECRETS.get(0)
}

/// The service at an address and port.
#[inline(always)]
pub fn service(key: &ServiceKey) -> Option<&'static Service> {
    // SAFETY: entries of a preallocated hash stay mapped for the program's run; the agent replaces a value only by one
    // that is as valid, and what is read of it is scalar.
    unsafe { SERVICES.get(key) }
}
