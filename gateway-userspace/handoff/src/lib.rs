//! How a live connection, with its session, changes its node: the protocol, without sockets or clocks.
#![forbid(unsafe_code)]
