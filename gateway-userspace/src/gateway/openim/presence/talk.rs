//! What gateways ask and tell each other about users who are watched.
//!
//! To each other process two things are said, one after the other each: what we want to hear ([`Watch`]), and what it wants
//! to hear of users here ([`Status`]). Both are questions, so that whoever says something knows whether it was heard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet, yield_now},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    gateway::Shared,
    handoff::Handle,
    peer::gateways::{AskError, Handlers, Lives, Peer, Question, Subject, To},
    presence::{
        AT_ONCE, Name, Word,
        readers::Process,
        watching::{Asking, Surroundings as _},
    },
    ring::RingName,
};

/// How long another gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to leave one alone that has not.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two messages to one gateway: who comes and goes in this time is one word of the next.
const GATHER: Duration = Duration::from_millis(50);

/// How often to look whose time is over.
const TICK: Duration = Duration::from_secs(1);

/// Tell me of these users, now and whenever it changes; and no more of those.
#[derive(Debug, Serialize, Deserialize)]
struct Watch {
    stream: u64,
    begins: bool,
    more: Vec<Vec<u8>>,
    fewer: Vec<Vec<u8>>,
}

/// What is said to that.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Watched {
    /// One of each user to tell of, none of whom it will not be told; none at all if the stream is not known.
    words: Option<Vec<Option<Word>>>,
    /// The ring by which all sessions of the answering node are its own, if they are.
    settled: Option<RingName>,
}

/// So it is now.
#[derive(Debug, Serialize, Deserialize)]
struct Status {
    /// Of the one who is told.
    stream: u64,
    words: Vec<(Vec<u8>, Word)>,
    settled: Option<RingName>,
}

impl Question for Watch {
    const SUBJECT: Subject = Subject::WATCH;
    type Answer = Watched;
}

impl Question for Status {
    const SUBJECT: Subject = Subject::STATUS;
    /// Whether the stream is known.
    type Answer = bool;
}

/// Answers other gateways.
pub(in crate::gateway::openim) fn answer(handlers: &mut Handlers, shared: &Weak<Shared>) {
    let weak = Weak::clone(shared);
    handlers.answer(move |peer: &Peer, watch: Watch| {
        let answer = weak.upgrade().map(|shared| shared.is_asked((peer.node, peer.incarnation), watch));
        async move { answer.unwrap_or_default() }
    });
    let weak = Weak::clone(shared);
    handlers.answer(move |peer: &Peer, status: Status| {
        let known = weak.upgrade().is_some_and(|shared| shared.is_told((peer.node, peer.incarnation), status));
        async move { known }
    });
}

/// Keeps what is watched here in step with rings, links and other gateways, until this one stops.
pub(in crate::gateway) async fn follow(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.stopping.cancelled() => {}
        () = follow_lives(&shared) => {}
        () = follow_rings(&shared) => {}
    }
}

/// Talks to each other process for as long as it is there.
async fn follow_lives(shared: &Arc<Shared>) {
    let mut lives = shared.links().lives();
    let mut talking = JoinSet::new();
    let mut talks: BTreeMap<Process, AbortHandle> = BTreeMap::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let living = shared.see(&mut lives);
        talks.retain(|process, task| {
            living.contains(process) || {
                task.abort();
                false
            }
        });
        for process in living {
            talks.entry(process).or_insert_with(|| talking.spawn(talk(Arc::clone(shared), process)));
        }
        tokio::select! {
            changed = lives.changed() => if changed.is_err() { return },
            _ = tick.tick() => shared.tick(&lives),
            Some(_) = talking.join_next() => {}
        }
    }
}

/// Finds out where users may be whenever a ring or somebody's word on it is new.
async fn follow_rings(shared: &Shared) {
    let mut published = shared.published.clone();
    let Some(mut ahead) = shared.moves.get().map(Handle::followed_ahead) else { return };
    loop {
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            // A node that follows a later ring than we may have anybody.
            Ok(()) = ahead.changed() => {}
            () = shared.presence.settled.notified() => {}
        }
        let users: Vec<Name> = shared.presence.state().watching.users().cloned().collect();
        for users in users.chunks(AT_ONCE) {
            let now_ms = shared.sweeper.now_ms();
            shared.present(|state| users.iter().for_each(|user| state.watching.follow(user, now_ms, shared)));
            yield_now().await;
        }
    }
}

/// Asks a process and tells it.
async fn talk(shared: Arc<Shared>, process: Process) {
    tokio::join!(ask(&shared, process), tell(&shared, process));
}

