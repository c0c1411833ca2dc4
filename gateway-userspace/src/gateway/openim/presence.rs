//! Who is online, and who wants to know.
//!
//! A user's sessions are on the user's owner, so that one knows. A client that asks is told of every user, by asking the
//! owners. From then on it is told of changes of those users whom its own node owns.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message as _;
use ringsteer_openim_rpc::sdkws::{SubUserOnlineStatusElem, SubUserOnlineStatusTips};
use serde::{Deserialize, Serialize};

use crate::{
    gateway::Shared,
    peer::gateways::{Handlers, Peer, Question, Subject},
    ring::NodeAddress,
    session::{
        message::{Message, Purpose},
        table::SessionId,
    },
    websocket::decoder::Kind,
};

/// For the answers of other nodes.
const PATIENCE: Duration = Duration::from_secs(2);

/// By the user who is watched, the sessions that watch, with their users.
type Watchers = HashMap<Box<[u8]>, HashMap<SessionId, Box<[u8]>>>;

/// Who wants to know of whom.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Presence {
    watchers: Mutex<Watchers>,
}

/// On which platforms are these users online?
#[derive(Debug, Serialize, Deserialize)]
struct WhoIsOnline {
    users: Vec<String>,
}

impl Question for WhoIsOnline {
    const SUBJECT: Subject = Subject::PRESENCE;
    /// Platforms, in the order of the users.
    type Answer = Vec<Vec<i32>>;
}

/// Answers other gateways.
pub(in crate::gateway) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    let shared = Weak::clone(shared);
    handlers.answer(move |_: &Peer, WhoIsOnline { users }: WhoIsOnline| {
        let platforms = shared
            .upgrade()
            .map(|shared| users.iter().map(|user| shared.platforms(user.as_bytes())).collect::<Vec<_>>());
        async move { platforms.unwrap_or_default() }
    });
}

// === impl Presence ===

impl Presence {
    /// A session wants to be told of these users.
    pub(in crate::gateway) fn watch(&self, watcher: (&[u8], SessionId), users: &[String]) {
        let mut watchers = self.watchers();
        for user in users {
            watchers.entry(user.as_bytes().into()).or_default().insert(watcher.1, watcher.0.into());
        }
    }

    /// It does not any more.
    pub(in crate::gateway) fn unwatch(&self, watcher: SessionId, users: &[String]) {
        let mut watchers = self.watchers();
        for user in users {
            if let Some(of) = watchers.get_mut(user.as_bytes()) {
                of.remove(&watcher);
                if of.is_empty() {
                    watchers.remove(user.as_bytes());
                }
            }
        }
    }

    /// The sessions that watch a user.
    fn of(&self, user: &[u8]) -> Vec<(SessionId, Box<[u8]>)> {
        let watchers = self.watchers();
        let of = watchers.get(user).into_iter().flatten();
        of.map(|(id, watcher)| (*id, watcher.clone())).collect()
    }

    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The platforms on which a user has sessions here.
    fn platforms(&self, user: &[u8]) -> Vec<i32> {
        let mut platforms: Vec<i32> = self.sessions().of(user).map(|(_, card, _)| card.platform).collect();
        platforms.sort_unstable();
        platforms.dedup();
        platforms
    }

    /// A session of `user` has begun or ended: whoever watches is told.
    pub(in crate::gateway) fn presence_changed(&self, user: &[u8]) {
        let watchers = self.presence.of(user);
        let Ok(name) = str::from_utf8(user) else { return };
        if watchers.is_empty() {
            return;
        }
        let payload = tips(vec![(name.to_owned(), self.platforms(user))]);
        let message = Message::for_purpose(Purpose::OnlineStatus, Kind::Binary, payload, "");
        let mut sessions = self.sessions();
        for (id, watcher) in watchers {
            // A status that meets a session in motion or a full queue is not worth keeping: it is asked for again.
            sessions.offer_to(&watcher, id, &message);
        }
    }

    /// The status of these users, as a client is told. Of whom nothing can be found out now, nothing is said.
    pub(super) async fn online_status(self: &Arc<Self>, users: Vec<String>) -> Bytes {
        let published = self.published();
        let mut known = Vec::new();
        let mut elsewhere: BTreeMap<NodeAddress, Vec<String>> = BTreeMap::new();
        for user in users {
            let owner = published.as_ref().map(|published| (published.owner(user.as_bytes()), published.node));
            match owner {
                Some((owner, node)) if Some(owner.number) != node => {
                    elsewhere.entry(owner.address).or_default().push(user);
                }
                _ => {
                    let platforms = self.platforms(user.as_bytes());
                    known.push((user, platforms));
                }
            }
        }
        let asked = elsewhere.into_iter().map(async |(node, users)| {
            let question = WhoIsOnline { users };
            let answer = self.links().ask(node, &question, PATIENCE).await.unwrap_or_default();
            question.users.into_iter().zip(answer)
        });
        for answer in join_all(asked).await {
            known.extend(answer);
        }
        tips(known)
    }
}

/// What a client is told of users.
fn tips(users: Vec<(String, Vec<i32>)>) -> Bytes {
    let subscribers = users
        .into_iter()
        .map(|(user_id, platforms)| SubUserOnlineStatusElem { user_id, online_platform_i_ds: platforms })
        .collect();
    SubUserOnlineStatusTips { subscribers }.encode_to_vec().into()
}
