//! One session's way from step to step: it stops, is taken out, goes on, here or as the copy of another's; and what the
//! steps and the agent's answers came to.

use ringsteer_handoff::{Event, event::Failure, name::MoveId};
use tokio::task::spawn;

use super::{
    super::{
        agent::{Answered, Request},
        piece::{Copied, Ends, Load, Piece, PieceState, Rest},
        steps::{self, NotTaken},
        word::Said,
    },
    Beginning, Done, Runner, newcomers,
};
use crate::{
    control::{MoveOutcome, MoveStep},
    gateway::{misplaced::Misplaced, moving::Moving},
};

impl Runner {
    pub(super) fn suspend(&mut self, id: MoveId) {
        let Some(Piece { user, first_ack, state }) = self.pieces.remove(&id.session) else {
            return self.events.push_back(Event::Failed { id, failure: Failure::Over });
        };
        let state = match state {
            PieceState::Runs(table) => {
                let (sessions, user, done) = (self.sessions.clone(), user.clone(), self.done.clone());
                let stopping = spawn(async move {
                    let moving = sessions.take(&user, table).await.map(Box::new);
                    // If this is not heard the session goes on, as its place in the message is dropped. See `stopped`.
                    let _ = done.send(Done::Stopped(id, moving));
                });
                PieceState::Stops { table, stopping: stopping.abort_handle() }
            }
            PieceState::Begins { .. } => PieceState::Begins { then: Some(id) },
            PieceState::Waits(newcomer) => match Ends::of(&newcomer.stream) {
                Ok(flow) => {
                    // It stands still anyway.
                    self.events.push_back(Event::Suspended { id });
                    let Misplaced { stream, asked } = *newcomer;
                    let since = std::time::Instant::now();
                    PieceState::Stands(Box::new(Rest { stream, load: Load::Newcomer(asked), flow, since }))
                }
                Err(_) => {
                    self.events.push_back(Event::Failed { id, failure: Failure::Never });
                    PieceState::Waits(newcomer)
                }
            },
            other => {
                self.events.push_back(Event::Failed { id, failure: Failure::Again });
                other
            }
        };
        self.pieces.insert(id.session, Piece { user, first_ack, state });
    }

    /// Takes a session out of the kernel, here and now: that takes tens of microseconds, and more only of one with much in
    /// its queues, while to have it done elsewhere the session would be silent for longer.
    pub(super) fn take_out(&mut self, id: MoveId) {
        let Some(Piece { user, mut first_ack, state }) = self.pieces.remove(&id.session) else { return };
        let PieceState::Stands(rest) = state else {
            self.pieces.insert(id.session, Piece { user, first_ack, state });
            return self.events.push_back(Event::Failed { id, failure: Failure::Again });
        };
        let flow = rest.flow;
        let state = match steps::take(*rest, first_ack) {
            Ok((silent, dump)) => {
                first_ack = Some(silent.first_ack);
                self.events.push_back(Event::Dumped { id, dump: dump.into() });
                PieceState::Silent(Box::new(silent))
            }
            Err(NotTaken { rest: Some(rest), failure }) => {
                self.events.push_back(Event::Failed { id, failure });
                PieceState::Stands(rest)
            }
            Err(NotTaken { rest: None, .. }) => {
                // Its name goes with it, and without that nobody could end its hold later.
                if let Some(flow) = flow.in_move(id, first_ack) {
                    self.ask(id, MoveStep::Release, flow);
                }
                self.forget(id.session);
                return self.events.push_back(Event::Failed { id, failure: Failure::Over });
            }
        };
        self.pieces.insert(id.session, Piece { user, first_ack, state });
    }

    /// It is here as it was before it was to move, or lost. There may be events then.
    pub(super) fn resume(&mut self, id: MoveId) {
        let Some(Piece { user, first_ack, state }) = self.pieces.remove(&id.session) else { return };
        let after = match state {
            PieceState::Stops { table, stopping } => {
                stopping.abort();
                Some(PieceState::Runs(table))
            }
            PieceState::Stands(rest) => steps::go_on(rest.stream, rest.load),
            PieceState::Silent(silent) => steps::revive(*silent),
            PieceState::Begins { .. } => Some(PieceState::Begins { then: None }),
            other => Some(other),
        };
        match after {
            Some(state) => {
                self.pieces.insert(id.session, Piece { user, first_ack, state });
                self.doubtful.push(id.session);
                self.judge_newcomer(id.session);
            }
            None => {
                self.forget(id.session);
                self.events.push_back(Event::Ended { session: id.session });
            }
        }
    }

