//! Staying on the published ring: whatever happens to the agent, its last ring stays in force (promises 1 and 4).

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{
    client::{Agent, ClientError},
    message::{Answer, Publication, Request},
};
use crate::{
    config::Service,
    ring::{Member, MemberNumber, Ring},
};

/// How long to wait before the first attempt to reach the agent again; twice as long before each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// Longest wait between two attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

/// What the agent has published, verified.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which member of the ring this node is.
    pub node: MemberNumber,
    /// The ring in force.
    pub ring: Ring,
    /// What is steered by it.
    pub services: Vec<Service>,
}

/// Follows what the local agent publishes, until dropped. Our own number and the ring come together, so nobody can
/// compare the one with another version of the other.
#[derive(Debug)]
pub struct Follower {
    published: watch::Receiver<Option<Arc<Published>>>,
    task: JoinHandle<()>,
}

// === impl Published ===

impl Published {
    /// The member that owns `key`.
    pub fn owner(&self, key: &[u8]) -> &Member {
        self.ring.owner(key)
    }

    /// Whether this node owns `key`.
    pub fn is_ours(&self, key: &[u8]) -> bool {
        self.owner(key).number == self.node
    }
}

impl TryFrom<Publication> for Published {
    type Error = super::message::PublicationError;

    fn try_from(publication: Publication) -> Result<Self, Self::Error> {
        Ok(Self { node: publication.node, ring: publication.verified_ring()?, services: publication.services })
    }
}

// === impl Follower ===

impl Follower {
    /// Follows the agent that listens on `socket`, now or some day. Must be called within a tokio runtime.
    pub fn start(socket: impl Into<PathBuf>) -> Self {
        let (sender, published) = watch::channel(None);
        Self { published, task: tokio::spawn(follow(socket.into(), sender)) }
    }

    /// What is in force, for keeping: `None` until an agent has been heard, and never again after that.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.clone()
    }

    /// The ring now in force, if an agent has been heard.
    pub fn ring(&self) -> Option<Ring> {
        self.published.borrow().as_ref().map(|published| published.ring.clone())
    }

    /// Which member this node is, if an agent has been heard.
    pub fn node(&self) -> Option<MemberNumber> {
        self.published.borrow().as_ref().map(|published| published.node)
    }

    /// What is in force, as soon as an agent has been heard.
    pub async fn first(&self) -> Arc<Published> {
        let mut published = self.published.clone();
        let first =
            published.wait_for(Option::is_some).await.expect("the follower's task lives as long as the follower");
        first.clone().expect("waited for")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(socket: PathBuf, published: watch::Sender<Option<Arc<Published>>>) {
    let mut backoff = FIRST_BACKOFF;
    // Said once, not at every attempt.
    let mut complaint = String::new();
    loop {
        let error = match Agent::ask(&socket, &Request::Follow {}).await {
            Ok(agent) => {
                listen(agent, |next| {
                    accept(&published, next);
                    // This agent is well, whatever happened before.
                    backoff = FIRST_BACKOFF;
                    complaint.clear();
                })
                .await
            }
            Err(error) => error,
        };
        let error = error.to_string();
        if error != complaint {
            tracing::warn!("{error}; the last ring stays in force");
            complaint = error;
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Passes on what `agent` publishes until it stops, and says why.
async fn listen(mut agent: Agent, mut accept: impl FnMut(Published)) -> ClientError {
    loop {
        match agent.answer().await {
            Ok(Answer::Publication(publication)) => match Published::try_from(publication) {
                Ok(published) => accept(published),
                Err(error) => return error.into(),
            },
            Ok(_) => return ClientError::Unexpected,
            Err(error) => return error,
        }
    }
}

/// Puts `next` in force. The agent has put it into the kernel, so we take it even if its epoch looks wrong: with two
/// rings on one node nobody would be right.
fn accept(published: &watch::Sender<Option<Arc<Published>>>, next: Published) {
    published.send_if_modified(|present| {
        if let Some(present) = present {
            let (old, new) = (&present.ring, &next.ring);
            let same_ring = old.epoch() == new.epoch() && old.digest() == new.digest();
            if same_ring && present.node == next.node && present.services == next.services {
                return false;
            }
            if new.epoch() < old.epoch() || (new.epoch() == old.epoch() && !same_ring) {
                tracing::warn!(
                    "the agent replaces ring {} of epoch {} by ring {} of epoch {}; a new ring needs a higher epoch",
                    old.digest().short(),
                    old.epoch(),
                    new.digest().short(),
                    new.epoch(),
                );
            }
        }
        tracing::info!("following ring {} of epoch {}", next.ring.digest().short(), next.ring.epoch());
        *present = Some(Arc::new(next));
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Epoch, fixtures};

    fn publish(epoch: u64, node: u16) -> Published {
        let members = vec![fixtures::member(1, "gw-0:88"), fixtures::member(2, "gw-1:88")];
        Published {
            node: MemberNumber::new(node).unwrap(),
            ring: Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap(),
            services: vec![],
        }
    }

    #[test]
    fn only_what_is_new_wakes_anybody() {
        let (sender, mut receiver) = watch::channel(None);
        for (next, new) in [
            (publish(1, 1), true),
            // An agent restarted with what it had.
            (publish(1, 1), false),
            (publish(2, 1), true),
            (publish(2, 2), true),
            (publish(2, 2), false),
        ] {
            accept(&sender, next.clone());
            assert_eq!(receiver.has_changed().unwrap(), new);
            let present = receiver.borrow_and_update().clone().unwrap();
            assert_eq!((present.node, present.ring.epoch()), (next.node, next.ring.epoch()));
        }
    }
}
