//! Pushes: what is asked for, who has to be asked, and what became of it.
//!
//! | file | subject |
//! |---|---|
//! | `outcome` | what became of a push to one user |
//! | `round` | one push on its way: whom to ask next, and when a user may be called offline |
//! | `places` | who may have sessions of a user |
//! | `departures` | sessions that went to other nodes lately |
//! | `memory` | which pushes have been made, so that a repeat does no harm |
//! | `token` | who may push |
//! | `batch` | pushes to many users: between their JSON (the package `batch`) and what sessions get |
//! | `openim` | OpenIM's messages as pushes |
//!
//! All of it is pure. The sockets are in `gateway/push`, and those of the stateless front in `front`.
#![forbid(unsafe_code)]

pub mod batch;
pub mod departures;
pub mod memory;
pub mod openim;
mod outcome;
pub mod places;
pub mod round;
pub mod token;

pub use outcome::{OnlineRule, Outcome, Reached};
