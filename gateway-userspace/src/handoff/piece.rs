//! A session in one of its states: socket and data, by the core's name for it.

use std::net::SocketAddr;

use ringsteer_handoff::name::{MoveId, NodeId};
use ringsteer_tcp_repair::{Dump, Put, Taken};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, task::AbortHandle};

use crate::{
    control::FlowMove,
    gateway::moving::Place,
    session::{suspended::Suspended, table::SessionId},
};

/// A session that the core knows.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) user: Box<[u8]>,
    pub(super) state: PieceState,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum PieceState {
    /// It runs, under this name in the gateway's table.
    Runs(SessionId),
    /// It has been asked to stop.
    Stops { table: SessionId, stopping: AbortHandle },
    /// It stands still.
    Stands { table: SessionId, rest: Box<Rest> },
    /// It is being taken out of the kernel; `back` if it is wanted back already.
    IsTakenOut { table: SessionId, back: bool, flow: Ends },
    /// Its socket is silent.
    Silent { table: SessionId, silent: Box<Silent> },
    /// A copy is being made of it, unless it is not wanted any more.
    IsMade { id: MoveId },
    /// There is a copy.
    Copy(Box<Copied>),
    /// It is about to run here. If the core wants it to move on meanwhile, that has to wait.
    Begins { then: Option<MoveId> },
}

/// A session that stands still.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) stream: TcpStream,
    pub(super) suspended: Suspended,
    pub(super) place: Place,
    pub(super) flow: Ends,
}

/// A session of ours whose socket is silent.
#[derive(Debug)]
pub(super) struct Silent {
    /// The node that it is given to, once that is decided.
    pub(super) to: Option<NodeId>,
    pub(super) taken: Taken,
    pub(super) suspended: Suspended,
    pub(super) place: Place,
    pub(super) flow: Ends,
}

/// A copy of another's session.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) put: Put,
    pub(super) suspended: Suspended,
    pub(super) place: Place,
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
    /// As [`Suspended::to_bytes`] makes it.
    #[serde(with = "serde_bytes")]
    pub(super) session: Vec<u8>,
}

// === impl Ends ===

impl Ends {
    /// The connection in that move of it; none if it has moved more often than anybody counts.
    pub(super) fn in_move(self, id: MoveId) -> Option<FlowMove> {
        let count = u16::try_from(id.generation).ok()?;
        Some(FlowMove { client: self.client, service: self.service, count })
    }
}
