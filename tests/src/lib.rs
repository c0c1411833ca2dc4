//! The lab and what stands on it.
//!
//! * [`lab`]: hosts as network namespaces, links, processes, clean-up;
//! * [`client`]: plain-TCP websocket clients in the shapes of the OpenIM SDKs, and pushes;
//! * [`packet`]: packets made by hand, and a look at those on the wire;
//! * [`seed`]: randomness that a failing test can replay.
//!
//! Traffic stays inside namespaces that the lab made and uses documentation addresses only.

pub mod client;
pub mod lab;
pub mod packet;
pub mod seed;
