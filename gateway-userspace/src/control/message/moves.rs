//! Connections that go to another node or, in mode "accept", have come to this one, as the gateway tells its agent. The
//! agent alone touches the kernel's maps.
//!
//! A move has four steps. At the node that has the connection: `hold`, before the socket is touched, then either `move`,
//! once the other node has it, or `release`. At the node that gets it: `take`, before the other one moves it. Each is done
//! when it is answered.
//!
//! If the gateway that had the connection ends before it has said `move` or `release`, the other node *claims* it: that is a
//! `move` on behalf of the one that has ended. When it has claimed all that it has, the rest of what was held for it is
//! nobody's any more, and these holds end.
//!
//! Packets that come during a hold are kept, and arrive when it ends. The node that gets the connection need not hold it:
//! the other one moves it, and sends on what it has kept, only when the new socket is active. (It can, by the same count,
//! directly after it has taken it; then it releases it itself.)

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ring::MemberNumber;

/// Connections in one request.
pub const MOVES_MAX: usize = 256;

/// One step for several connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// Which step.
    pub step: MoveStep,
    /// For which connections; [`MOVES_MAX`] at most.
    pub flows: Vec<FlowMove>,
    /// Of a hold: for whom. Without, nobody but the gateway can end it, or its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

/// To whom a gateway is giving the connections that it has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The member.
    pub to: MemberNumber,
    /// The number of the gateway's life.
    pub by: u64,
}

/// A step of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveStep {
    /// Packets of the connection are kept from this node's TCP from now on, and nobody answers them. They arrive when the
    /// hold ends, be it here or, once it has moved, at the other node. A hold that nothing
    /// follows ends by itself after [`HOLD_LIFE_MS`].
    Hold,
    /// The connection is that member's from now on: what comes in here goes on to it, and all edges are told. Only after
    /// a hold of the same count that has not ended.
    Move {
        /// The member.
        to: MemberNumber,
    },
    /// The connection stays: the hold ends.
    Release,
    /// The connection is this node's from now on: nothing here sends its packets elsewhere any more.
    Take,
    /// No move: in mode "accept", this node's TCP has accepted the connection. All edges make a flow of it. Asked before
    /// anything else is asked for the connection; its count does not matter.
    Accept {
        /// How long ago the first of the connections was accepted, in milliseconds.
        ms_ago: u32,
    },
}

/// Connections that the gateway of another node was giving to this one when it ended: that node's agent is asked whether
/// they are this node's now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The other node, by its number.
    pub from: MemberNumber,
    /// Which connections, by which moves of them; [`MOVES_MAX`] at most.
    pub flows: Vec<FlowMove>,
    /// The number of the life of the other node's gateway that has ended, if these are the last that are claimed of what it
    /// left: what else it held for this node has no owner, and its hold ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_of: Option<u64>,
}

/// How long a hold lasts that nothing follows, in milliseconds.
pub const HOLD_LIFE_MS: u64 = 10_000;

/// One connection, and which of its moves this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowMove {
    /// The client.
    pub client: SocketAddr,
    /// The virtual address and port that it is connected to.
    pub service: SocketAddr,
    /// How many times the connection will have moved, this time included: 1 at first. It travels with the connection, so
    /// that news of an earlier move cannot undo a later one.
    pub count: u16,
    /// Which connection, of all that there are one after another on these addresses and ports: what its client acknowledged
    /// first, the number of the first byte that it was sent. 0 while that is not known, before the socket was looked into.
    /// In mode "accept" the agent of the node that accepted it has named it, and tells with the first hold.
    pub first_ack: u32,
}

/// What became of a step for one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveOutcome {
    /// It is in force.
    Done,
    /// A hold in mode "accept" is in force.
    Held {
        /// What the connection is called; 0 if the agent does not know.
        first_ack: u32,
    },
    /// The connection has moved that often already, or is being moved by somebody else. Nothing was changed.
    Stale,
    /// There is no such hold (any more), so it cannot become a move. Nothing was changed.
    NotHeld,
    /// The address is no service's. Nothing was changed.
    NoService,
    /// There is no such member, or it is this node. Nothing was changed.
    NoMember,
    /// More connections are on the move than there is room for; it may succeed later. Nothing was changed.
    Full,
    /// The kernel refused; the agent's log says why. Nothing was changed.
    Failed,
}
