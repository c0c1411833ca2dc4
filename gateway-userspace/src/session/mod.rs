//! Sessions: who is connected to this gateway, what they say, and what waits to be sent to them. Pure: no socket and no
//! clock; times are milliseconds since whenever the gateway says.
//!
//! All connections of a user meet on the user's owner, so the table knows all of them. A session is a socket and plain
//! data ([`core::Session`]): it can stop between any two bytes, be carried to another node as [`suspended::Suspended`],
//! and go on there.
//!
//! | file | subject |
//! |---|---|
//! | `message` | what is sent to sessions, encoded once for all that want the same bytes |
//! | `queue` | what waits for one session, bounded |
//! | `table` | all sessions by user; delivering, and keeping back what meets a session in motion |
//! | `core` | one session: bytes and messages in, bytes out |
//! | `outgoing` | bytes that wait to be written |
//! | `application` | what messages mean: an echo, or OpenIM |
//! | `suspended` | a session at rest |
//! | `deadlines` | when to look at which session again |
//! | `entry` | a session as the agent is told of it |
#![forbid(unsafe_code)]

pub mod application;
pub mod core;
pub mod deadlines;
pub mod entry;
pub mod message;
pub mod outgoing;
pub mod queue;
pub mod suspended;
pub mod table;
