//! The lab and what stands on it.
//!
//! * [`lab`]: hosts as network namespaces, links, processes, clean-up;
//! * [`fleet`]: agents and gateways on the lab's nodes;
//! * [`client`]: websocket clients in the shapes of the OpenIM SDKs, and pushes;
//! * [`probe`]: one connection, as a test makes it;
//! * [`front`]: `ringsteer push` on the pusher;
//! * [`openim`]: a fleet that serves OpenIM's clients;
//! * [`puppet`]: clients that are not ours, as processes;
//! * [`js_sdk`]: users of OpenIM's own JS SDK;
//! * [`echoing`]: third-party websocket clients that talk to an echo;
//! * [`rounds`]: rings that send sessions from node to node;
//! * [`status`]: what to wait for in a node's status;
//! * [`scrape`]: what monitoring sees;
//! * [`packet`]: packets made by hand, and a look at those on the wire;
//! * [`kernel`]: a node reduced to its kernel side, fed packet by packet;
//! * [`tempers`]: clients whose TCP leaves something away;
//! * [`vectors`]: the golden vectors of the ring;
//! * [`bench`]: what `cargo xtask bench` measures;
//! * [`demo`]: what `cargo xtask demo` shows;
//! * [`confinement`]: commands with as few rights as a container has;
//! * [`deploy`]: the manifests, as kustomize builds them;
//! * [`seed`]: randomness that a failing test can replay.
//!
//! Traffic stays inside namespaces that the lab made and uses documentation addresses only.

pub mod bench;
pub mod client;
pub mod confinement;
pub mod demo;
pub mod deploy;
pub mod echoing;
pub mod fleet;
pub mod front;
pub mod js_sdk;
pub mod kernel;
pub mod lab;
pub mod openim;
pub mod packet;
pub mod probe;
pub mod puppet;
pub mod rounds;
pub mod scrape;
pub mod seed;
pub mod status;
pub mod tempers;
pub mod vectors;
