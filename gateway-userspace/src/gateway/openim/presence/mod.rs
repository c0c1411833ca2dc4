//! Who is online, and who wants to know, at any gateway. What is decided, the pure [`crate::presence`] decides.
//!
//! | file | subject |
//! |---|---|
//! | `talk` | what gateways ask and tell each other |
//!
//! Locks: whoever holds that of `state` may take those of the table and of the pushes, never the other way round.

mod talk;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use ringsteer_openim_rpc::sdkws::{SubUserOnlineStatusElem, SubUserOnlineStatusTips};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

pub(super) use self::talk::answer;
pub(in crate::gateway) use self::talk::follow;
use crate::{
    gateway::Shared,
    presence::{
        Name, Platforms, Word,
        readers::Readers,
        watching::{Knows, News, Out, Surroundings, Watching},
    },
    ring::NodeAddress,
    session::{
        message::{Message, Purpose},
        table::SessionId,
    },
    websocket::decoder::Kind,
};

/// How long a client that asks waits for what other nodes say.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most sessions of one user that are named as gone elsewhere, the latest; more than a user has.
const MAX_WENT: usize = 16;

/// Who wants to know of whom.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Presence {
    state: Mutex<State>,
    /// Who talks to which node.
    bells: Mutex<BTreeMap<NodeAddress, Arc<Bell>>>,
    /// The last stamp given.
    stamp: AtomicU64,
    /// A node has settled.
    settled: Notify,
    told: AtomicU64,
    heard: AtomicU64,
    refused: AtomicU64,
}

/// Both sides: those who watch here, and those who watch elsewhere.
#[derive(Debug, Default)]
struct State {
    watching: Watching<Watcher, oneshot::Sender<()>>,
    readers: Readers,
}

/// Wakes those who talk to a node.
#[derive(Debug, Default)]
struct Bell {
    /// There is something to ask.
    ask: Notify,
    /// There is something to tell.
    tell: Notify,
}

/// A session that watches, with its user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::gateway) struct Watcher {
    id: SessionId,
    user: Name,
}

/// How much is watched, and what has been said; see the figures.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Watched {
    pub(in crate::gateway) users: usize,
    pub(in crate::gateway) watches: usize,
    pub(in crate::gateway) readers: usize,
    pub(in crate::gateway) streams: u64,
    pub(in crate::gateway) told: u64,
    pub(in crate::gateway) heard: u64,
    pub(in crate::gateway) refused: u64,
}

// === impl Watcher ===

impl Watcher {
    /// A session of `user`.
    pub(in crate::gateway) fn new(id: SessionId, user: &[u8]) -> Self {
        Self { id, user: user.into() }
    }
}

// === impl Presence ===

impl Presence {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, node: NodeAddress) -> Arc<Bell> {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(bells.entry(node).or_default())
    }
}

impl Surroundings for Shared {
    fn here(&self, user: &[u8]) -> Word {
        let (stamp, platforms) = {
            let sessions = self.sessions();
            // Under the table's lock: the greater stamp is of the later state.
            let stamp = self.presence.stamp.fetch_add(1, Ordering::Relaxed) + 1;
            let mut platforms: Platforms = sessions.of(user).map(|(_, card, _)| card.platform).collect();
            platforms.sort_unstable();
            platforms.dedup();
            (stamp, platforms)
        };
        // After the sessions: one that was not found there any more has been noted here.
        let mut went = self.went_from_here(user);
        went.drain(..went.len().saturating_sub(MAX_WENT));
        Word { stamp, platforms, went }
    }

    fn places(&self, user: &[u8]) -> Vec<NodeAddress> {
        self.other_places(user)
    }

    fn is_here(&self, node: NodeAddress) -> bool {
        self.published().is_some_and(|published| published.address == Some(node))
    }
}

