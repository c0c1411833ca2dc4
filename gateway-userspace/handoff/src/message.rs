//! What gateways say to each other.
//!
//! On the wire a message is postcard's encoding of [`Message`], with a version in front. Reading one never panics, and
//! never allocates more than the bytes that have arrived justify.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::name::{Epoch, MoveId, NodeId, PushId, SessionId, User};

/// The first byte of every message. Another one is refused.
pub const VERSION: u8 = 1;

/// Longest message, in bytes: what goes over a link at once, less what is put around it.
pub const MAX_BYTES: usize = (16 << 20) - 1024;

/// Longest user, in bytes.
pub const MAX_USER: usize = 1024;

/// Most sessions in one list.
pub const MAX_LIST: usize = 4096;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message<D, P> {
    /// How the sender is.
    State(State),

    // From the old owner to the new one.
    /// Will you have this session?
    Offer(Box<Offer<D>>),
    /// It is yours.
    Go {
        /// Which move.
        id: MoveId,
    },
    /// It stays here.
    Abort {
        /// Which move.
        id: MoveId,
    },

    // From the new owner to the old one.
    /// I have a whole copy and wait for your word.
    Ready {
        /// Which move.
        id: MoveId,
    },
    /// I will not have it.
    Refused {
        /// Which move.
        id: MoveId,
        /// Why.
        because: RefusedBecause,
    },
    /// I know that it is mine: say no more of it.
    Done {
        /// Which move.
        id: MoveId,
        /// False if it had been given up by the time the word came.
        alive: bool,
    },

    // Pushes.
    /// Give this to the user's sessions that you have.
    Ask(Box<Ask<P>>),
    /// What became of it.
    Told(Box<Told>),
}

/// How a gateway is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct State {
    /// The ring it follows.
    pub epoch: Epoch,
    /// Whether that ring is in force there, so that it takes offers.
    pub in_force: bool,
    /// Whether everything it has, copies included, is of users it owns by that ring.
    pub settled: bool,
    /// The ring of the receiver, as the sender has heard; 0 before that.
    pub heard: Epoch,
    /// Rises whenever anything of this changes: what has a lower one is stale.
    pub number: u64,
}

/// A session on offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offer<D> {
    /// Which move.
    pub id: MoveId,
    /// The ring by which it is the receiver's.
    pub epoch: Epoch,
    /// Whose.
    pub user: User,
    /// Whether the client has been told that it is connected.
    pub opened: bool,
    /// Told in answers to pushes.
    pub platform: i32,
    /// The pushes it has seen lately, the oldest first.
    pub seen: Vec<PushId>,
    /// Socket and session.
    pub dump: D,
}

/// Why an offer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefusedBecause {
    /// The receiver follows another ring, or that ring is not in force there yet.
    Ring,
    /// By that ring it is not the receiver's.
    NotMine,
    /// Too many copies at once, or it is stopping.
    Busy,
    /// The socket or the session could not be made.
    CannotRestore,
}

/// A push for the sessions of a user at one gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ask<P> {
    /// Rises with every question of the sender about any user; repeated in the answer.
    pub number: u64,
    /// Whose sessions.
    pub user: User,
    /// The push's name.
    pub push: PushId,
    /// For how long the sender waits for the answer. Whoever could not give the push by then gives it to nobody.
    pub patience_ms: u32,
    /// What it says.
    pub body: P,
}

/// The answer to [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Told {
    /// The question's.
    pub number: u64,
    /// Whose sessions.
    pub user: User,
    /// The sessions that have the push now.
    pub reached: Vec<Reached>,
    /// Where sessions of that user went from here.
    pub went: Vec<Went>,
}

/// A session that has a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reached {
    /// Which.
    pub session: SessionId,
    /// On what kind of device it is, as the shell says.
    pub platform: i32,
}

/// A session that went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Went {
    /// By which move.
    pub id: MoveId,
    /// To whom.
    pub to: NodeId,
}

/// Bytes that are no message: always their sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Of another version.
    #[error("a message of version {0}, and we speak {VERSION}")]
    Version(u8),
    /// Too long as a whole or in a part.
    #[error("a message with more of something than there may be")]
    TooLong,
    /// Anything else.
    #[error("a message that cannot be read")]
    Malformed,
}

// === impl Message ===

impl<D: Serialize, P: Serialize> Message<D, P> {
    /// The message as bytes; none if it is longer than [`MAX_BYTES`].
    pub fn encode(&self) -> Option<Vec<u8>> {
        let bytes = postcard::to_extend(self, vec![VERSION]).ok()?;
        (bytes.len() <= MAX_BYTES).then_some(bytes)
    }
}

impl<D: DeserializeOwned, P: DeserializeOwned> Message<D, P> {
    /// The message in `bytes`.
    ///
    /// # Errors
    /// If they are none, or one that nobody of us would send.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&version, content) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::TooLong);
        }
        let (message, rest) = postcard::take_from_bytes::<Self>(content).map_err(|_| DecodeError::Malformed)?;
        if !rest.is_empty() {
            return Err(DecodeError::Malformed);
        }
        message.within_limits().then_some(message).ok_or(DecodeError::TooLong)
    }

    fn within_limits(&self) -> bool {
        match self {
            Self::Offer(offer) => offer.user.0.len() <= MAX_USER && offer.seen.len() <= MAX_LIST,
            Self::Ask(ask) => ask.user.0.len() <= MAX_USER,
            Self::Told(told) => {
                told.user.0.len() <= MAX_USER && told.reached.len() <= MAX_LIST && told.went.len() <= MAX_LIST
            }
            _ => true,
        }
    }
}
