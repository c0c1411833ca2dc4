//! Links between the nodes of a fleet: authenticated by the fleet secret, and encrypted (promise 6).
//!
//! There are two kinds, on a port each: agents tell each other how they are, gateways pass pushes on and move sessions.
//! Every node dials every other member and keeps that link up; what is said goes over any link that is there. So two
//! nodes usually have two links of a kind, one made by each. One would do, but then the two would have to agree on who
//! dials, by their ring, and links are there for the moment when rings do not agree.
//!
//! | file | subject |
//! |---|---|
//! | `key` | from the fleet secret to the links' keys |
//! | `link` | one link: bytes in, messages and bytes out |
//! | `backoff` | when to dial again |
//! | `view` | who we are, who may dial us and whom we dial |
//! | `counters` | what has been refused, and why |
//! | `network` | the sockets around these |
//! | `message` | what agents say |
//! | `agreement` | whether the members agree on the ring |
//! | `agents` | the agents' links |
//! | `gateways` | the gateways' links: questions, answers and notices of any size |
//!
//! All but `network`, `agents` and `gateways` is pure.
#![forbid(unsafe_code)]

mod agents;
pub mod agreement;
mod backoff;
pub mod counters;
pub mod gateways;
pub mod key;
pub mod link;
pub mod message;
mod network;
mod view;

pub use agents::{Desk, Heard, Network, Wiring, start};
pub use view::View;
