//! What can be asked and told.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Lane;

/// What a message is about: the byte that stands for its type on the wire. A number is never given to another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject(pub u8);

/// Something that is asked, and answered.
pub trait Question: Serialize + DeserializeOwned + Send + 'static {
    /// What stands for it on the wire.
    const SUBJECT: Subject;

    /// The lane it takes. Order is kept within a lane only.
    const LANE: Lane = Lane::Prompt;

    /// What is answered.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
}

/// Something that is told, without an answer.
pub trait Notice: Serialize + DeserializeOwned + Send + 'static {
    /// What stands for it on the wire.
    const SUBJECT: Subject;

    /// The lane it takes. Order is kept within a lane only.
    const LANE: Lane = Lane::Prompt;
}

// === impl Subject ===

impl Subject {
    /// Pushes for users whom the other node owns, or had.
    pub const PUSH: Self = Self(1);
    /// Users to be kicked.
    pub const KICK: Self = Self(2);
    /// Who is online.
    pub const ONLINE: Self = Self(3);
    /// On which platforms users are online, now and from now on, for clients that watch them. (4 was without the second.)
    pub const WATCH: Self = Self(5);
    /// That users who are watched are online on other platforms than before.
    pub const STATUS: Self = Self(6);
    /// Tokens that log nobody in any more.
    pub const KICKED: Self = Self(7);
    /// The first of those that belong to the moving of sessions: up to 31.
    pub const HANDOFF: Self = Self(16);
}
