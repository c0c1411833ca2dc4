//! Where the ring comes from: the places in which fleets keep who belongs to them (promise 1, *one ring*).
//!
//! A [`Source`] follows such a place and tells the agent each new ring, in the order of their epochs. Where a fleet
//! keeps only its members (etcd, Kubernetes), the ring object is kept beside them and changed by compare-and-swap: the
//! store orders the epochs, and there is no consensus of our own.
//!
//! What every source promises, and the contract tests hold it to:
//! * the first event is the ring, or what stands in the way of one;
//! * each ring told has a higher epoch than the one before it;
//! * a source that cannot be reached, or that holds something broken, says so once, [`Event::Trouble`], and the last
//!   ring stays in force; when that is over, the next ring or [`Event::Well`] says so;
//! * nothing is lost: after an outage the newest ring is told, whether or not those between were seen.
//!
//! | file | subject |
//! |---|---|
//! | `order` | what to tell of what is found, pure |
//! | `object` | the ring as a store keeps it, pure |
//! | `reconcile` | the next ring object, from the last one and the nodes that are there, pure |
//! | `pace` | waiting, so that not all act at once, pure |
//! | `file` | a file |
//! | `etcd` | etcd |
//! | `kubernetes` | the endpoints of a service, and a ConfigMap |
//! | `contract` | the promises above, as tests that every source passes |

#[cfg(test)]
pub(crate) mod contract;
mod etcd;
mod file;
mod kubernetes;
pub mod object;
mod order;
pub mod pace;
pub mod reconcile;

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

pub use self::{etcd::EtcdSource, file::FileSource, kubernetes::KubernetesSource, order::Order};
use crate::{
    config::{Config, Membership},
    ring::{Identity, MemberState, NodeAddress, Ring},
};

/// The source that `config`, read from the file at `path`, names.
pub fn open(config: &Config, path: &Path) -> Result<Box<dyn Source>> {
    Ok(match &config.membership {
        Membership::File { path: None } => Box::new(FileSource::configuration(path)),
        Membership::File { path: Some(path) } => Box::new(FileSource::ring(path)),
        Membership::Etcd(etcd) => {
            let address = config.node.address.context("this node has no `address` to announce")?;
            Box::new(EtcdSource::new(etcd.clone(), Announcement { identity: config.node.identity.clone(), address }))
        }
        Membership::Kubernetes(kubernetes) => Box::new(KubernetesSource::new(kubernetes.clone(), config.node.address)),
    })
}

/// What a source tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// The ring in force from now on.
    Ring(Ring),
    /// There is something the operator should know: one sentence, with what to do. The last ring stays in force.
    Trouble(String),
    /// The trouble is over, and the last ring told is still the newest.
    Well,
}

/// This node, as it takes part where members announce themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What the ring hashes for it.
    pub identity: Identity,
    /// Where packets to it go.
    pub address: NodeAddress,
}

/// A place that keeps the members of a fleet.
pub trait Source: Send {
    /// What logs and metrics call it: `file`, `etcd`, `kubernetes`.
    fn name(&self) -> &'static str;

    /// This ring is in force here from before the agent was started. Where nodes write the rings, epochs go on from it,
    /// and it is written again if the store has lost it.
    fn remember(&mut self, _ring: Ring) {}

    /// Follows it and tells what happens, until dropped or until nobody listens any more. Where members announce
    /// themselves, this node does, in the state that `state` has now and whenever it changes. When it ends it takes
    /// nothing back: an agent that is started again before the grace period ends has not been away.
    fn follow(
        self: Box<Self>,
        state: watch::Receiver<MemberState>,
        told: mpsc::Sender<Event>,
    ) -> BoxFuture<'static, ()>;
}
