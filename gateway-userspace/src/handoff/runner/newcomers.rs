//! Clients that came to the wrong node and have had no answer yet.

use std::time::Duration;

use ringsteer_handoff::{
    Event,
    name::{NodeId, SessionId, User},
};
use tokio::{task::spawn, time::Instant};

use super::{
    super::piece::{Piece, PieceState},
    Done, Runner,
};
use crate::gateway::misplaced::{LetIn, Misplaced};

/// How long one may wait for its move. Its client waits for an answer, and would sooner or later dial again.
const LIMIT: Duration = Duration::from_secs(5);

/// So many at once; more are turned away.
const MOST: usize = 1024;

/// Until when one may wait who begins to now.
pub(super) fn deadline() -> Instant {
    Instant::now() + LIMIT
}

impl Runner {
    /// A client has come that is another node's.
    pub(super) fn newcomer(&mut self, newcomer: Misplaced) {
        self.last_number += 1;
        let session = SessionId { born: self.me.incarnation, number: self.last_number };
        let user = User(newcomer.asked.user().into());
        if self.newcomers.len() >= MOST {
            return newcomer.put_off();
        }
        self.await_move(session, newcomer);
        self.happen(Event::Arrived { session, user, opened: false, platform: 0 });
        if self.judge_newcomer(session) {
            self.happen(Event::Tick);
        }
    }

    /// A newcomer waits from now on.
    fn await_move(&mut self, session: SessionId, newcomer: Misplaced) {
        let user = newcomer.asked.user().into();
        // It may have come from another node.
        let first_ack = self.pieces.get(&session).and_then(|piece| piece.first_ack);
        self.newcomers.insert(session, deadline());
        self.pieces.insert(session, Piece { user, first_ack, state: PieceState::Waits(Box::new(newcomer)) });
    }

    /// Looks after all newcomers that wait.
    pub(super) fn judge_newcomers(&mut self) {
        let mut any = false;
        for session in self.newcomers.keys().copied().collect::<Vec<_>>() {
            any |= self.judge_newcomer(session);
        }
        if any {
            self.happen(Event::Tick);
        }
    }

    /// Lets a newcomer that waits in if it has become ours, and turns it away if nothing comes of waiting. True if there
    /// are events then.
    pub(super) fn judge_newcomer(&mut self, session: SessionId) -> bool {
        let Some(Piece { user, state: PieceState::Waits(_), .. }) = self.pieces.get(&session) else { return false };
        if self.published.is_ours(user) {
            self.let_in(session);
            return false;
        }
        let owner = NodeId(self.published.owner(user).number.get());
        let late = self.newcomers.get(&session).is_none_or(|&until| Instant::now() >= until);
        let over = self.stopped || late || self.fleet.has_ended(owner);
        if over {
            self.turn_away(session);
        }
        over
    }

    /// A newcomer that waits is not waited for any more, unless it is let in as soon as we have heard of the present ring.
    pub(super) fn turn_away(&mut self, session: SessionId) {
        if let Some(Piece { user, first_ack, state: PieceState::Waits(newcomer) }) = self.pieces.remove(&session)
            && let Some(newcomer) = newcomer.turn_away()
        {
            self.pieces.insert(session, Piece { user, first_ack, state: PieceState::Waits(Box::new(newcomer)) });
            return;
        }
        self.forget(session);
        self.events.push_back(Event::Ended { session });
    }

    /// The gateway answers a newcomer that waits.
    fn let_in(&mut self, session: SessionId) {
        let Some(piece) = self.pieces.get_mut(&session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::Begins { then: None });
        let PieceState::Waits(newcomer) = before else {
            piece.state = before;
            return;
        };
        self.newcomers.remove(&session);
        let (answer, done) = (newcomer.let_in(), self.done.clone());
        spawn(async move {
            // Nobody is there when the gateway stops.
            let _ = done.send(Done::LetIn(session, answer.await.ok()));
        });
    }

    /// The gateway has answered a newcomer.
    pub(super) fn is_let_in(&mut self, session: SessionId, answer: Option<LetIn>) {
        let Some(piece) = self.pieces.get_mut(&session) else { return };
        let PieceState::Begins { then } = piece.state else { return };
        match answer {
            Some(LetIn::Here(table)) => {
                piece.state = PieceState::Runs(table);
                self.names.insert(table, session);
                self.doubtful.push(session);
                self.happen(Event::Opened { session });
            }
            Some(LetIn::Misplaced(newcomer)) => {
                self.await_move(session, *newcomer);
                self.judge_newcomer(session);
            }
            None => {
                self.forget(session);
                return self.happen(Event::Ended { session });
            }
        }
        if let Some(next) = then {
            self.suspend(next);
        }
        // What that has brought about.
        self.happen(Event::Tick);
    }
}
