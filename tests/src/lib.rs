//! The lab and what stands on it: the fleet, the demo and the benchmarks.

pub mod demo;
pub mod fleet;
pub mod lab;
pub mod seed;
