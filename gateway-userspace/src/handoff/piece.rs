//! A session in one of its states: socket and data, by the core's name for it.

use std::{io, net::SocketAddr, time::Instant};

use ringsteer_handoff::name::{MoveId, NodeId};
use ringsteer_tcp_repair::{Dump, Put, Taken};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::AbortHandle};

use crate::{
    control::FlowMove,
    gateway::{
        misplaced::{Asked, Misplaced, Travelling},
        moving::Place,
    },
    session::{suspended::Suspended, table::SessionId},
};

/// A session that the core knows.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) user: Box<[u8]>,
    /// What the connection's client acknowledged first ([`FlowMove::first_ack`]); none before the socket was looked into.
    pub(super) first_ack: Option<u32>,
    pub(super) state: PieceState,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum PieceState {
    /// It runs, under this name in the gateway's table.
    Runs(SessionId),
    /// It is a newcomer at the wrong node and waits for its move.
    Waits(Box<Misplaced>),
    /// It has been asked to stop.
    Stops { table: SessionId, stopping: AbortHandle },
    /// It stands still.
    Stands(Box<Rest>),
    /// Its socket is silent.
    Silent(Box<Silent>),
    /// There is a copy.
    Copy(Box<Copied>),
    /// It is about to run here, or to be let in. If the core wants it to move on meanwhile, that has to wait.
    Begins { then: Option<MoveId> },
}

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Load {
    /// A session, and its place in the gateway's table.
    Session(Box<Suspended>, Place),
    /// A newcomer, who has had no answer yet.
    Newcomer(Asked),
}

/// A session that stands still.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) stream: TcpStream,
    pub(super) load: Load,
    pub(super) flow: Ends,
    pub(super) since: Instant,
}

/// A session of ours whose socket is silent.
#[derive(Debug)]
pub(super) struct Silent {
    /// The node that it is given to, once that is decided.
    pub(super) to: Option<NodeId>,
    pub(super) taken: Taken,
    pub(super) first_ack: u32,
    pub(super) load: Load,
    pub(super) flow: Ends,
    /// Since when it has stood still.
    pub(super) since: Instant,
}

/// A session that was ours, and for whose connection something is still to be done here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) flow: Ends,
    pub(super) first_ack: u32,
    /// Since when it has stood still.
    pub(super) since: Instant,
}

/// A copy of another's session.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) put: Put,
    pub(super) first_ack: u32,
    pub(super) load: Load,
    pub(super) flow: Ends,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) service: SocketAddr,
}

/// What travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) tcp: Dump,
    /// As in [`Piece`].
    pub(super) first_ack: u32,
    pub(super) load: Packed,
}

/// A [`Load`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Packed {
    /// As [`Suspended::to_bytes`] makes it.
    Session(#[serde(with = "serde_bytes")] Vec<u8>),
    Newcomer(Travelling),
}

// === impl Piece ===

impl Piece {
    /// Of a user, in a state; what its connection is called is not known yet.
    pub(super) fn new(user: Box<[u8]>, state: PieceState) -> Self {
        Self { user, first_ack: None, state }
    }
}

// === impl Ends ===

impl Ends {
    /// Those of a connection.
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { client: stream.peer_addr()?, service: stream.local_addr()? })
    }

    /// The connection in that move of it; none if it has moved more often than anybody counts.
    pub(super) fn in_move(self, id: MoveId, first_ack: Option<u32>) -> Option<FlowMove> {
        let count = u16::try_from(id.generation).ok()?;
        Some(FlowMove { client: self.client, service: self.service, count, first_ack: first_ack.unwrap_or(0) })
    }
}
