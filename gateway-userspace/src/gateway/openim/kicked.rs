//! Tokens that are worth nothing any more, at every gateway.
//!
//! A token is kicked where its user's sessions are, and the next ring may give the user to another node, also because the
//! node that knew of it is gone. So every gateway knows all kicked tokens: it tells each other process all that it
//! knows when it first hears of that one, and from then on what is new to it, wherever it has that from; each part again
//! until it has been heard. Who starts, then, hears everything from those who are there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use ringsteer_openim::token::KickedToken;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::broadcast::{self, error::TryRecvError},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{OpenIm, now};
use crate::{
    gateway::Shared,
    peer::gateways::{AskError, Handlers, Lane, Question, Subject, To},
};

/// Tokens that may wait to be told to somebody. Beyond it all that is known is told once more.
pub(super) const MAX_NEWS: usize = 4096;

/// Tokens in one message.
const AT_ONCE: usize = 10_000;

/// How long another process may take to answer, and how long to leave it alone that has not.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);

/// These have been kicked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AreKicked {
    tokens: Vec<KickedToken>,
}

impl Question for AreKicked {
    const SUBJECT: Subject = Subject::KICKED;
    const LANE: Lane = Lane::Bulk;
    /// That it is heard.
    type Answer = ();
}

/// Hears the other gateways.
pub(super) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    let shared = Weak::clone(shared);
    handlers.answer(move |_, AreKicked { tokens }| {
        if let Some(openim) = shared.upgrade().as_ref().and_then(|shared| shared.openim.as_ref()) {
            openim.are_kicked(&tokens);
        }
        async {}
    });
}

/// Tells the other gateways, until this one stops.
pub(in crate::gateway) async fn spread(shared: Arc<Shared>) {
    let mut lives = shared.links().lives();
    let mut telling = JoinSet::new();
    let mut told: BTreeMap<_, AbortHandle> = BTreeMap::new();
    loop {
        let living: BTreeSet<_> = lives.borrow_and_update().living().collect();
        told.retain(|process, task| {
            living.contains(process) || {
                task.abort();
                false
            }
        });
        for (node, incarnation) in living {
            let to = To { node, incarnation: Some(incarnation) };
            told.entry((node, incarnation)).or_insert_with(|| telling.spawn(tell(Arc::clone(&shared), to)));
        }
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            changed = lives.changed() => if changed.is_err() { return },
            Some(_) = telling.join_next() => {}
        }
    }
}

/// Tells one process, for as long as it is there.
async fn tell(shared: Arc<Shared>, to: To) {
    let Some(openim) = &shared.openim else { return };
    loop {
        // Before the first look: what comes after it is news.
        let mut news = openim.news.subscribe();
        let mut after = None;
        loop {
            let tokens = openim.kicked().after(after, AT_ONCE);
            let Some(&last) = tokens.last() else { break };
            if !is_heard(&shared, to, tokens).await {
                return;
            }
            after = Some(last);
        }
        while let Some(tokens) = next(&mut news).await {
            if !is_heard(&shared, to, tokens).await {
                return;
            }
        }
    }
}

/// What is new, as soon as there is something; none if it was too much.
async fn next(news: &mut broadcast::Receiver<KickedToken>) -> Option<Vec<KickedToken>> {
    let mut tokens = vec![news.recv().await.ok()?];
    while tokens.len() < AT_ONCE {
        match news.try_recv() {
            Ok(token) => tokens.push(token),
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return None,
        }
    }
    Some(tokens)
}

/// Says it until it is heard; false if that process will never hear it.
async fn is_heard(shared: &Shared, to: To, tokens: Vec<KickedToken>) -> bool {
    let question = AreKicked { tokens };
    loop {
        match shared.links().ask(to, &question, PATIENCE).await {
            Ok(()) => return true,
            // Its version does not know of this.
            Err(AskError::OtherIncarnation | AskError::NotUnderstood | AskError::TooLong) => return false,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

impl OpenIm {
    /// These tokens are worth nothing any more, as we have found or been told.
    pub(super) fn are_kicked(&self, tokens: &[KickedToken]) {
        let expired = self.keys.expired_until(now());
        let mut kicked = self.kicked();
        for &(expires, token) in tokens.iter().filter(|(expires, _)| *expires > expired) {
            if kicked.insert(token, expires) {
                // Nobody may be there to be told.
                let _ = self.news.send((expires, token));
            }
        }
    }
}
