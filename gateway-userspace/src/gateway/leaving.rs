//! The end of a gateway: its sessions go to other nodes, and those that stay are told to come again.
//!
//! ```text
//! told to stop ──► the agent hears it: the node drains ──► a ring without us ──► sessions move, as after any ring change
//!     ──► nobody is let in any more; who is still here is told 1012, a few at a time ──► end
//! ```
//!
//! Where nobody else owns users, or members are listed in a file, nothing is waited for that will not come.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Shared, moving::Sessions};
use crate::{
    control::Published,
    handoff::{Moves, REMAINS_LIFE},
    ring::MemberState,
    session::table::{Farewell, SessionId},
    websocket::close::{Close, CloseCode},
};

/// How long the ring may take to be without us.
const RING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long moves that are not decided may take to be undone.
const UNDO_TIMEOUT: Duration = Duration::from_secs(3);

/// For how long goodbyes are said, at most: clients that are told at once come again at once.
pub(super) const GOODBYES: Duration = Duration::from_secs(5);

/// From one batch of goodbyes to the next.
const STEP: Duration = Duration::from_millis(50);

/// Goodbyes of one batch, if all are said in time with so few.
const BATCH: usize = 50;

/// What every session hears when the gateway stops.
pub(super) fn goodbye() -> Farewell {
    Farewell::Close(Close::new(CloseCode::RESTART, "the gateway stops; come again"))
}

/// Gives the sessions away, for as long as the limits let us, and says goodbye to those that stay.
pub(super) async fn leave(shared: &Arc<Shared>, moves: Moves) {
    let (began, limit) = (Instant::now(), shared.limits.leave_timeout);
    let before = moves.progress().moved;
    tracing::info!("told to stop with {} sessions", shared.sessions().sessions());
    shared.leaving.cancel();
    let mut published = shared.published.clone();
    let given_away = published.wait_for(|now| now.as_deref().is_none_or(|now| nothing_comes_of_waiting(now, shared)));
    if timeout(RING_TIMEOUT.min(limit), given_away).await.is_err() {
        tracing::warn!("no ring has come that is without this node; its own sessions cannot go anywhere");
    }
    let sessions = Sessions(Arc::clone(shared));
    moves.finish(limit.saturating_sub(began.elapsed()), || foreign(&sessions)).await;
    moves.stop(UNDO_TIMEOUT).await;
    let (progress, last) = (moves.progress(), Instant::now());
    shared.stopping.cancel();
    let stay = all(&sessions);
    tracing::info!(
        "stopping; {} sessions have gone to other nodes, {} stay and are closed, of which {} could not be moved",
        progress.moved - before,
        stay.len(),
        progress.stranded
    );
    let batch = stay.len().div_ceil((GOODBYES.as_millis() / STEP.as_millis()) as usize).max(BATCH);
    for (index, batch) in stay.chunks(batch).enumerate() {
        if index > 0 {
            sleep(STEP).await;
        }
        let mut table = shared.sessions();
        for (user, id) in batch {
            // Those in motion hear it when they come to rest; others may have ended.
            table.end(user, *id, goodbye());
        }
    }
    if progress.moved > before {
        // Packets of the last that went may still be on their way through this host.
        sleep_until(last + REMAINS_LIFE).await;
    }
}

/// Whether the ring is without us, or none that is will come.
fn nothing_comes_of_waiting(now: &Published, shared: &Shared) -> bool {
    let active = || now.ring.members().iter().filter(|member| member.state == MemberState::Active);
    let ours = active().any(|member| now.node == Some(member.number));
    let others = active().any(|member| now.node != Some(member.number));
    !ours || !others || !shared.is_announced
}

/// How many sessions here are of other nodes' users.
fn foreign(sessions: &Sessions) -> usize {
    let Some(now) = sessions.0.published() else { return 0 };
    sessions.users_where(|user| !now.is_ours(user)).iter().map(|(_, sessions)| sessions.len()).sum()
}

/// All sessions.
fn all(sessions: &Sessions) -> Vec<(Box<[u8]>, SessionId)> {
    let users = sessions.users_where(|_| true);
    users.into_iter().flat_map(|(user, ids)| ids.into_iter().map(move |id| (user.clone(), id))).collect()
}
