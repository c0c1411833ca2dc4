//! ringsteer: eBPF/XDP connection steering for websocket messaging fleets.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod doctor;
pub mod front;
pub mod gateway;
pub mod handoff;
pub mod inspect;
pub mod membership;
pub mod msg;
pub mod peer;
pub mod presence;
pub mod push;
mod random;
pub mod ring;
#[cfg(test)]
mod seeds;
mod segment_size;
pub mod session;
pub mod telemetry;
mod told_to_stop;

pub use ringsteer_websocket as websocket;
