//! Map `stats`: one counter for every verdict, per CPU.
//!
//! Each packet the programs see ends in at least one of these, and nothing is dropped uncounted: the counters named
//! `drop_…` are all the reasons there are.

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        super::map_pod! {
            /// The single entry of `stats`, one copy a CPU.
            pub struct Stats { $($(#[doc = $doc])* pub $name: u64,)* }
        }

        /// A counter, by its place in [`Stats`]. The names are those of the map's fields.
        #[allow(non_camel_case_types)]
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter { $($(#[doc = $doc])* $name,)* }

        impl Stats {
            /// Every counter's name, in the order of the map.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Every counter with its name, in the order of the map.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds another CPU's counts.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }

            /// What was counted since `earlier`.
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(earlier.$name)),* }
            }
        }
    };
}

counters! {
    /// Not for a service, a tunnel or anything else of ours; left to the kernel.
    not_ours,
    /// SYN answered with a cookie.
    syn_answered,
    /// Bare ACK that completed a handshake; kept back, the client is ready.
    handshake_acks,
    /// First segment bound to the owner of the key in it.
    bound_by_key,
    /// First segment without a readable key, bound by its 4-tuple.
    bound_by_tuple,
    /// SYN given to the node whose stack answers it, in mode "accept".
    syn_passed_on,
    /// Segment that came before the flow of its connection was made, given to the node that its SYN went to, in mode
    /// "accept".
    passed_by_tuple,
    /// Of those bound, on a 4-tuple that an older connection had left behind.
    rebound,
    /// Packet of a flow held by another node, sent through the tunnel.
    tunnelled,
    /// Packet of a flow held by this node, given to its TCP stack.
    delivered,
    /// Packet taken out of the tunnel and given to this node's TCP stack.
    untunnelled,
    /// Packet of a connection that is about to leave this node; kept from its TCP stack, and answered by nobody.
    held,
    /// Packet of a connection that has left this node, sent on to the one that has it.
    forwarded_moved,
    /// ICMP error about a steered flow, sent where the flow goes.
    icmp_steered,
    /// Segment without a flow at this edge whose socket is on this node.
    found_socket,
    /// Socket created by admission.
    admitted,
    /// Segment marked for admission whose socket existed already.
    admitted_before,
    /// Socket of an older connection on the same 4-tuple closed to make room for the new one.
    stale_socket_closed,
    /// RST for a segment of no known flow and without a valid cookie.
    rst_unknown_flow,
    /// RST for a connection that ended before it spoke.
    rst_before_data,
    /// RST for a segment of a flow whose node is no longer in `nodes`; the client dials again and is bound anew.
    rst_node_gone,
    /// Segment that overtook the first one of its connection; TCP sends it again.
    drop_early_segment,
    /// RST for no known flow; there is nothing to answer.
    drop_stray_rst,
    /// The flow table is full; the client tries again.
    drop_flow_table_full,
    /// No ring has been published here.
    drop_no_ring,
    /// The ring names a node that is not in `nodes`; or a flow does, and there is nobody to tell: a RST, an ICMP error.
    drop_unknown_node,
    /// Sent on from node to node too often: each takes the connection to be at another.
    drop_hops,
    /// No route to the owner.
    drop_no_route,
    /// The owner's link-layer address is not known yet.
    drop_no_neighbour,
    /// No room to put a header in front of the packet.
    drop_no_headroom,
    /// Tunnel packet from an address that is no node's.
    drop_tunnel_sender,
    /// Tunnel packet that does not hold a packet for one of our services.
    drop_tunnel_content,
    /// For a service, but not a well-formed TCP segment.
    drop_malformed,
    /// Fragment of a packet for a service: its ports cannot be seen.
    drop_fragment,
    /// Marked for admission, but no program listens for the service on this node.
    drop_no_listener,
    /// Marked for admission, but it overtook the first segment or its cookie has expired.
    drop_admission_cookie,
    /// The kernel refused to create the socket.
    drop_admission_refused,
    /// An older socket on the same 4-tuple could not be closed in time; the client tries again.
    drop_stale_socket,
    /// No memory to work in; cannot happen on a loaded program.
    drop_internal,
}
