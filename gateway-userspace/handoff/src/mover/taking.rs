//! The new owner's part: from the offer to the word.

use std::{collections::VecDeque, time::Duration};

use super::{Mover, Out, Session, giving::Stage, send};
use crate::{
    event::{Action, Note},
    fleet::Fleet,
    limits::Limits,
    message::{Message, Offer, RefusedBecause},
    name::{Gateway, MoveId, NodeId, PushId, SessionId, User},
};

/// A session that may become ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub(super) id: MoveId,
    /// Who offered it.
    from: Gateway,
    pub(super) user: User,
    pub(super) opened: bool,
    platform: i32,
    seen: VecDeque<PushId>,
    /// Whether the ring gives the user to somebody else.
    pub(super) foreign: bool,
    state: CopyState,
    /// When to say again what has not been answered.
    pub(super) again: Duration,
    /// When to give it up.
    pub(super) until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum CopyState {
    /// Socket and session are being made. If the offerer has ended meanwhile, it is claimed as soon as it is whole.
    Restoring { orphaned: bool },
    /// Whole, silent; the offerer has been told.
    Ready,
    /// The offerer has ended; its agent is asked.
    Claiming,
}

// === impl Mover ===

impl Mover {
    /// Somebody offers a session.
    #[expect(clippy::too_many_arguments, reason = "an offer is judged by all that we know")]
    pub(crate) fn offered<D, P>(
        &mut self,
        from: Gateway,
        offer: Offer<D>,
        owner: Option<NodeId>,
        fleet: &Fleet,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if !fleet.knows(from) {
            // Its end would not be told again, and nobody would claim the copy.
            return;
        }
        let Offer { id, epoch, user, opened, platform, seen, dump } = offer;
        if self.sessions.contains_key(&id.session) {
            // It is ours. What is offered is over since long, or somebody makes it up.
            return self.in_vain(from, id, out);
        }
        if self.generation(id.session).is_some_and(|known| known >= id.generation) {
            if self.copies.get(&id.session).is_some_and(|copy| (copy.id, copy.state) == (id, CopyState::Ready)) {
                send(from, Message::Ready { id }, out);
            }
            self.counts.refused.0.stale += 1;
            return;
        }
        let refusal = if epoch != fleet.epoch() || !fleet.in_force() {
            Some(RefusedBecause::Ring)
        } else if owner != Some(fleet.me().node) {
            Some(RefusedBecause::NotMine)
        } else if self.copies.len() >= limits.copies {
            Some(RefusedBecause::Busy)
        } else {
            None
        };
        if let Some(because) = refusal {
            let refused = &mut self.counts.refused.0;
            match because {
                RefusedBecause::Ring => refused.ring += 1,
                RefusedBecause::NotMine => refused.not_mine += 1,
                RefusedBecause::Busy | RefusedBecause::CannotRestore => {}
            }
            return send(from, Message::Refused { id, because }, out);
        }
        // We have given it away and it comes back: whoever offers it has got our word.
        if self.settle(id.session, out) {
            self.gone.get_mut(&id.session).expect("who was committed is gone").until = now + limits.memory;
        }
        self.drop_copy(id.session, out);
        let copy = Copy {
            id,
            from,
            user: user.clone(),
            opened,
            platform,
            seen: seen.into(),
            foreign: false,
            state: CopyState::Restoring { orphaned: false },
            again: now + limits.copy_limit,
            until: now + limits.copy_limit,
        };
        self.of_user.entry(user.clone()).or_default().insert(id.session);
        self.copies.insert(id.session, copy);
        out.push_back(Action::Restore { id, user, opened, dump });
    }

    /// The copy is whole.
    pub(crate) fn restored<D, P>(&mut self, id: MoveId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let Some(copy) = self.copies.get_mut(&id.session).filter(|copy| copy.id == id) else { return };
        match copy.state {
            CopyState::Restoring { orphaned: true } => {
                copy.state = CopyState::Claiming;
                out.push_back(Action::Claim { id, from: copy.from });
            }
            CopyState::Restoring { orphaned: false } => {
                copy.state = CopyState::Ready;
                copy.again = now + limits.retry;
                send(copy.from, Message::Ready { id }, out);
            }
            CopyState::Ready | CopyState::Claiming => {}
        }
    }

    /// It cannot be made.
    pub(crate) fn restore_failed<D, P>(&mut self, id: MoveId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let Some(copy) = self.copies.get(&id.session).filter(|copy| copy.id == id) else { return };
        send(copy.from, Message::Refused { id, because: RefusedBecause::CannotRestore }, out);
        self.counts.refused.0.broken += 1;
        self.give_up_copy(id, now, limits, out);
    }

