//! A node reduced to its kernel side: the programs in a network namespace of their own, fed packet by packet through
//! `BPF_PROG_TEST_RUN`. The tests of the kernel programs and the benchmark `dataplane` stand on it.
//!
//! * [`Node`]: namespaces, interface, neighbours; programs loaded, a ring and two services published;
//! * [`run`]: what a program makes of a packet;
//! * [`addresses`]: who has which address, in either family;
//! * [`older`]: a kernel that lacks a function.

pub mod addresses;
mod node;
pub mod older;
pub mod run;

pub use node::{CLIENT, EDGE, Node, Setup, WIRE, ring_of, service};
