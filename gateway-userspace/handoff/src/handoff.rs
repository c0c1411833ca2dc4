//! One gateway's part in all moves and pushes.

use std::{collections::VecDeque, time::Duration};

use crate::{
    event::{Action, Event, Host, Note},
    fleet::Fleet,
    limits::Limits,
    message::Message,
    mover::{Mover, Out, Progress},
    name::{Epoch, Gateway, NodeId, User},
    post::{Around, Post},
};

/// One gateway's part in all moves and pushes: [`Event`]s in, [`Action`]s out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handoff<D, P> {
    limits: Limits,
    fleet: Fleet,
    mover: Mover,
    post: Post<P>,
    out: Out<D, P>,
    /// When to tell the others again how we are.
    next_state: Duration,
}

/// Whether a user may be let in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Here,
    /// Yes, once the ring is in force: [`Action::InForce`] says when.
    Soon,
    /// The user belongs there.
    Elsewhere(NodeId),
    /// There is no ring, or none with an active member.
    Nowhere,
}

// === impl Handoff ===

impl<D: Clone, P: Clone> Handoff<D, P> {
    /// A gateway that has just begun, and knows nothing.
    pub fn new(me: Gateway, limits: Limits, now: Duration) -> Self {
        Self {
            limits,
            fleet: Fleet::new(me, now),
            mover: Mover::new(),
            post: Post::new(),
            out: VecDeque::new(),
            next_state: now,
        }
    }

    /// Takes what has happened; afterwards see [`poll_action`](Self::poll_action) and [`go_on`](Self::go_on).
    pub fn handle(&mut self, event: Event<D, P>, now: Duration, host: &mut impl Host<P>) {
        let Self { limits, fleet, mover, post, out, .. } = self;
        let me = fleet.me();
        let owner = |host: &dyn Fn(&User) -> Option<NodeId>, user: &User| host(user).filter(|&node| node != me.node);
        match event {
            Event::Arrived { session, user, opened, platform } => {
                let owner = owner(&|user| host.owner(user), &user);
                mover.arrived(session, user, opened, platform, owner);
            }
            Event::Opened { session } => mover.opened(session),
            Event::Ended { session } => mover.ended(session, now, limits, out),

            Event::Ring { epoch, members } => {
                if epoch > fleet.epoch() {
                    fleet.ring(epoch, &members, now);
                    mover.ring(|user| host.owner(user), fleet, now, limits, out);
                }
            }
            Event::PeerUp { peer } => {
                fleet.up(peer, now);
                post.fleet_changed(&mut Around { mover, fleet, limits, host, now, out });
            }
            Event::PeerDown { node } => fleet.down(node, now),
            Event::PeerEnded { peer } => {
                fleet.ended(peer);
                mover.peer_ended(peer, now, limits, out);
                post.peer_ended(peer);
                post.fleet_changed(&mut Around { mover, fleet, limits, host, now, out });
            }
            Event::Said { from, to, message } => {
                if to == me.incarnation {
                    self.said(from, message, now, host);
                } else {
                    mover.counts.refused.0.stale += 1;
                    out.push_back(Action::Note(Note::Foreign(from)));
                }
            }

            Event::Suspended { id } => mover.suspended(id, out),
            Event::Held { id } => mover.held(id, out),
            Event::Dumped { id, dump } => mover.dumped(id, dump, fleet, now, limits, out),
            Event::Failed { id, failure } => mover.failed(id, failure, now, limits, out),
            Event::Released { id } => mover.released(id, now, limits, out),
            Event::Restored { id } => mover.restored(id, now, limits, out),
            Event::RestoreFailed { id } => mover.restore_failed(id, now, limits, out),
            Event::Claimed { id, granted } => {
                let owner = mover.user_of_copy(id.session).and_then(|user| owner(&|user| host.owner(user), user));
                mover.claimed(id, granted, owner, now, limits, out);
            }

            Event::Push { ticket, user, push, body } => {
                post.push(ticket, user, push, body, &mut Around { mover, fleet, limits, host, now, out });
            }

            Event::Pause => mover.pause(true),
            Event::Continue => mover.pause(false),
            Event::Stop => mover.stop(now, limits, out),
            Event::Rate { moves_per_s } => limits.moves_per_s = moves_per_s,
            Event::Tick => {
                mover.tick(now, limits, out);
                post.tick(&mut Around { mover, fleet, limits, host, now, out });
            }
        }
        self.follow_up(now);
    }

