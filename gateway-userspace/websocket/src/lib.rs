//! The server's half of RFC 6455. Pure: bytes in, events out, no socket and no clock.
//!
//! A connection may be stopped at any byte and go on in another process on another node, so a codec that owns the
//! socket, or buffers that only it can see, will not do. Here the whole state of a connection is a
//! [`decoder::Decoder`], plain data that can be cloned or sent away as a [`decoder::snapshot::Snapshot`], and the bytes
//! that nobody consumed yet.
//!
//! Extensions are not offered: `permessage-deflate` keeps a compressor's window alive, which could not move.
#![forbid(unsafe_code)]

#[cfg(test)]
mod agreement;
pub mod close;
pub mod decoder;
pub mod frame;
pub mod handshake;
pub mod request;
