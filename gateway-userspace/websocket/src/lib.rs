//! The server's half of RFC 6455. Pure: bytes in, events out, no socket and no clock.
//!
//! A connection may be stopped at any byte and go on in another process on another node, so a codec that owns the
//! socket, or buffers that only it can see, will not do. Here the whole state of a connection is a
//! [`decoder::Decoder`], plain data that can be cloned or sent away as a [`decoder::snapshot::Snapshot`], and the bytes
//! that nobody consumed yet.
//!
//! | file | subject |
//! |---|---|
//! | [`proxy`] | what a proxy says before the request |
//! | [`request`] | the head of a request and its parameters, as a Go server reads them |
//! | [`body`] | what follows the head of a request that is no websocket |
//! | [`handshake`] | from a request to a websocket |
//! | [`frame`] | headers and masks |
//! | [`decoder`] | what the client says |
//! | [`encoder`] | what is said to clients, one or many |
//! | [`close`] | the last words of both |
//! | [`deflate`] | compression, without anything that would have to stay |
#![forbid(unsafe_code)]

#[cfg(test)]
mod agreement;
pub mod body;
pub mod close;
pub mod decoder;
pub mod deflate;
pub mod encoder;
pub mod frame;
pub mod handshake;
pub mod proxy;
pub mod request;
