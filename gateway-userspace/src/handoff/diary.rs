//! What the log says of the moves: that they begin, how far they have come, and that they are done; and, for those who
//! look closely, what each of them has come to.

use std::time::Duration;

use ringsteer_handoff::{
    Progress,
    name::{Gateway, MoveId},
};
use tokio::time::Instant;

use super::word::Said;
use crate::control::FlowMove;

/// From one line about moves that go on to the next.
const INTERVAL: Duration = Duration::from_secs(5);

/// Writes it down.
#[derive(Debug, Default)]
pub(super) struct Diary {
    /// How it was when the moves that go on began, and when to say more.
    open: Option<(Progress, Instant)>,
}

/// Something is said that brings a move on; `flow` knows connections. A word said again may be of one that has gone.
pub(super) fn said(to: Gateway, message: &Said, flow: impl Fn(MoveId) -> Option<FlowMove>) {
    let (id, what) = match message {
        Said::Offer(offer) => (offer.id, "is offered to"),
        Said::Ready { id } => (*id, "is ready to be taken over from"),
        Said::Go { id } => (*id, "is given to"),
        _ => return,
    };
    if let Some(FlowMove { client, .. }) = flow(id) {
        tracing::debug!("{client}: {what} {to} by move {id}");
    }
}

// === impl Diary ===

impl Diary {
    /// This is how it is now.
    pub(super) fn note(&mut self, now: Progress, at: Instant) {
        let leaving = now.waiting + now.moving + now.committed;
        match self.open {
            None if leaving > 0 => {
                tracing::info!("{leaving} sessions belong to other nodes; they go there");
                self.open = Some((now, at + INTERVAL));
            }
            Some((began, _)) if leaving == 0 => {
                let (moved, stranded) = (now.moved - began.moved, now.stranded);
                let failed = now.failed - began.failed;
                tracing::info!(
                    "{moved} sessions have gone; {failed} moves failed, {stranded} sessions cannot be moved"
                );
                self.open = None;
            }
            Some((began, next)) if at >= next => {
                let (moved, paused) = (now.moved - began.moved, if now.paused { "; paused" } else { "" });
                tracing::info!("{moved} sessions have gone, {leaving} are still to go{paused}");
                self.open = Some((began, at + INTERVAL));
            }
            _ => {}
        }
    }
}
