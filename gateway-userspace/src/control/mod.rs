//! The agent's local socket: how gateway and CLI learn what is published (promise 1), and live without the agent once
//! they know (promise 4).
//!
//! | file | subject |
//! |---|---|
//! | `message` | what is said; pure |
//! | `line` | one JSON object a line |
//! | `listen`, `server` | the agent's side |
//! | `client`, `follower` | the other side: ask once, or keep following |
#![forbid(unsafe_code)]

mod client;
mod follower;
mod line;
mod listen;
mod message;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientError, status};
pub use follower::{Follower, Published};
pub use line::LineError;
pub use listen::{ListenError, listen};
pub use message::{
    Answer, AttachedMode, InterfaceStatus, ProgramStatus, Publication, PublicationError, Request, Status,
};
pub use server::serve;
