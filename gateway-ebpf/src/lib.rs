//! What the kernel programs and userspace must agree on, in one place.
//!
//! Everything here is `no_std`, free of kernel calls and tested on the host:
//!
//! * [`layout`]: keys and values of the pinned maps, as `bpftool map dump` shows them;
//! * [`key`]: finding the user id in the first bytes of a connection;
//! * [`ring`]: from a key to its owner (promise 1, *one ring*);
//! * [`cookie`]: the state a SYN+ACK carries so that a SYN needs none here;
//! * [`wire`]: packet headers, checksums and TCP options;
//! * [`tunnel`]: the datagram that carries a packet from the edge to the owner.
//!
//! The programs under `src/program` are thin shells around it: they read packets and maps and leave the thinking to
//! this library, so a test on the host and a run in the kernel exercise the same code.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod cookie;
pub mod crc32;
pub mod key;
pub mod kfunc;
pub mod layout;
pub mod ring;
pub mod siphash;
pub mod tunnel;
pub mod wire;
