//! What a fleet's monitoring sees of agent and gateway: `/metrics`, `/healthz` and `/readyz` over HTTP.
//!
//! | file | subject |
//! |---|---|
//! | `figures` | numbers with their names and what they mean, and the text that Prometheus reads; pure |
//! | `page` | what is answered to which request; pure |
//! | `server` | the socket |
//!
//! What the figures are is for the roles to say: `agent/figures.rs`, `gateway/figures.rs`.
#![forbid(unsafe_code)]

mod figures;
mod page;
mod server;

pub use figures::Figures;
pub use server::{Subject, TelemetryError, listen, serve};