impl Shared {
    /// Changes something, and does what comes of it.
    fn present<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.presence.state();
        let result = change(&mut state);
        let Out { news, ready, nodes } = state.watching.take();
        // Under the lock, so that what sessions are told last is what is true.
        self.tell(&news);
        drop(state);
        for reply in ready {
            // Nobody may wait any more.
            let _ = reply.send(());
        }
        for node in nodes {
            self.presence.bell(node).ask.notify_one();
        }
        result
    }

    /// Tells sessions what is new: each everything in one message, and all that are told the same in the same one.
    fn tell(&self, news: &[News<Watcher>]) {
        let mut by_session: BTreeMap<&Watcher, Vec<usize>> = BTreeMap::new();
        for (index, one) in news.iter().enumerate() {
            one.to.iter().for_each(|to| by_session.entry(to).or_default().push(index));
        }
        let mut messages: HashMap<Vec<usize>, Message> = HashMap::new();
        for (Watcher { id, user }, indices) in by_session {
            self.presence.told.fetch_add(indices.len() as u64, Ordering::Relaxed);
            let message = messages.entry(indices).or_insert_with_key(|indices| {
                let payload = tips(indices.iter().map(|&index| (&*news[index].user, news[index].platforms.clone())));
                Message::for_purpose(Purpose::OnlineStatus, Kind::Binary, payload, "")
            });
            self.sessions().offer_to(user, *id, message);
        }
    }

    /// A session wants to be told of users.
    pub(in crate::gateway) fn watch<'a>(&self, by: &Watcher, users: impl IntoIterator<Item = (&'a [u8], Knows)>) {
        let now_ms = self.sweeper.now_ms();
        let refused = self.present(|state| {
            let mut watch = |(user, knows)| !state.watching.watch(by.clone(), user, knows, now_ms, self);
            users.into_iter().map(&mut watch).filter(|refused| *refused).count()
        });
        self.presence.refused.fetch_add(refused as u64, Ordering::Relaxed);
    }

    /// It does not want to be told of these any more. What it has been told of them.
    pub(in crate::gateway) fn unwatch(&self, by: &Watcher, users: &[String]) -> Vec<Option<Platforms>> {
        if users.is_empty() {
            return vec![];
        }
        self.present(|state| users.iter().map(|user| state.watching.unwatch(by, user.as_bytes())).collect())
    }

    /// The session has its answer about these users.
    pub(in crate::gateway) fn status_answered(&self, by: &Watcher, users: &[String]) {
        let now_ms = self.sweeper.now_ms();
        self.present(|state| state.watching.answered(by, users.iter().map(String::as_bytes), now_ms, self));
    }

    /// A session of `user` has begun here, has ended or goes elsewhere.
    pub(in crate::gateway) fn presence_changed(&self, user: &[u8]) {
        let now_ms = self.sweeper.now_ms();
        let nodes = self.present(|state| {
            state.watching.changed_here(user, now_ms, self);
            state.readers.changed(user)
        });
        for node in nodes {
            self.presence.bell(node).tell.notify_one();
        }
    }

    /// The status of these users, as a session is told that watches them. Of whom nothing can be found out now, nothing is
    /// said; the session is told when it is.
    pub(super) async fn online_status(&self, by: &Watcher, users: &[String]) -> Bytes {
        let (reply, known) = oneshot::channel();
        let names = || users.iter().map(String::as_bytes);
        let number = self.present(|state| state.watching.ask(by, names(), reply));
        let _ = timeout(PATIENCE, known).await;
        tips(self.present(|state| state.watching.answer(by, names(), number)))
    }

    /// How much is watched.
    pub(in crate::gateway) fn watched(&self) -> Watched {
        let state = self.presence.state();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Watched {
            users: state.watching.users().len(),
            watches: state.watching.len(),
            readers: state.readers.len(),
            streams: state.watching.streams(),
            told: count(&self.presence.told),
            heard: count(&self.presence.heard),
            refused: count(&self.presence.refused),
        }
    }
}

/// What a client is told of users.
fn tips<'a>(users: impl IntoIterator<Item = (&'a [u8], Platforms)>) -> Bytes {
    let subscribers = users.into_iter().map(|(user, platforms)| SubUserOnlineStatusElem {
        // They come from clients that named them in text.
        user_id: String::from_utf8_lossy(user).into_owned(),
        online_platform_i_ds: platforms,
    });
    SubUserOnlineStatusTips { subscribers: subscribers.collect() }.encode_to_vec().into()
}
