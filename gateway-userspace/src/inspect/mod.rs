//! What stands in the kernel's maps, in the words of the control socket: for the agent's answers, and for a person where no
//! agent answers any more (promise 4: the data path outlives the agent, and so does the view of it). Changes nothing.
//!
//! | file | subject |
//! |---|---|
//! | `address` | addresses as maps hold them |
//! | `flows` | the flow table |
//! | `placement` | where a user belongs |
//! | `nodes` | the members that the maps name |
//! | `rebuild` | the ring, from the maps alone |
//! | `services` | what is steered |
#![forbid(unsafe_code)]

pub mod address;
pub mod flows;
pub mod nodes;
pub mod placement;
pub mod rebuild;
pub mod services;
