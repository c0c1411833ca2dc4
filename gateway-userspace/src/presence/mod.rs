//! Who is online, for clients that watch others, wherever these are. Pure; times are milliseconds since whenever the
//! caller says.
//!
//! A node where somebody watches (it *reads*) asks every node that may have sessions of the user: the owner, and those who
//! owned the user before and are not settled. From then on these tell it what changes. Its questions to one node are a
//! *stream*, each asked when the one before has been answered. If one is not answered a new stream begins, which says
//! everything once more; what belongs to an older one means nothing. So nothing has to be said about what got lost.
//!
//! What a node says of a user is a [`Word`]: all of what is so there now, not what has changed. A user who comes and goes
//! ten times while a message is under way is one word of the next message.
//!
//! **Nobody notices a move.** A session that moves is at both nodes for a moment, but their words come in any order. So:
//!
//! * That a user is online somewhere is believed at once.
//! * That a user is less online than before is believed when all others who may have sessions have been asked since, and
//!   wherever a session went from there. In a quiet fleet there are no others.
//!
//! **Nobody is online for ever.** A process that has ended has nobody, nor has one that has not been heard for
//! [`watching::GIVEN_UP_MS`]. Once it answers, what it says counts.
//!
//! | file | subject |
//! |---|---|
//! | `word` | what a node says of a user |
//! | `watching` | those who watch here, and what they have been told |
//! | `source` | a node that is asked about them |
//! | `readers` | nodes that want to hear of users here |
//! | `simulation` | a fleet in which users come, go and move, in tests |
#![forbid(unsafe_code)]

pub mod readers;
#[cfg(test)]
mod simulation;
mod source;
pub mod watching;
mod word;

use std::sync::Arc;

pub use self::word::{Platforms, Word};

/// A user's name, shared by all that have to do with the user.
pub type Name = Arc<[u8]>;

/// Longest name of a user, in bytes. The kernel finds no longer one either.
pub const MAX_NAME: usize = 256;

/// Most users in one message.
pub const AT_ONCE: usize = 1000;