    pub(super) fn activate(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::Begins { then: None });
        let PieceState::Copy(copy) = before else {
            tracing::error!("move {id}: no copy to go on with");
            self.pieces.remove(&id.session);
            return self.events.push_back(Event::Ended { session: id.session });
        };
        match copy.flow.in_move(id, Some(copy.first_ack)) {
            Some(flow) => {
                self.beginning.insert(id, Beginning { copy, told: None });
                self.ask(id, MoveStep::Take, flow);
            }
            None => self.begin(id, *copy),
        }
    }

    /// The copy runs from here on.
    fn begin(&mut self, id: MoveId, copy: Copied) {
        let client = copy.flow.client;
        let begun = steps::begin(copy);
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let PieceState::Begins { then } = piece.state else { return };
        match begun {
            Some(state) => {
                tracing::debug!("{client}: session is here now, by move {id}");
                match state {
                    PieceState::Runs(table) => {
                        self.names.insert(table, id.session);
                        self.doubtful.push(id.session);
                    }
                    _ => {
                        self.sessions.newcomer_taken();
                        self.newcomers.insert(id.session, newcomers::deadline());
                    }
                }
                piece.state = state;
                // A newcomer is answered now, unless it belongs elsewhere already.
                self.judge_newcomer(id.session);
                if let Some(next) = then {
                    self.suspend(next);
                }
            }
            None => {
                self.forget(id.session);
                self.events.push_back(Event::Ended { session: id.session });
            }
        }
    }

    /// A step has come to something.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Stopped(id, moving) => self.stopped(id, moving),
            Done::LetIn(session, answer) => self.is_let_in(session, answer),
        }
    }

    fn stopped(&mut self, id: MoveId, moving: Option<Box<Moving>>) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return go_on(moving) };
        let PieceState::Stops { table, .. } = piece.state else { return go_on(moving) };
        let Some(moving) = moving else {
            self.forget(id.session);
            return self.happen(Event::Failed { id, failure: Failure::Over });
        };
        match steps::at_rest(*moving) {
            Ok(rest) => {
                tracing::debug!("{}: stands still for move {id}", rest.flow.client);
                piece.state = PieceState::Stands(Box::new(rest));
                self.happen(Event::Suspended { id });
            }
            Err(_) => {
                piece.state = PieceState::Runs(table);
                self.doubtful.push(id.session);
                self.happen(Event::Failed { id, failure: Failure::Again });
            }
        }
    }

    /// The agent has answered.
    pub(super) fn answered(&mut self, answered: Answered) {
        let Answered { request: Request { id, step, flow, .. }, outcome } = answered;
        match step {
            MoveStep::Hold => {
                let event = match outcome {
                    Some(MoveOutcome::Done) => Event::Held { id },
                    Some(MoveOutcome::Held { first_ack }) => {
                        if let Some(piece) = self.pieces.get_mut(&id.session) {
                            piece.first_ack = piece.first_ack.filter(|&known| known != 0).or(Some(first_ack));
                        }
                        Event::Held { id }
                    }
                    Some(MoveOutcome::NoService) => Event::Failed { id, failure: Failure::Never },
                    _ => {
                        tracing::debug!("{}: cannot be held: {outcome:?}", flow.client);
                        Event::Failed { id, failure: Failure::Again }
                    }
                };
                if event == (Event::Held { id }) {
                    tracing::debug!("{}: is held for move {id}", flow.client);
                }
                self.happen(event);
            }
            MoveStep::Release => self.happen(Event::Released { id }),
            // Not asked from here.
            MoveStep::Accept { .. } => {}
            MoveStep::Move { .. } => {
                if outcome == Some(MoveOutcome::Done) {
                    tracing::debug!("{}: what comes for it is sent on, by move {id}", flow.client);
                } else {
                    tracing::warn!("{}: what comes for it is not sent on: {outcome:?}", flow.client);
                }
            }
            MoveStep::Take => {
                if outcome != Some(MoveOutcome::Done) {
                    tracing::warn!("{}: the agent does not take it: {outcome:?}", flow.client);
                }
                if let Some(Beginning { copy, told }) = self.beginning.remove(&id) {
                    self.begin(id, *copy);
                    if let Some(to) = told {
                        let alive = self.pieces.contains_key(&id.session);
                        self.fleet.say(to, Said::Done { id, alive });
                    }
                    // What beginning has brought about.
                    self.happen(Event::Tick);
                }
            }
        }
    }
}

/// A session that was stopped and is not wanted any more.
fn go_on(moving: Option<Box<Moving>>) {
    if let Some(moving) = moving {
        let Moving { stream, suspended, place } = *moving;
        place.resume(stream, suspended);
    }
}
