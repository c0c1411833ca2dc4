//! ringsteer: eBPF/XDP connection steering for websocket messaging fleets.

pub mod openim;
pub mod websocket;
