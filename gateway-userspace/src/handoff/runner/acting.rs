//! What the core wants done, begun.

use ringsteer_handoff::{
    Action, Event,
    event::{Failure, Note},
    name::MoveId,
};
use serde_bytes::ByteBuf;

use super::{
    super::{
        agent::Request,
        claims::{Orphan, Wanted},
        diary,
        piece::{Left, Load, Piece, PieceState, Silent},
        steps,
        word::Said,
    },
    Runner,
};
use crate::{
    control::{FlowMove, MoveStep, Promise},
    ring::MemberNumber,
};

impl Runner {
    /// Begins what the core wants done.
    pub(super) fn act(&mut self, action: Action<ByteBuf, ()>) {
        match action {
            Action::Suspend { id } => self.suspend(id),
            Action::Hold { id, to } => match self.flow_in(id) {
                Some(flow) => {
                    let to = MemberNumber::new(to.0).ok();
                    let promise = to.map(|to| Promise { to, by: self.me.incarnation.0 });
                    let _ = self.requests.send(Request { id, step: MoveStep::Hold, flow, promise });
                }
                None => self.events.push_back(Event::Failed { id, failure: Failure::Never }),
            },
            Action::Dump { id } => self.take_out(id),
            Action::Release { id } => match self.flow_in(id) {
                Some(flow) => self.ask(id, MoveStep::Release, flow),
                None => self.events.push_back(Event::Released { id }),
            },
            Action::Resume { id } => self.resume(id),
            Action::Repoint { id, to } => {
                let Some(Left { flow, first_ack, since }) = self.leaving.remove(&id) else { return };
                self.silence.note(since.elapsed());
                if let (Some(flow), Ok(to)) = (flow.in_move(id, Some(first_ack)), MemberNumber::new(to.0)) {
                    self.ask(id, MoveStep::Move { to }, flow);
                }
            }
            Action::Discard { id } => {
                self.newcomers.remove(&id.session);
                if let Some(Piece { state: PieceState::Silent(silent), .. }) = self.pieces.remove(&id.session) {
                    let Silent { flow, first_ack, since, .. } = *silent;
                    self.leaving.insert(id, Left { flow, first_ack, since });
                    let to = silent.to.and_then(|to| self.fleet.address(to));
                    if let Load::Session(_, place) = &silent.load
                        && let Some(table) = place.id()
                    {
                        self.names.remove(&table);
                    }
                    steps::give_up(*silent, to, id.generation, &self.remains);
                }
            }
            Action::Stranded { session } => {
                tracing::info!("session {session:?} belongs elsewhere and cannot be moved");
                if self.newcomers.contains_key(&session) {
                    self.turn_away(session);
                }
            }
            Action::Restore { id, user, dump, .. } => {
                match steps::make(&self.sessions, &self.remains, &dump, self.max_message) {
                    Some(copy) => {
                        let first_ack = Some(copy.first_ack);
                        let state = PieceState::Copy(Box::new(copy));
                        self.pieces.insert(id.session, Piece { user: user.0, first_ack, state });
                        self.events.push_back(Event::Restored { id });
                    }
                    None => self.events.push_back(Event::RestoreFailed { id }),
                }
            }
            Action::Activate { id } => self.activate(id),
            // A copy is dropped silently.
            Action::Drop { id } => drop(self.pieces.remove(&id.session)),
            Action::Claim { id, from } => match self.flow_in(id) {
                Some(flow) => self.claim(Orphan { id, from: from.node, flow }),
                None => self.events.push_back(Event::Claimed { id, granted: false }),
            },
            Action::Send { to, message } => {
                if let Said::Go { id } = message
                    && let Some(Piece { state: PieceState::Silent(silent), .. }) = self.pieces.get_mut(&id.session)
                {
                    silent.to = Some(to.node);
                }
                if let Said::Done { id, alive: true } = message
                    && let Some(beginning) = self.beginning.get_mut(&id)
                {
                    beginning.told = Some(to);
                    return;
                }
                diary::said(to, &message, |id| self.flow_in(id));
                self.fleet.say(to, message);
            }
            Action::Answer { .. } => {}
            Action::InForce { epoch } => {
                tracing::debug!("ring of epoch {} is in force among the gateways", epoch.0);
                self.force.in_force(epoch);
            }
            Action::Note(note) => self.note(&note),
        }
    }

    fn note(&self, note: &Note) {
        match note {
            Note::Refused(id, because) => tracing::debug!("move {id} was refused: {because:?}"),
            Note::Aborted(id) => tracing::debug!("move {id} was given up; its session stays"),
            Note::Lost(id) => tracing::warn!("move {id}: its session is lost with the gateway that had it last"),
            Note::Foreign(from) => tracing::warn!(
                "{from} at {:?} speaks of a move that it has no part in; refused",
                self.fleet.address(from.node)
            ),
        }
    }

    pub(super) fn ask(&self, id: MoveId, step: MoveStep, flow: FlowMove) {
        // The one who asks lives as long as we do.
        let _ = self.requests.send(Request { id, step, flow, promise: None });
    }

    pub(super) fn claim(&self, orphan: Orphan) {
        // The one who asks lives as long as we do.
        let _ = self.claims.send(Wanted::Orphan(orphan));
    }

    /// Of gateways that have ended, and of which it is decided what here was theirs, nothing more is claimed.
    pub(super) fn claim_no_more(&mut self) {
        let Self { ended, handoff, claims, .. } = self;
        ended.retain(|&gateway| {
            let some = handoff.has_copies_of(gateway);
            if !some {
                // The one who asks lives as long as we do.
                let _ = claims.send(Wanted::NoMore(gateway));
            }
            some
        });
    }

    /// The connection of a session in a move of it.
    pub(super) fn flow_in(&self, id: MoveId) -> Option<FlowMove> {
        let Piece { state, first_ack, .. } = self.pieces.get(&id.session)?;
        let flow = match state {
            PieceState::Stands(rest) => rest.flow,
            PieceState::Silent(silent) => silent.flow,
            PieceState::Copy(copy) => copy.flow,
            _ => return None,
        };
        flow.in_move(id, *first_ack)
    }
}