async fn ask(shared: &Shared, (node, incarnation): Process) {
    let bell = shared.presence.bell(node);
    let to = To { node, incarnation: Some(incarnation) };
    loop {
        let now_ms = shared.sweeper.now_ms();
        let next = shared.present(|state| state.watching.next(node, incarnation, now_ms));
        let Some(Asking { stream, begins, more, fewer }) = next else {
            // Some time may have to pass before there is something to ask.
            let _ = timeout(TICK, bell.ask.notified()).await;
            continue;
        };
        let bytes = |names: Vec<Name>| names.iter().map(|name| name.to_vec()).collect();
        let question = Watch { stream, begins, more: bytes(more), fewer: bytes(fewer) };
        let answer = shared.links().ask(to, &question, PATIENCE).await;
        let now_ms = shared.sweeper.now_ms();
        match answer {
            Ok(Watched { words, settled }) => {
                let heard = words.as_ref().map_or(0, Vec::len);
                shared.presence.heard.fetch_add(heard as u64, Ordering::Relaxed);
                shared.note_settled(to, settled);
                shared.present(|state| state.watching.asked(node, stream, words, now_ms, shared));
            }
            Err(error) => {
                tracing::debug!("{node} cannot be asked who is online: {error}");
                shared.present(|state| state.watching.was_not_answered(node, stream, now_ms));
                if error == AskError::OtherIncarnation {
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn tell(shared: &Shared, process: Process) {
    let bell = shared.presence.bell(process.0);
    let to = To { node: process.0, incarnation: Some(process.1) };
    loop {
        let next = shared.presence.state().readers.next(process);
        let Some((stream, users)) = next else {
            bell.tell.notified().await;
            continue;
        };
        let words = users.iter().map(|user| (user.to_vec(), shared.here(user))).collect();
        let status = Status { stream, words, settled: shared.own_settled() };
        match shared.links().ask(to, &status, PATIENCE).await {
            Ok(true) => sleep(GATHER).await,
            Ok(false) => shared.presence.state().readers.wants_no_more(process, stream),
            Err(error) => {
                tracing::debug!("{} cannot be told who is online: {error}", process.0);
                shared.presence.state().readers.was_not_told(process, stream, users);
                if error == AskError::OtherIncarnation {
                    return;
                }
                sleep(PAUSE).await;
            }
        }
    }
}

impl Shared {
    /// Another gateway wants to hear of users.
    fn is_asked(&self, process: Process, Watch { stream, begins, more, fewer }: Watch) -> Watched {
        let names = |users: Vec<Vec<u8>>| users.into_iter().map(Name::from).collect::<Vec<_>>();
        let (more, fewer) = (names(more), names(fewer));
        let now_ms = self.sweeper.now_ms();
        // Noted first: what changes from here on is told.
        let noted = self.presence.state().readers.asked(process, (stream, begins), (&more, &fewer), now_ms);
        let word = |(user, noted): (&Name, bool)| noted.then(|| self.here(user));
        let words = noted.map(|noted| more.iter().zip(noted).map(word).collect());
        Watched { words, settled: self.own_settled() }
    }

    /// Another gateway tells us of users.
    fn is_told(&self, (node, incarnation): Process, Status { stream, words, settled }: Status) -> bool {
        self.presence.heard.fetch_add(words.len() as u64, Ordering::Relaxed);
        self.note_settled(node.into(), settled);
        let now_ms = self.sweeper.now_ms();
        let words = words.into_iter().map(|(user, word)| (Name::from(user), word)).collect();
        self.present(|state| state.watching.told(node, incarnation, stream, words, now_ms, self))
    }

    fn own_settled(&self) -> Option<RingName> {
        self.published().and_then(|published| self.settled(&published))
    }

    fn note_settled(&self, of: To, ring: Option<RingName>) {
        if ring.is_some_and(|ring| self.has_settled(of.node, ring)) {
            self.presence.settled.notify_one();
        }
    }

    /// Looks which processes there are; gives those to talk to.
    fn see(&self, lives: &mut watch::Receiver<Lives>) -> BTreeSet<Process> {
        // The lock is not held while everything else is done: links wait for it.
        let lives = lives.borrow_and_update().clone();
        let now_ms = self.sweeper.now_ms();
        self.present(|state| {
            for (node, life) in lives.all() {
                match life {
                    life if life.refused => state.watching.ended(node, now_ms, self),
                    life if life.links > 0 => state.watching.linked(node, life.incarnation, now_ms, self),
                    _ => state.watching.unlinked(node, now_ms),
                }
            }
        });
        lives.living().collect()
    }

    /// Time passes.
    fn tick(&self, lives: &watch::Receiver<Lives>) {
        let now_ms = self.sweeper.now_ms();
        let lives = lives.borrow().clone();
        self.present(|state| {
            state.watching.tick(now_ms, self);
            state.readers.expire(now_ms, |(node, incarnation)| lives.has_ended(node, incarnation));
        });
    }
}
