//! The old owner's part: from the wish to the word.

use std::time::Duration;

use super::{Committed, Mover, Out, send};
use crate::{
    event::{Action, Failure, Note},
    fleet::Fleet,
    limits::Limits,
    message::{Message, Offer, RefusedBecause},
    name::{Gateway, MoveId, NodeId, SessionId},
};

/// Where a session of ours stands on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// Active, and where it belongs.
    Resting,
    /// Active, to be moved; not before that time, if there is one.
    Waiting(Option<Duration>),
    /// Active, belongs elsewhere, and cannot be moved.
    Stranded,
    /// It is being stopped.
    Suspending { to: NodeId },
    /// Its flow is being held.
    Holding { to: NodeId },
    /// It is being taken apart.
    Dumping { to: NodeId },
    /// The other side has heard of it. From here to the release a claim can be granted, if we should end.
    Offered { to: Gateway, until: Duration },
    /// It stays: as soon as the hold is gone it goes on.
    Releasing,
}

// === impl Stage ===

impl Stage {
    /// Whether the session reads and writes.
    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::Resting | Self::Waiting(_) | Self::Stranded)
    }

    /// Where it is going, while that can still be changed.
    pub(super) fn target(self) -> Option<NodeId> {
        match self {
            Self::Suspending { to } | Self::Holding { to } | Self::Dumping { to } => Some(to),
            Self::Offered { to, .. } => Some(to.node),
            _ => None,
        }
    }

    pub(super) fn deadline(self) -> Option<Duration> {
        match self {
            Self::Offered { until, .. } => Some(until),
            _ => None,
        }
    }
}

// === impl Committed ===

impl Committed {
    /// Has what arrives here sent on. Not before the new owner is active, if it says so soon: its socket is deaf until
    /// then, and what is lost on it comes again only after the client's timeout.
    fn repoint<D, P>(&mut self, id: MoveId, out: &mut Out<D, P>) {
        if !std::mem::replace(&mut self.repointed, true) {
            out.push_back(Action::Repoint { id, to: self.to.node });
        }
    }
}

// === impl Mover ===

impl Mover {
    /// Begins as many moves as there is room for.
    pub(crate) fn pump<D, P>(&mut self, fleet: &Fleet, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        for session in self.pace.due(now) {
            let here = self.sessions.get_mut(&session).expect("who waits is here");
            here.stage = Stage::Waiting(None);
            self.pace.note(session, here);
        }
        self.pace.look();
        for to in self.pace.targets() {
            if fleet.taking(to).is_none() {
                continue;
            }
            let towards =
                self.moving.iter().filter(|session| self.sessions[session].stage.target() == Some(to)).count();
            for _ in 0..self.windows.room(to, towards, limits) {
                let Some(session) = self.pace.first(to) else { break };
                if !self.pace.permits(now, self.moving.len(), limits) {
                    return;
                }
                self.pace.begun(now, limits);
                self.windows.begun(session, to, now, limits);
                self.begin(session, to, out);
            }
        }
    }

    fn begin<D, P>(&mut self, session: SessionId, to: NodeId, out: &mut Out<D, P>) {
        let here = self.sessions.get_mut(&session).expect("who waits is here");
        self.pace.forget(session, here);
        here.generation += 1;
        here.stage = Stage::Suspending { to };
        let id = MoveId { session, generation: here.generation };
        self.moving.insert(session);
        out.push_back(Action::Suspend { id });
    }

    /// It stands still.
    pub(crate) fn suspended<D, P>(&mut self, id: MoveId, out: &mut Out<D, P>) {
        if let Some(Stage::Suspending { to }) = self.stage_of(id) {
            self.sessions.get_mut(&id.session).expect("it has a stage").stage = Stage::Holding { to };
            out.push_back(Action::Hold { id, to });
        }
    }

    /// The kernel keeps silent.
    pub(crate) fn held<D, P>(&mut self, id: MoveId, out: &mut Out<D, P>) {
        if let Some(Stage::Holding { to }) = self.stage_of(id) {
            self.sessions.get_mut(&id.session).expect("it has a stage").stage = Stage::Dumping { to };
            out.push_back(Action::Dump { id });
        }
    }