    /// It is ours.
    pub(crate) fn go<D, P>(&mut self, from: Gateway, id: MoveId, owner: Option<NodeId>, out: &mut Out<D, P>) {
        match self.copies.get(&id.session) {
            // One whose offerer has ended may still hear the word that it said before.
            Some(copy)
                if copy.id == id
                    && copy.from == from
                    && matches!(copy.state, CopyState::Ready | CopyState::Claiming) =>
            {
                self.activate(id, owner, out);
                send(from, Message::Done { id, alive: true }, out);
            }
            // Nobody says go to a copy that is not ready, nor to somebody else's.
            Some(copy) if copy.id == id => self.foreign_message(from, out),
            _ => {
                self.in_vain(from, id, out);
                let given_up = |gone: &super::Gone| gone.generation == id.generation && gone.given_up;
                let alive = self.generation(id.session).is_some_and(|known| known >= id.generation)
                    && !self.gone.get(&id.session).is_some_and(given_up);
                send(from, Message::Done { id, alive }, out);
            }
        }
    }

    /// It stays where it was.
    pub(crate) fn aborted<D, P>(
        &mut self,
        from: Gateway,
        id: MoveId,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if self.copies.get(&id.session).is_some_and(|copy| copy.id == id && copy.from == from) {
            self.give_up_copy(id, now, limits, out);
        } else if self.copies.get(&id.session).is_some_and(|copy| copy.id == id) {
            self.foreign_message(from, out);
        } else {
            // Words overtake offers: it may be the first that we hear of that move.
            self.counts.refused.0.stale += 1;
        }
    }

    /// Whose session a copy is.
    pub(crate) fn user_of_copy(&self, session: SessionId) -> Option<&User> {
        self.copies.get(&session).map(|copy| &copy.user)
    }

    /// What the agent of an offerer that has ended says.
    pub(crate) fn claimed<D, P>(
        &mut self,
        id: MoveId,
        granted: bool,
        owner: Option<NodeId>,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        if self.copies.get(&id.session).is_some_and(|copy| (copy.id, copy.state) == (id, CopyState::Claiming)) {
            if granted {
                self.activate(id, owner, out);
            } else {
                self.give_up_copy(id, now, limits, out);
            }
        }
    }

    /// Whether there are copies of what a gateway has offered.
    pub(crate) fn has_copies_of(&self, peer: Gateway) -> bool {
        self.copies.values().any(|copy| copy.from == peer)
    }

    pub(super) fn offerer_ended<D, P>(&mut self, peer: Gateway, out: &mut Out<D, P>) {
        for copy in self.copies.values_mut().filter(|copy| copy.from == peer) {
            match copy.state {
                CopyState::Restoring { .. } => copy.state = CopyState::Restoring { orphaned: true },
                CopyState::Ready => {
                    copy.state = CopyState::Claiming;
                    out.push_back(Action::Claim { id: copy.id, from: peer });
                }
                CopyState::Claiming => {}
            }
        }
    }

    pub(super) fn tick_taking<D, P>(&mut self, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let mut over = Vec::new();
        for copy in self.copies.values_mut() {
            if copy.until <= now {
                over.push(copy.id);
            } else if copy.again <= now {
                copy.again = now + limits.retry;
                if copy.state == CopyState::Ready {
                    send(copy.from, Message::Ready { id: copy.id }, out);
                }
            }
        }
        for id in over {
            out.push_back(Action::Note(Note::Lost(id)));
            self.give_up_copy(id, now, limits, out);
        }
    }

    fn activate<D, P>(&mut self, id: MoveId, owner: Option<NodeId>, out: &mut Out<D, P>) {
        let copy = self.copies.remove(&id.session).expect("only a copy becomes ours");
        self.foreign -= usize::from(copy.foreign && copy.opened);
        out.push_back(Action::Activate { id });
        let session = Session {
            user: copy.user.clone(),
            platform: copy.platform,
            opened: copy.opened,
            generation: id.generation,
            seen: copy.seen,
            owner: None,
            attempts: 0,
            stage: Stage::Resting,
        };
        self.insert(id.session, session);
        self.set_owner(id.session, owner);
        self.counts.taken += 1;
        self.decided.insert(copy.user);
    }

    /// It is not going to be ours. Remembered, so that a late offer of the same move does not begin anew.
    fn give_up_copy<D, P>(&mut self, id: MoveId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let Some(copy) = self.drop_copy(id.session, out) else { return };
        let to = self.gone.get(&id.session).and_then(|gone| gone.to);
        let gone = super::Gone {
            user: copy.user.clone(),
            opened: copy.opened,
            generation: id.generation,
            to,
            given_up: true,
            until: now + limits.memory,
        };
        self.of_user.entry(copy.user).or_default().insert(id.session);
        self.gone.insert(id.session, gone);
    }

    fn drop_copy<D, P>(&mut self, session: SessionId, out: &mut Out<D, P>) -> Option<Copy> {
        let copy = self.copies.remove(&session)?;
        self.foreign -= usize::from(copy.foreign && copy.opened);
        if !self.gone.contains_key(&session) {
            super::forget(&mut self.of_user, &copy.user, session);
        }
        self.decided.insert(copy.user.clone());
        out.push_back(Action::Drop { id: copy.id });
        Some(copy)
    }
}
