//! How a live connection, with its session, changes its node: the protocol of `docs/handoff.md`, without sockets or
//! clocks.
//!
//! [`Handoff`] is one gateway's part: [events](event::Event) in, [actions](event::Action) out, time a parameter. It is
//! the same code that runs in the gateway, in the model and in the simulation of this package's tests.
//!
//! | file | subject |
//! |---|---|
//! | `name` | what sessions, moves, gateways and pushes are called |
//! | `event` | what can happen, and what is to be done |
//! | `message` | what gateways say to each other, and its form on the wire |
//! | `limits` | how many, how fast and how long |
//! | `refusals` | what others said in vain |
//! | `fleet` | what is known of the other gateways: who lives, who follows which ring, who has settled |
//! | `mover` | sessions and their moves; `giving` is the old owner's part, `taking` the new one's, `pace` how many |
//! | `post` | pushes: asking everybody who may hold a session of the user |
//! | `handoff` | the three of them, wired up |
//!
//! It keeps promise 3, that a ring change disconnects nobody and loses, duplicates or reorders no push, and with it the
//! second half of promise 2.
#![forbid(unsafe_code)]

pub mod event;
mod fleet;
mod handoff;
pub mod limits;
pub mod message;
mod mover;
pub mod name;
mod post;
mod refusals;

pub use self::{
    event::{Action, Event, Host, Outcome},
    handoff::{Admission, Handoff},
    limits::Limits,
    mover::Progress,
    refusals::Refusals,
};
