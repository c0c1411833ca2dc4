//! The small message service: sequence numbers, storage and catch-up behind OpenIM's `msg` interface, so that a fleet
//! is whole on its own. A gateway that is pointed at OpenIM's own service needs none of it.
//!
//! | module | subject |
//! |---|---|
//! | [`book`] | what is written down when a message is taken, and what is read when a client asks; pure |
//! | [`store`] | the tables on disk |
//! | [`writer`] | one thread that takes messages, many with one call to the disk |
//! | [`push`] | handing messages on to whoever is online |
//! | [`service`] | gRPC around these |
//! | [`counters`] | what is counted |
//!
//! A message is acknowledged when it is stored, and pushed after that. A push that fails loses nothing: the client finds
//! the message when it next asks.
#![forbid(unsafe_code)]

pub mod book;
pub mod counters;
pub mod push;
pub mod service;
pub mod store;
pub mod writer;
