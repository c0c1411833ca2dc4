//! How the sessions' moves go, node by node, and what an operator wants of them.

use serde::{Deserialize, Serialize};

use crate::ring::{MemberNumber, MemberState};

/// What an operator wants of a gateway's moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Begin no more.
    Pause,
    /// Go on.
    Continue,
    /// Begin no more, and give up those that are not decided.
    Stop,
    /// Begin no more than so many in a second; none for as many as can be.
    Rate(Option<u32>),
}

/// How the moves of a gateway go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MovesReport {
    /// Its sessions.
    pub sessions: u64,
    /// Those that belong to other nodes and have not gone yet.
    pub waiting: u64,
    /// Those on their way out that may still stay.
    pub moving: u64,
    /// Those given away whose new owner has not answered yet.
    pub committed: u64,
    /// Those on their way here.
    pub arriving: u64,
    /// Those that belong to other nodes and cannot be moved.
    pub stranded: u64,
    /// Sessions that have gone, ever.
    pub moved: u64,
    /// Sessions that have come, ever.
    pub taken: u64,
    /// Moves that failed, ever; those sessions stayed.
    pub failed: u64,
    /// Sessions that were lost with the gateway that had them last, ever.
    pub lost: u64,
    /// Whether none begins until somebody says so.
    pub paused: bool,
    /// How many may begin in a second; none for as many as can be.
    pub moves_per_s: Option<u32>,
    /// Whether the gateway has been told to stop.
    pub leaving: bool,
}

/// How the moves of a node's gateway go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMoves {
    /// The node.
    pub number: MemberNumber,
    /// Its identity.
    pub name: String,
    /// Whether it owns users.
    pub state: MemberState,
    /// Whether it is the node that was asked.
    pub here: bool,
    /// How they go.
    pub moves: Option<MovesReport>,
    /// Why that is not known, if it is not.
    pub error: Option<String>,
}

// === impl MovesReport ===

impl MovesReport {
    /// How many are in motion or about to be, in either direction.
    pub fn under_way(&self) -> u64 {
        self.waiting + self.moving + self.committed + self.arriving
    }
}
