//! Sessions: who is connected to this gateway, and what waits to be sent to them. Pure: no socket and no clock.
//!
//! All connections of a user meet on the user's owner, so this table knows all of them.
#![forbid(unsafe_code)]

pub mod entry;
pub mod queue;
pub mod table;