    /// It is in parts: time to offer it.
    pub(crate) fn dumped<D, P>(
        &mut self,
        id: MoveId,
        dump: D,
        fleet: &Fleet,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        let Some(Stage::Dumping { to }) = self.stage_of(id) else { return };
        let Some(to) = fleet.taking(to) else { return self.fail(id.session, now, limits, out) };
        let here = self.sessions.get_mut(&id.session).expect("it has a stage");
        here.stage = Stage::Offered { to, until: now + limits.offer_limit };
        let offer = Offer {
            id,
            epoch: fleet.epoch(),
            user: here.user.clone(),
            opened: here.opened,
            platform: here.platform,
            seen: here.seen.iter().copied().collect(),
            dump,
        };
        send(to, Message::Offer(Box::new(offer)), out);
    }

    /// A step did not work.
    pub(crate) fn failed<D, P>(
        &mut self,
        id: MoveId,
        failure: Failure,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        let Some(stage) = self.stage_of(id) else { return };
        match (stage, failure) {
            (Stage::Suspending { .. } | Stage::Holding { .. } | Stage::Dumping { .. }, Failure::Over) => {
                self.ended(id.session, now, limits, out);
            }
            (Stage::Suspending { .. } | Stage::Holding { .. } | Stage::Dumping { .. }, Failure::Never) => {
                self.sessions.get_mut(&id.session).expect("it has a stage").attempts = limits.attempts;
                self.fail(id.session, now, limits, out);
            }
            (Stage::Suspending { .. } | Stage::Holding { .. } | Stage::Dumping { .. }, Failure::Again) => {
                self.fail(id.session, now, limits, out);
            }
            _ => {}
        }
    }

    /// The hold of an aborted move is gone: no claim can be granted any more.
    pub(crate) fn released<D, P>(&mut self, id: MoveId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        if self.stage_of(id) == Some(Stage::Releasing) {
            self.resume(id, now, limits, out);
        }
    }

    /// The other side has a whole copy. This is the commit.
    pub(crate) fn ready<D, P>(
        &mut self,
        from: Gateway,
        id: MoveId,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if let Some(Stage::Offered { to, .. }) = self.stage_of(id)
            && to == from
        {
            send(to, Message::Go { id }, out);
            out.push_back(Action::Discard { id });
            let session = self.remove(id.session).expect("it has a stage");
            self.remember(id.session, session, Some(to.node), now, limits);
            self.committed.insert(id.session, Committed { to, again: now + limits.retry, repointed: false });
            self.counts.moved += 1;
        } else if self.committed_to(id) == Some(from) {
            send(from, Message::Go { id }, out);
        } else {
            // Aborted, or decided long ago; then it takes no notice.
            self.not_from(from, id, out);
            send(from, Message::Abort { id }, out);
        }
    }

    /// The other side will not have it.
    pub(crate) fn refused<D, P>(
        &mut self,
        from: Gateway,
        id: MoveId,
        because: RefusedBecause,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if let Some(Stage::Offered { to, .. }) = self.stage_of(id)
            && to == from
        {
            out.push_back(Action::Note(Note::Refused(id, because)));
            if because != RefusedBecause::CannotRestore {
                // Nothing is wrong with the session.
                let here = self.sessions.get_mut(&id.session).expect("it has a stage");
                here.attempts = here.attempts.saturating_sub(1);
            }
            self.fail(id.session, now, limits, out);
        } else {
            self.not_from(from, id, out);
        }
    }

    /// The other side has heard the word.
    pub(crate) fn done<D, P>(
        &mut self,
        from: Gateway,
        id: MoveId,
        alive: bool,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if self.committed_to(id) == Some(from) {
            self.windows.done(id.session, now, limits);
            self.settle(id.session, out);
            self.gone.get_mut(&id.session).expect("who was committed is gone").until = now + limits.memory;
            if !alive {
                self.counts.lost += 1;
                out.push_back(Action::Note(Note::Lost(id)));
            }
        } else {
            self.not_from(from, id, out);
        }
    }

