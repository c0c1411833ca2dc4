//! Links between the agents of a fleet: authenticated by the fleet secret, and encrypted (promise 6).
//!
//! Every node dials every other member and keeps that link up; both ends of a link tell how they are and answer
//! questions. So two nodes usually have two links, one made by each. One would do, but then the two would have to agree
//! on who dials, by their ring, and links are there for the moment when rings do not agree.
//!
//! | file | subject |
//! |---|---|
//! | `key` | from the fleet secret to the links' keys |
//! | `message` | what is said |
//! | `link` | one link: bytes in, messages and bytes out |
//! | `agreement` | whether the members agree on the ring |
//! | `backoff` | when to dial again |
//! | `view` | who we are, who may dial us and whom we dial |
//! | `counters` | what has been refused, and why |
//! | `network` | the sockets around these |
//!
//! All but `network` is pure.
#![forbid(unsafe_code)]

pub mod agreement;
mod backoff;
pub mod counters;
pub mod key;
pub mod link;
pub mod message;
mod network;
mod view;

pub use network::{Desk, Heard, Network, Wiring, start};
pub use view::View;
