//! The agent's local socket: how gateway and CLI learn what is published (promise 1), and live without the agent once
//! they know (promise 4).
//!
//! | file | subject |
//! |---|---|
//! | `message` | what is said; pure |
//! | `line` | one JSON object a line |
//! | `listen`, `server` | the agent's side |
//! | `gateways` | the gateways that have attached to it |
//! | `client`, `follower` | the other side: ask once, or keep following |
#![forbid(unsafe_code)]

mod client;
mod follower;
mod gateways;
mod line;
mod listen;
pub mod message;
mod server;
#[cfg(test)]
mod tests;

pub use client::{
    ClientError, MoveClient, announce, claim, flows, handoff, lookup, members, peers, ring, services, sessions, stats,
    status,
};
pub use follower::{Follower, Prepared, Published, Reporter};
pub use gateways::Gateways;
pub use line::LineError;
pub use listen::{ListenError, listen};
pub use message::*;
pub use server::{Answers, Desk, Publications, Served, serve};
