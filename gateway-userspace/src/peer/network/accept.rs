//! Takes links from members, and from nobody else.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{Shared, Speech, talk};
use crate::{
    peer::{counters::Way, link::Link},
    ring::NodeAddress,
};

/// Connections that the kernel may have ready before we accept them. Many: when a node comes back, all others dial.
const BACKLOG: u32 = 1024;

/// How long to leave an address alone that cannot be listened on, or a listener that cannot accept.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections of one node that may be shaking hands at once: the old one and the one that takes its place.
const HALF_OPEN_PER_NODE: usize = 2;

/// Connections of all nodes together.
const HALF_OPEN: usize = 1024;

/// Connections that are shaking hands.
#[derive(Debug, Default)]
struct HalfOpen(Mutex<BTreeMap<NodeAddress, usize>>);

/// A connection's place among them, given up when dropped.
pub(super) struct HalfOpenPlace {
    all: Arc<HalfOpen>,
    address: NodeAddress,
}

/// Listens at our node address, wherever that is.
pub(super) async fn keep<S: Speech>(shared: Arc<Shared<S>>) {
    let mut view = shared.view.clone();
    let half_open = Arc::new(HalfOpen::default());
    // Said once, not at every attempt.
    let mut complaint = String::new();
    loop {
        let Some(here) = view.borrow_and_update().here else {
            if view.changed().await.is_err() {
                return;
            }
            continue;
        };
        let moved = async {
            loop {
                if view.changed().await.is_err() || view.borrow().here != Some(here) {
                    return;
                }
            }
        };
        match listen(here, shared.port) {
            Ok(listener) => {
                complaint.clear();
                shared.listening.send_replace(true);
                tokio::select! {
                    () = accept(listener, &shared, &half_open) => {}
                    () = moved => {}
                }
                shared.listening.send_replace(false);
            }
            Err(error) => {
                let text = format!(
                    "cannot listen for {} on {}: {error}; is `[node] address` this host's, and the port (`{}` in \
                     `[peers]`) free?",
                    S::OTHERS,
                    SocketAddr::new(here.ip(), shared.port),
                    S::PORT_KEY
                );
                if text != complaint {
                    tracing::warn!("{text}");
                    complaint = text;
                }
                tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = moved => {}
                }
            }
        }
        // Nobody can tell us any more that we are elsewhere: the agent stops.
        if view.has_changed().is_err() {
            return;
        }
    }
}

fn listen(here: NodeAddress, port: u16) -> io::Result<TcpListener> {
    let socket = if here.ip().is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A process that restarts must not wait for its predecessor's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(here.ip(), port))?;
    socket.listen(BACKLOG)
}

/// Accepts until dropped; that ends the links, too.
async fn accept<S: Speech>(listener: TcpListener, shared: &Arc<Shared<S>>, half_open: &Arc<HalfOpen>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => match admit(from, shared, half_open) {
                    Ok((address, place)) => {
                        links.spawn(answer(stream, address, place, Arc::clone(shared)));
                    }
                    Err(reason) => {
                        tracing::debug!("a connection from {from} was closed: {reason}");
                        shared.counters.failed(Way::In, reason);
                    }
                },
                Err(error) => {
                    tracing::warn!("cannot accept links: {error}");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = links.join_next() => {}
        }
    }
}

/// Whether to listen to somebody at all.
fn admit<S: Speech>(
    from: SocketAddr,
    shared: &Shared<S>,
    half_open: &Arc<HalfOpen>,
) -> Result<(NodeAddress, HalfOpenPlace), &'static str> {
    let address = NodeAddress::new(from.ip()).map_err(|_| "no_member")?;
    if !shared.view.borrow().may_dial(address) {
        return Err("no_member");
    }
    half_open.enter(address).map(|place| (address, place)).ok_or("too_many")
}

async fn answer<S: Speech>(stream: TcpStream, address: NodeAddress, place: HalfOpenPlace, shared: Arc<Shared<S>>) {
    let keys = Arc::clone(&shared.keys.borrow());
    let link = Link::answer((*keys).clone(), shared.hello());
    let ended = talk::run(stream, link, address, Way::In, &shared, Some(place)).await;
    tracing::debug!("link from {address}: {}", ended.why);
}

// === impl HalfOpen ===

impl HalfOpen {
    fn enter(self: &Arc<Self>, address: NodeAddress) -> Option<HalfOpenPlace> {
        let mut counts = self.counts();
        let all: usize = counts.values().sum();
        let of_node = counts.get(&address).copied().unwrap_or(0);
        if all >= HALF_OPEN || of_node >= HALF_OPEN_PER_NODE {
            return None;
        }
        counts.insert(address, of_node + 1);
        Some(HalfOpenPlace { all: Arc::clone(self), address })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<NodeAddress, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
