//! What the agent has done and what has gone wrong, since its start.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Counted since the agent's start.
        #[derive(Debug, Default)]
        pub(super) struct Counters { $($(#[doc = $doc])* pub(super) $name: Counter,)* }

        /// The counts at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Counts { $($(#[doc = $doc])* pub(super) $name: u64,)* }

        impl Counters {
            /// The counts now.
            pub(super) fn counts(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed)),* }
            }
        }
    };
}

counters! {
    /// Attempts to publish a ring or a configuration that failed.
    publish_errors,
    /// Walks of the flow table that failed.
    walk_errors,
    /// Flows removed because they had ended.
    flows_ended,
    /// Clients told that the node of their connection is gone.
    clients_reset,
    /// Clients that could not be told.
    reset_errors,
    /// Steps of moves that the kernel refused.
    move_errors,
    /// Moves that another member has been told of.
    moves_told,
    /// Attempts to tell another member of moves that failed and were tried again.
    moves_untold,
    /// Moves that another member has told of.
    moves_heard,
    /// Packets that came while their connection was held, and were kept until it was not.
    packets_released,
    /// Holds that nothing followed.
    holds_forgotten,
    /// Holds of a gateway that had ended, for a node that did not get the connections.
    holds_abandoned,
    /// Connections accepted here, in mode "accept", of which no other member was told because there was too much to tell.
    accepted_untold,
    /// Connections for which there was no room in the flow table, in mode "accept".
    flow_table_full,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// Counts so many more.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}
