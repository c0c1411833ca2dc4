//! Pushes: from wherever they come in to the user's sessions, on this node and on others.
//!
//! | file | subject |
//! |---|---|
//! | `http` | `POST /push`, the way in that the kernel steers |
//! | `deliver` | one push to many users, from its first look to its outcomes |
//! | `forward` | asking other gateways, and being asked |
//! | `rpc` | OpenIM's `msgGateway` service |
//! | `ask` | who is online, and who is to be kicked, wherever they are |
//! | `settled` | whether all sessions here are ours by the present ring |
//!
//! What is decided, the pure `crate::push` decides.

mod ask;
mod deliver;
mod forward;
mod http;
mod rpc;
mod settled;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

pub(super) use self::{deliver::Push, http::serve, rpc::serve as serve_rpc};
use super::Shared;
use crate::{
    config::{self, Config, ConfigError, Serve},
    control::Published,
    handoff,
    peer::gateways::Handlers,
    push::{
        Outcome,
        departures::Departures,
        memory::{self, Memory},
        places::Rings,
        round::Went,
        token::{Tokens, Unauthorized},
    },
    ring::{NodeAddress, RingName},
};

/// Pushes to one user each that are remembered: what ten thousand a second make in 26 seconds.
const REMEMBERED: usize = 1 << 18;

/// Pushes, of one or many users, that may be under way at once.
const AT_ONCE: usize = 4096;

/// A node that is no member any more and has not been reached for this long has gone, and its sessions with it.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// What all pushes share.
#[derive(Debug)]
pub(super) struct Pushes {
    config: config::Push,
    /// They can be replaced while the gateway runs.
    tokens: RwLock<Arc<Tokens>>,
    memory: Mutex<Memory<oneshot::Sender<Outcome>>>,
    rings: Mutex<FollowedRings>,
    settled: Mutex<settled::Settled>,
    departures: Mutex<Departures>,
    /// Nodes that could not be reached, and since when.
    unreachable: Mutex<BTreeMap<NodeAddress, Instant>>,
    under_way: Arc<Semaphore>,
    started: Instant,
}

/// The rings, and what they were made of.
#[derive(Debug, Default)]
struct FollowedRings {
    published: Option<Arc<Published>>,
    rings: Rings,
}

// === impl Pushes ===

impl Pushes {
    /// # Errors
    /// If pushes are taken, and there are no tokens.
    pub(super) fn new(config: &Config) -> Result<Self, ConfigError> {
        let tokens = tokens(config)?;
        let config = &config.push;
        let limits = memory::Limits { window: config.window, entries: REMEMBERED };
        Ok(Self {
            config: config.clone(),
            tokens: RwLock::new(Arc::new(tokens)),
            memory: Mutex::new(Memory::new(limits)),
            rings: Mutex::default(),
            settled: Mutex::default(),
            departures: Mutex::default(),
            unreachable: Mutex::default(),
            under_way: Arc::new(Semaphore::new(AT_ONCE)),
            started: Instant::now(),
        })
    }

    /// Whether who sends this `Authorization` may push.
    ///
    /// # Errors
    /// If they may not.
    pub(super) fn authorize(&self, authorization: Option<&[u8]>) -> Result<(), Unauthorized> {
        let tokens = Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner));
        tokens.check(authorization)
    }

    /// Reads the tokens again.
    pub(super) fn reload(&self, config: &Config) {
        match tokens(config) {
            Ok(tokens) => *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens),
            Err(error) => tracing::warn!("the tokens for pushing stay as they are: {error}"),
        }
    }

    /// Pushes remembered, and those forgotten early.
    pub(super) fn remembered(&self) -> (usize, u64) {
        let memory = self.memory();
        (memory.len(), memory.crowded_out())
    }

    fn memory(&self) -> MutexGuard<'_, Memory<oneshot::Sender<Outcome>>> {
        lock(&self.memory)
    }

    /// The rings, with what is published now taken in.
    fn rings<T>(&self, published: Option<&Arc<Published>>, read: impl FnOnce(&mut Rings) -> T) -> T {
        let mut followed = lock(&self.rings);
        let same = |known: &Arc<Published>, new: &Arc<Published>| Arc::ptr_eq(known, new);
        if let Some(new) = published
            && !followed.published.as_ref().is_some_and(|known| same(known, new))
        {
            let now = self.started.elapsed();
            followed.rings.follow(new.address, &new.ring, new.previous.as_ref(), now);
            followed.published = Some(Arc::clone(new));
        }
        read(&mut followed.rings)
    }
}

impl Shared {
    /// Notes that a session of a user goes to another node. Before it is out of the table: whoever does not find it there
    /// any more has to find this.
    pub(super) fn goes(&self, user: &[u8], went: Went) {
        lock(&self.pushes.departures).note(user, went, self.pushes.started.elapsed());
    }

    /// The other nodes that may have sessions of a user, by the rings that are known here.
    pub(super) fn other_places(&self, user: &[u8]) -> Vec<NodeAddress> {
        let ahead = self.ahead();
        let Some(published) = self.published() else { return vec![] };
        let places = self.pushes.rings(Some(&published), |rings| rings.places(user, &ahead)).unwrap_or_default();
        places.owner.into_iter().chain(places.former).collect()
    }

    /// A node says that it is settled by that ring. Whether that is news.
    pub(super) fn has_settled(&self, node: NodeAddress, ring: RingName) -> bool {
        self.pushes.rings(None, |rings| rings.settled(node, ring))
    }

    /// The nodes that follow a later ring than this one. To be had before the ring: who is not ahead any more then has a ring
    /// that is known here.
    fn ahead(&self) -> Vec<NodeAddress> {
        self.moves.get().map(handoff::Handle::ahead).unwrap_or_default()
    }

    /// The sessions of a user that went from here lately. To be asked after looking for those that are here.
    pub(super) fn went_from_here(&self, user: &[u8]) -> Vec<Went> {
        lock(&self.pushes.departures).of(user, self.pushes.started.elapsed())
    }
}

/// Has what other gateways ask about users answered.
pub(super) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    forward::answer(handlers, shared);
    ask::answer(handlers, shared);
}

/// The tokens that are valid; nobody's, where no pushes are taken.
fn tokens(config: &Config) -> Result<Tokens, ConfigError> {
    let taken = config.push.grpc.is_some() || config.services.iter().any(|service| service.serve == Serve::Push);
    if taken { config.push.tokens() } else { Ok(Tokens::These(vec![])) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call, or harmless when left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
