//! ringsteer: eBPF/XDP connection steering for websocket messaging fleets.

pub mod config;
pub mod control;
pub mod dataplane;
pub mod ring;
