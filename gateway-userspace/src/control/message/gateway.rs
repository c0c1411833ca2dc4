//! What agent and gateway of a node tell each other once the gateway has attached.

use serde::{Deserialize, Serialize};

use super::{MovesReport, Order};
use crate::{
    ring::{MemberNumber, RingName},
    session::entry::SessionEntry,
};

/// A gateway as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

/// What the agent wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which sessions a user has.
    Sessions {
        /// To be repeated in the answer.
        id: u64,
        /// The user.
        user: String,
    },
    /// How its moves go, after an order has been obeyed.
    Moves {
        /// To be repeated in the answer.
        id: u64,
        /// The order, if there is one.
        order: Option<Order>,
    },
}

/// What the gateway says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// How it is: when something has changed that the agent should know at once, and every second.
    Report(Report),
    /// The answer to [`Question::Sessions`].
    Sessions {
        /// The question's.
        id: u64,
        /// The sessions.
        sessions: Vec<SessionEntry>,
    },
    /// The answer to [`Question::Moves`].
    Moves {
        /// The question's.
        id: u64,
        /// How they go; none if the gateway moves nothing now.
        moves: Option<MovesReport>,
    },
}

/// How a gateway is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The ring it follows.
    pub ring: Option<RingName>,
    /// Users with a session.
    pub users: u64,
    /// Sessions.
    pub sessions: u64,
    /// Whether it has been told to stop, and would give its users away.
    #[serde(default)]
    pub leaving: bool,
}

/// A gateway as its agent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayReport {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since it last reported, in milliseconds.
    pub heard_ms_ago: u64,
    /// How it was then.
    #[serde(flatten)]
    pub report: Report,
}

/// Where a user's sessions are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The user, as asked for.
    pub user: String,
    /// What each node asked has answered.
    pub nodes: Vec<NodeSessions>,
}

/// What one node says about a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSessions {
    /// The node, by its number in our ring; none for a node that was asked about itself and is no member.
    pub number: Option<MemberNumber>,
    /// How it is called: its identity, or its own name where it is no member.
    pub name: String,
    /// Whether it is the node that was asked.
    pub here: bool,
    /// The user's sessions there.
    pub sessions: Vec<SessionEntry>,
    /// Why it could not say, if it could not.
    pub error: Option<String>,
}