    /// No move begins, or they may again.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.pace.pause(paused);
    }

    /// What is not committed stays.
    pub(crate) fn stop<D, P>(&mut self, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        self.pace.pause(true);
        for session in self.moving.iter().copied().collect::<Vec<_>>() {
            self.abort(session, now, limits, out);
        }
    }

    pub(super) fn tick_giving<D, P>(&mut self, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let late: Vec<_> = self
            .moving
            .iter()
            .copied()
            .filter(|session| self.sessions[session].stage.deadline().is_some_and(|until| until <= now))
            .collect();
        for session in late {
            self.fail(session, now, limits, out);
        }
        let Self { committed, gone, .. } = self;
        for (&session, one) in committed.iter_mut().filter(|(_, one)| one.again <= now) {
            one.again = now + limits.retry;
            let id = MoveId { session, generation: gone[&session].generation };
            send(one.to, Message::Go { id }, out);
            one.repoint(id, out);
        }
    }

    /// Something went wrong with a move: the session stays, and is tried again so many times.
    pub(super) fn fail<D, P>(&mut self, session: SessionId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        if let Some(here) = self.sessions.get_mut(&session) {
            here.attempts += 1;
            self.counts.failed += 1;
        }
        self.abort(session, now, limits, out);
    }

    /// Ends a move before its commit.
    pub(super) fn abort<D, P>(&mut self, session: SessionId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let Some(here) = self.sessions.get_mut(&session) else { return };
        let id = MoveId { session, generation: here.generation };
        match here.stage {
            Stage::Suspending { .. } => self.resume(id, now, limits, out),
            Stage::Holding { .. } | Stage::Dumping { .. } => {
                // Nobody has a copy: even if we ended at once there would be nobody to claim it.
                out.push_back(Action::Release { id });
                self.resume(id, now, limits, out);
            }
            Stage::Offered { to, .. } => {
                here.stage = Stage::Releasing;
                out.push_back(Action::Note(Note::Aborted(id)));
                out.push_back(Action::Release { id });
                send(to, Message::Abort { id }, out);
            }
            Stage::Resting | Stage::Waiting(_) | Stage::Stranded | Stage::Releasing => {}
        }
    }

    fn resume<D, P>(&mut self, id: MoveId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        out.push_back(Action::Resume { id });
        self.windows.over(id.session);
        self.moving.remove(&id.session);
        let here = self.sessions.get_mut(&id.session).expect("who resumes is here");
        here.stage = match here.owner {
            None => Stage::Resting,
            Some(_) if here.attempts >= limits.attempts => {
                out.push_back(Action::Stranded { session: id.session });
                Stage::Stranded
            }
            Some(_) => Stage::Waiting(Some(now + limits.pause_after_failure)),
        };
        self.pace.note(id.session, here);
        self.decided.insert(here.user.clone());
    }

    /// Somebody answers an offer that we have not made to them, or not any more.
    fn not_from<D, P>(&mut self, from: Gateway, id: MoveId, out: &mut Out<D, P>) {
        let offered = match self.stage_of(id) {
            Some(Stage::Offered { to, .. }) => Some(to),
            Some(Stage::Suspending { .. } | Stage::Holding { .. } | Stage::Dumping { .. }) => {
                return self.foreign_message(from, out);
            }
            _ => self.committed_to(id),
        };
        if offered.is_some_and(|to| to != from) {
            self.foreign_message(from, out);
        } else {
            self.in_vain(from, id, out);
        }
    }

    /// The stage of exactly that move, if it is the session's present one.
    fn stage_of(&self, id: MoveId) -> Option<Stage> {
        let here = self.sessions.get(&id.session)?;
        (here.generation == id.generation && !here.stage.is_active()).then_some(here.stage)
    }

    /// To whom that move is committed, if it is not answered.
    fn committed_to(&self, id: MoveId) -> Option<Gateway> {
        let one = self.committed.get(&id.session)?;
        (self.gone.get(&id.session)?.generation == id.generation).then_some(one.to)
    }

    /// Nothing is waited for any more from the one to whom a session was committed. False if it was to nobody.
    pub(super) fn settle<D, P>(&mut self, session: SessionId, out: &mut Out<D, P>) -> bool {
        let Some(mut one) = self.committed.remove(&session) else { return false };
        self.windows.over(session);
        one.repoint(MoveId { session, generation: self.gone[&session].generation }, out);
        true
    }
}
