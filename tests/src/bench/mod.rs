//! Benchmarks.
//!
//! * [`codec`]: what a client's messages cost to read, beside another implementation;
//! * [`dataplane`]: nanoseconds per packet in the kernel program `steer`;
//!   * `node`: a node in a network namespace of its own, with the programs loaded and nothing attached;
//!   * `packets`: what is sent through it;
//! * [`path`]: messages there and back, direct, steered and through HAProxy;
//! * [`swap`]: from a new ring in its file to the kernel steering by it;
//! * [`fanout`]: one message to many users, next to a plain broadcast server;
//! * [`push`]: one push to one user, and how long it takes;
//! * [`logins`]: clients that log in;
//! * [`handoff`]: moving sessions, and what their users see of it;
//! * [`idle`]: memory of idle connections;
//!   * [`crowd`]: many clients, in processes of their own;
//! * `figures`: medians and tables.

pub mod codec;
pub mod crowd;
pub mod dataplane;
pub mod fanout;
mod figures;
pub mod handoff;
pub mod idle;
pub mod logins;
mod node;
mod packets;
pub mod path;
pub mod push;
pub mod swap;
