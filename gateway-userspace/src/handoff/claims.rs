//! Moves whose old owner has ended before it was done with them: its agent is asked what has become of them.
//!
//! Of a copy that is not decided, it decides. Of a session that was activated here, it has what still arrives there sent
//! on, as the old owner would have had, and tells the edges. When all is claimed that there is, it is told so: whatever
//! else the old owner held for us is nobody's.

use std::{
    collections::{HashMap, VecDeque},
    iter,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ringsteer_handoff::name::{Gateway, MoveId, NodeId};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    control::{Claim, FlowMove, HOLD_LIFE_MS, MOVES_MAX, MoveOutcome, claim},
    ring::MemberNumber,
};

/// For how long an agent that cannot be reached is asked: then it has ended the hold.
const LIMIT: Duration = Duration::from_millis(HOLD_LIFE_MS);

/// How long to wait before it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Moves to here that are remembered. Of older ones the old owner has long been done with all.
const TAKEN_MAX: usize = 1 << 16;

/// A move whose old owner has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orphan {
    pub(super) id: MoveId,
    /// The old owner's node.
    pub(super) from: NodeId,
    pub(super) flow: FlowMove,
}

/// What is to be told to an agent whose gateway has ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// That this is ours.
    Orphan(Orphan),
    /// That this was all from that life.
    NoMore(Gateway),
}

/// What its agent says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) id: MoveId,
    pub(super) granted: bool,
}

/// The latest moves to here.
#[derive(Debug, Default)]
pub(super) struct Taken(VecDeque<(Instant, Gateway, MoveId, FlowMove)>);

// === impl Taken ===

impl Taken {
    /// A session has become ours.
    pub(super) fn note(&mut self, from: Gateway, id: MoveId, flow: FlowMove, now: Instant) {
        while self.0.len() >= TAKEN_MAX || self.0.front().is_some_and(|(then, ..)| now >= *then + LIMIT) {
            self.0.pop_front();
        }
        self.0.push_back((now, from, id, flow));
    }

    /// Those that a gateway which has ended may not have been done with.
    pub(super) fn from(&mut self, ended: Gateway, now: Instant) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        self.0.retain(|&(then, from, id, flow)| {
            let orphaned = from == ended;
            if orphaned && now < then + LIMIT {
                orphans.push(Orphan { id, from: from.node, flow });
            }
            !orphaned
        });
        orphans
    }
}

/// Asks for all that come, until none come any more.
pub(super) async fn ask(
    socket: PathBuf,
    mut wanted: mpsc::UnboundedReceiver<Wanted>,
    judged: mpsc::UnboundedSender<Judged>,
) {
    let socket: Arc<Path> = socket.into();
    // What is being asked of each node's agent.
    let mut asking: HashMap<NodeId, JoinSet<()>> = HashMap::new();
    while let Some(first) = wanted.recv().await {
        // A gateway's end brings many at once.
        let mut by_node: HashMap<NodeId, Vec<Orphan>> = HashMap::new();
        let mut no_more = Vec::new();
        for one in iter::once(first).chain(iter::from_fn(|| wanted.try_recv().ok())) {
            match one {
                Wanted::Orphan(orphan) => by_node.entry(orphan.from).or_default().push(orphan),
                Wanted::NoMore(ended) => no_more.push(ended),
            }
        }
        for (from, all) in by_node {
            // None waits for another node's agent.
            asking.entry(from).or_default().spawn(ask_for(Arc::clone(&socket), from, all, judged.clone()));
        }
        for ended in no_more {
            let asked = asking.remove(&ended.node).unwrap_or_default();
            spawn(tell_no_more(Arc::clone(&socket), ended, asked));
        }
        asking.retain(|_, asked| {
            while asked.try_join_next().is_some() {}
            !asked.is_empty()
        });
    }
}

/// Tells the agent of a gateway that has ended that nothing more is claimed, once all has been that was.
async fn tell_no_more(socket: Arc<Path>, ended: Gateway, mut asked: JoinSet<()>) {
    while asked.join_next().await.is_some() {}
    let Ok(from) = MemberNumber::new(ended.node.0) else { return };
    let last = Claim { from, flows: vec![], last_of: Some(ended.incarnation.0) };
    // If it cannot be told, the holds end by their time.
    let _ = ask_until(&socket, last, Instant::now() + LIMIT).await;
}

async fn ask_for(socket: Arc<Path>, from: NodeId, orphans: Vec<Orphan>, judged: mpsc::UnboundedSender<Judged>) {
    let until = Instant::now() + LIMIT;
    for batch in orphans.chunks(MOVES_MAX) {
        let outcomes = match MemberNumber::new(from.0) {
            Ok(from) => {
                let flows = batch.iter().map(|orphan| orphan.flow).collect();
                ask_until(&socket, Claim { from, flows, last_of: None }, until).await
            }
            Err(_) => None,
        };
        for (index, orphan) in batch.iter().enumerate() {
            let outcome = outcomes.as_ref().and_then(|outcomes| outcomes.get(index));
            tracing::debug!("{}: claimed from node {}: {outcome:?}", orphan.flow.client, from.0);
            let granted = outcome == Some(&MoveOutcome::Done);
            if judged.send(Judged { id: orphan.id, granted }).is_err() {
                return;
            }
        }
    }
}

/// The answer of the agent there; none if there is none in time.
async fn ask_until(socket: &Path, wanted: Claim, until: Instant) -> Option<Vec<MoveOutcome>> {
    loop {
        match timeout_at(until, claim(socket, wanted.clone())).await {
            Ok(Ok(outcomes)) => return Some(outcomes),
            Ok(Err(error)) => tracing::debug!("claiming connections of node {}: {error}", wanted.from),
            Err(_) => return None,
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use ringsteer_handoff::name::{Incarnation, SessionId};

    use super::*;

    fn move_of(number: u64) -> (MoveId, FlowMove) {
        let session = SessionId { born: Incarnation(1), number };
        let (client, service) = ("203.0.113.7:50000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        (MoveId { session, generation: 1 }, FlowMove { client, service, count: 1, first_ack: 0 })
    }

    #[test]
    fn who_ends_may_not_have_been_done_with_its_latest_moves() {
        let [one, next_life] = [1, 2].map(|life| Gateway { node: NodeId(3), incarnation: Incarnation(life) });
        let other = Gateway { node: NodeId(4), incarnation: Incarnation(1) };
        let now = Instant::now();
        let mut taken = Taken::default();
        for (number, from) in [(1, one), (2, other), (3, next_life)] {
            let (id, flow) = move_of(number);
            taken.note(from, id, flow, now);
        }
        let (later, flow) = move_of(4);
        taken.note(one, later, flow, now + LIMIT / 2);
        let orphans = taken.from(one, now + LIMIT);
        assert_eq!(orphans.iter().map(|orphan| orphan.id).collect::<Vec<_>>(), [later], "the first is long over");
        assert!(taken.from(one, now).is_empty(), "each is asked for once");
        assert_eq!(taken.from(other, now).len(), 1);
        // And none is kept for ever.
        let (id, flow) = move_of(5);
        taken.note(one, id, flow, now + LIMIT);
        assert!(taken.from(next_life, now).is_empty());
    }
}
