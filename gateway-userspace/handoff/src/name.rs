//! Names. All are plain numbers: cheap to copy, to compare and to send.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A node, by its member number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// One life of a gateway process; never used twice, on whatever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

/// A gateway: a node, and which life of its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gateway {
    /// Its node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

/// A ring's epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// A session, for life, wherever it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The gateway process where it began.
    pub born: Incarnation,
    /// Which of its sessions.
    pub number: u64,
}

/// One attempt to move a session. Only the owner makes one, and it counts them; so of two of the same session the one
/// with the lower generation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MoveId {
    /// The session.
    pub session: SessionId,
    /// How many attempts there have been before, on all nodes.
    pub generation: u32,
}

/// A user: the bytes that the ring hashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct User(pub Box<[u8]>);

/// A push as its sender names it: the same when it is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PushId(pub u128);

// === impl Gateway ===

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:x}", self.node.0, self.incarnation.0)
    }
}

// === impl MoveId ===

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}+{}", self.session.born.0, self.session.number, self.generation)
    }
}

// === impl User ===

impl From<&[u8]> for User {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.0.escape_ascii())
    }
}
