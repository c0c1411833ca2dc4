//! What else is asked about users wherever they are: who is online, and who is to be kicked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use ringsteer_openim::{platform::Platform, policy, token::TokenDigest};
use serde::{Deserialize, Serialize};

use crate::{
    gateway::Shared,
    peer::gateways::{AskError, Handlers, Question, Subject},
    ring::NodeAddress,
    session::table::{Card, Farewell, SessionId},
};

/// How long another node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which sessions users have at the node that is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Online {
    users: Vec<Vec<u8>>,
}

/// A session, as OpenIM is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terminal {
    pub(super) platform: i32,
    pub(super) connection: String,
    pub(super) background: bool,
    pub(super) token: String,
}

/// Ends sessions of users at the node that is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kick {
    users: Vec<Vec<u8>>,
    why: Why,
}

/// Which of their sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Why {
    /// Those on a platform: somebody in charge wants it.
    Platform(i32),
    /// Those that may not be beside a session that has begun elsewhere, by the policy.
    Login { platform: i32, token: String },
}

impl Question for Online {
    const SUBJECT: Subject = Subject::ONLINE;
    type Answer = Vec<Vec<Terminal>>;
}

impl Question for Kick {
    const SUBJECT: Subject = Subject::KICK;
    /// How many sessions.
    type Answer = u32;
}

/// Answers the other gateways.
pub(super) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    let weak = Weak::clone(shared);
    handlers.answer(move |_, Online { users }| {
        let found = weak.upgrade().map(|shared| shared.terminals(&users));
        async move { found.unwrap_or_default() }
    });
    let weak = Weak::clone(shared);
    handlers.answer(move |_, Kick { users, why }| {
        let kicked = weak.upgrade().map(|shared| shared.kick_here(&users, &why));
        async move { kicked.unwrap_or_default() }
    });
}

impl Shared {
    /// Which sessions users have anywhere; none where nobody can say.
    pub(super) async fn online(self: &Arc<Self>, users: Vec<Vec<u8>>) -> Vec<Option<Vec<Terminal>>> {
        let mut found: Vec<Option<Vec<Terminal>>> = self.terminals(&users).into_iter().map(Some).collect();
        let Some(by_node) = self.elsewhere(&users) else { return vec![None; users.len()] };
        let asked = by_node.iter().map(async |(&node, indices)| {
            let question = Online { users: indices.iter().map(|&index| users[index].clone()).collect() };
            match self.links().ask(node, &question, PATIENCE).await {
                Ok(answer) if answer.len() == indices.len() => Some(answer),
                Err(AskError::NoLink) if self.has_gone(node) => Some(vec![vec![]; indices.len()]),
                _ => None,
            }
        });
        for (indices, answer) in by_node.values().zip(join_all(asked).await) {
            let mut answer = answer.map(Vec::into_iter);
            for &index in indices {
                match (answer.as_mut().and_then(Iterator::next), &mut found[index]) {
                    (Some(more), Some(known)) => known.extend(more),
                    (_, unknown) => *unknown = None,
                }
            }
        }
        found
    }

    /// Ends the sessions that users have on a platform, anywhere. False if not everybody has answered.
    pub(super) async fn kick(self: &Arc<Self>, users: Vec<Vec<u8>>, platform: i32) -> bool {
        self.kick_everywhere(users, Why::Platform(platform)).await
    }

    /// A user has logged in at somebody else's gateway: ends what may not be beside that. False if not everybody has
    /// answered.
    pub(super) async fn login_elsewhere(self: &Arc<Self>, user: Vec<u8>, platform: i32, token: String) -> bool {
        self.kick_everywhere(vec![user], Why::Login { platform, token }).await
    }

    async fn kick_everywhere(self: &Arc<Self>, users: Vec<Vec<u8>>, why: Why) -> bool {
        self.kick_here(&users, &why);
        let Some(by_node) = self.elsewhere(&users) else { return false };
        let asked = by_node.iter().map(async |(&node, indices)| {
            let users = indices.iter().map(|&index| users[index].clone()).collect();
            match self.links().ask(node, &Kick { users, why: why.clone() }, PATIENCE).await {
                Ok(_) => true,
                Err(error) => error == AskError::NoLink && self.has_gone(node),
            }
        });
        join_all(asked).await.into_iter().all(|done| done)
    }

    /// Other nodes that may have sessions of users, with the indices of the users; none without a ring.
    fn elsewhere(&self, users: &[Vec<u8>]) -> Option<BTreeMap<NodeAddress, Vec<usize>>> {
        let ahead = self.ahead();
        let published = self.published()?;
        let mut by_node: BTreeMap<NodeAddress, Vec<usize>> = BTreeMap::new();
        self.pushes.rings(Some(&published), |rings| {
            for (index, user) in users.iter().enumerate() {
                let places = rings.places(user, &ahead).unwrap_or_default();
                for node in places.owner.into_iter().chain(places.former) {
                    by_node.entry(node).or_default().push(index);
                }
            }
        });
        Some(by_node)
    }

    fn terminals(&self, users: &[Vec<u8>]) -> Vec<Vec<Terminal>> {
        let sessions = self.sessions();
        let terminal = |card: &Card| Terminal {
            platform: card.platform,
            connection: card.connection.to_string(),
            background: card.background,
            // The token itself is not kept; nobody can log in with this.
            token: card.token.map(|token| token.to_string()).unwrap_or_default(),
        };
        users.iter().map(|user| sessions.of(user).map(|(_, card, _)| terminal(card)).collect()).collect()
    }

    fn kick_here(&self, users: &[Vec<u8>], why: &Why) -> u32 {
        let mut sessions = self.sessions();
        let mut kicked = 0;
        for user in users {
            let all: Vec<(SessionId, Card)> = sessions.of(user).map(|(id, card, _)| (id, card.clone())).collect();
            for (id, card) in all {
                if let Some(farewell) = self.fate(&card, why) {
                    if farewell == Farewell::Kick {
                        self.token_is_kicked(&card);
                    }
                    kicked += u32::from(sessions.end(user, id, farewell));
                }
            }
        }
        kicked
    }

    /// How a session ends, if it does.
    fn fate(&self, card: &Card, why: &Why) -> Option<Farewell> {
        match why {
            Why::Platform(platform) => (card.platform == *platform).then_some(Farewell::Kick),
            Why::Login { platform, token } => {
                let terminal = |platform: i32, token: TokenDigest| {
                    let platform = Platform::try_from(platform).ok()?;
                    Some(policy::Terminal { platform, token })
                };
                let existing = terminal(card.platform, card.token?)?;
                match self.login_policy().fate(existing, terminal(*platform, TokenDigest::of(token))?) {
                    policy::Fate::Stays => None,
                    policy::Fate::Kicked => Some(Farewell::Kick),
                    // It is no reconnect that we see the other end of: the client is elsewhere now.
                    policy::Fate::Replaced => Some(Farewell::Replace),
                }
            }
        }
    }
}
