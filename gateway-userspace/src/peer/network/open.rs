//! The links that are up.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{peer::counters::Way, ring::NodeAddress};

/// The links that are up: at most one each way to each node, each with what leads to its task.
pub(in crate::peer) struct OpenLinks<T> {
    links: Mutex<BTreeMap<(NodeAddress, Way), OpenLink<T>>>,
}

struct OpenLink<T> {
    /// Which of the links there have been.
    number: u64,
    way_in: T,
    /// Dropped when another link takes the place.
    _place: oneshot::Sender<()>,
}

/// A link's place among those that are up. To be given up with [`OpenLinks::leave`].
#[derive(Debug)]
pub(in crate::peer) struct OpenPlace {
    at: (NodeAddress, Way),
    number: u64,
    lost: oneshot::Receiver<()>,
}

// === impl OpenLinks ===

impl<T> Default for OpenLinks<T> {
    fn default() -> Self {
        Self { links: Mutex::default() }
    }
}

impl<T: Clone> OpenLinks<T> {
    /// The link has come up. It takes the place of the one that was there: the other end made the new one because it has
    /// lost the old one.
    pub(in crate::peer) fn enter(&self, address: NodeAddress, way: Way, way_in: T) -> OpenPlace {
        let (place, lost) = oneshot::channel();
        let mut links = self.links();
        let at = (address, way);
        let number = links.get(&at).map_or(0, |before| before.number + 1);
        links.insert(at, OpenLink { number, way_in, _place: place });
        OpenPlace { at, number, lost }
    }

    /// The link has ended.
    pub(in crate::peer) fn leave(&self, place: &OpenPlace) {
        let mut links = self.links();
        // Unless another link has taken the place.
        if links.get(&place.at).is_some_and(|link| link.number == place.number) {
            links.remove(&place.at);
        }
    }

    /// The ways to a node, that of our own link first.
    pub(in crate::peer) fn to(&self, address: NodeAddress) -> Vec<T> {
        let links = self.links();
        [Way::Out, Way::In].iter().filter_map(|&way| links.get(&(address, way))).map(|one| one.way_in.clone()).collect()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<(NodeAddress, Way), OpenLink<T>>> {
        // Each change is one call.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl OpenPlace ===

impl OpenPlace {
    /// Whether another link has taken the place.
    pub(in crate::peer) fn is_lost(&mut self) -> bool {
        self.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    /// Returns when another link has taken the place.
    pub(in crate::peer) async fn lost(&mut self) {
        // It ends by being dropped.
        let _ = (&mut self.lost).await;
    }
}