    /// What is to be done next. Take all of it after each event, in order.
    pub fn poll_action(&mut self) -> Option<Action<D, P>> {
        self.out.pop_front()
    }

    /// Gives the pushes that waited to the sessions that have come to rest. To be called when all actions have been taken,
    /// those that activate or resume the sessions among them. If it returns true there may be further actions, and it has
    /// to be called again after them.
    pub fn go_on(&mut self, now: Duration, host: &mut impl Host<P>) -> bool {
        let Self { limits, fleet, mover, post, out, .. } = self;
        debug_assert!(out.is_empty(), "actions are taken first");
        let decided = std::mem::take(&mut mover.decided);
        for user in &decided {
            post.decided(user, &mut Around { mover, fleet, limits, host, now, out });
        }
        !decided.is_empty()
    }

    /// When a [`Event::Tick`] is due, at the latest. That may be in the past.
    pub fn deadline(&self) -> Duration {
        let later = [self.mover.deadline(), self.post.deadline()];
        later.into_iter().flatten().fold(self.next_state, Duration::min)
    }

    /// Whether a user may be let in here now.
    pub fn admission(&self, user: &User, host: &impl Host<P>) -> Admission {
        match host.owner(user) {
            _ if self.fleet.epoch() == Epoch(0) => Admission::Nowhere,
            None => Admission::Nowhere,
            Some(node) if node != self.fleet.me().node => Admission::Elsewhere(node),
            Some(_) if self.fleet.in_force() => Admission::Here,
            Some(_) => Admission::Soon,
        }
    }

    /// How far the moves have come.
    pub fn progress(&self) -> Progress {
        self.mover.progress(&self.limits)
    }

    /// Pushes under way here, those of others included.
    pub fn pushes_under_way(&self) -> usize {
        self.post.waiting()
    }

    /// Whether there are copies here of sessions that a gateway has offered, of which it is not decided whose they are. Once
    /// it has ended there will be no more.
    pub fn has_copies_of(&self, peer: Gateway) -> bool {
        self.mover.has_copies_of(peer)
    }

    /// The ring that is followed, and whether it is in force.
    pub fn ring(&self) -> (Epoch, bool) {
        (self.fleet.epoch(), self.fleet.in_force())
    }

    /// Checks everything that must hold between two events. For tests: it looks at every session.
    ///
    /// # Panics
    /// If something does not.
    pub fn check_invariants(&self) {
        self.mover.check();
        self.post.check(|user| self.mover.presence(user).undecided);
    }

    /// A gateway said something to this incarnation.
    fn said(&mut self, from: Gateway, message: Message<D, P>, now: Duration, host: &mut impl Host<P>) {
        let Self { limits, fleet, mover, post, out, .. } = self;
        let me = fleet.me().node;
        match message {
            Message::State(state) => mover.counts.refused.0.stale += u64::from(!fleet.state(from, &state)),
            Message::Offer(offer) => {
                let owner = host.owner(&offer.user);
                mover.offered(from, *offer, owner, fleet, now, limits, out);
            }
            Message::Go { id } => {
                let owner = mover.user_of_copy(id.session).and_then(|user| host.owner(user));
                mover.go(from, id, owner.filter(|&node| node != me), out);
            }
            Message::Abort { id } => mover.aborted(from, id, now, limits, out),
            Message::Ready { id } => mover.ready(from, id, now, limits, out),
            Message::Refused { id, because } => mover.refused(from, id, because, now, limits, out),
            Message::Done { id, alive } => mover.done(from, id, alive, now, limits, out),
            Message::Ask(ask) if fleet.knows(from) => {
                post.ask(from, *ask, &mut Around { mover, fleet, limits, host, now, out });
            }
            // Whoever asked has ended. What it asked last is forgotten, and so nobody knows whether this is older.
            Message::Ask(_) => mover.counts.refused.0.stale += 1,
            Message::Told(told) => post.told(from, *told, &mut Around { mover, fleet, limits, host, now, out }),
        }
    }

    /// What follows from the new state.
    fn follow_up(&mut self, now: Duration) {
        let Self { limits, fleet, mover, out, next_state, .. } = self;
        if fleet.comes_into_force(now, limits) {
            out.push_back(Action::InForce { epoch: fleet.epoch() });
        }
        mover.pump(fleet, now, limits, out);
        let all = *next_state <= now;
        if all {
            *next_state = now + limits.retry;
        }
        for (to, state) in fleet.announce(mover.settled(), all) {
            out.push_back(Action::Send { to, message: Message::State(state) });
        }
    }
}
