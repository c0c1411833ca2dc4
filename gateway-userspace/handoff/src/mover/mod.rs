//! Sessions of this gateway and their moves.
//!
//! | file | subject |
//! |---|---|
//! | `giving` | the old owner's part |
//! | `taking` | the new owner's part |
//! | `pace` | which moves may begin |
//! | `window` | how many at once |
//!
//! A session is in one of three places. `sessions`: ours, active or on its way out, up to the commit. `copies`: somebody
//! else's as long as it is not decided. `gone`: it was ours; kept so that pushes find it and late messages do not revive
//! it.

mod giving;
mod pace;
mod taking;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use self::{giving::Stage, pace::Pace, taking::Copy, window::Windows};
use crate::{
    event::{Action, Note},
    fleet::Fleet,
    limits::Limits,
    message::{Message, Reached, Went},
    name::{Gateway, MoveId, NodeId, PushId, SessionId, User},
    refusals::{Beside, Refusals},
};

/// Where actions go.
pub(crate) type Out<D, P> = VecDeque<Action<D, P>>;

/// How far the moves have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Sessions of this gateway.
    pub sessions: usize,
    /// Those that belong elsewhere and are still here, active.
    pub waiting: usize,
    /// Those on their way out, up to the commit.
    pub moving: usize,
    /// Those committed whose new owner has not answered yet.
    pub committed: usize,
    /// Copies that are not decided yet.
    pub copies: usize,
    /// Those that cannot be moved.
    pub stranded: usize,
    /// Moves away from here that were done, ever.
    pub moved: u64,
    /// Sessions taken over from others, ever.
    pub taken: u64,
    /// Moves that failed, ever; those sessions stayed.
    pub failed: u64,
    /// Sessions lost, because a node ended or was out of reach right after a commit, ever.
    pub lost: u64,
    /// What others said in vain, ever.
    pub refused: Refusals,
    /// Whether none begins until somebody says so.
    pub paused: bool,
    /// How many may begin in a second; none for as many as can be.
    pub moves_per_s: Option<u32>,
}

/// All sessions and their moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mover {
    sessions: BTreeMap<SessionId, Session>,
    copies: BTreeMap<SessionId, Copy>,
    gone: BTreeMap<SessionId, Gone>,
    /// Committed and not yet answered.
    committed: BTreeMap<SessionId, Committed>,
    /// The names of all in `sessions`, `copies` and `gone`.
    of_user: BTreeMap<User, BTreeSet<SessionId>>,
    /// Those of `sessions` that are neither resting, nor waiting, nor stranded.
    moving: BTreeSet<SessionId>,
    pace: Pace,
    windows: Windows,
    /// Open sessions that belong elsewhere, and copies of open sessions that do.
    foreign: usize,
    /// Users of whom a session has come to rest, or gone.
    pub(crate) decided: BTreeSet<User>,
    pub(crate) counts: Counts,
    next_sweep: Duration,
}

/// Counted, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Counts {
    pub(crate) moved: u64,
    pub(crate) taken: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    pub(crate) refused: Beside<Refusals>,
}

/// A session that is ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    user: User,
    platform: i32,
    opened: bool,
    generation: u32,
    seen: VecDeque<PushId>,
    /// Whose it is by the ring, if not ours.
    owner: Option<NodeId>,
    /// Failed moves since the ring changed.
    attempts: u32,
    stage: Stage,
}

/// A session that was ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gone {
    user: User,
    opened: bool,
    generation: u32,
    /// Where it went; none if it is over.
    to: Option<NodeId>,
    /// Whether its last generation was a copy that did not become ours.
    given_up: bool,
    /// When to forget it.
    until: Duration,
}

/// A session whose new owner has not said yet that it is active there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Committed {
    /// The new owner.
    to: Gateway,
    /// When to say go again.
    again: Duration,
    /// Whether what arrives here for it is sent on already.
    repointed: bool,
}

/// What there is of a user here.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// Active.
    pub(crate) active: Vec<SessionId>,
    /// Whether any more are here of which it is not decided whose they are.
    pub(crate) undecided: bool,
    /// Those that went.
    pub(crate) went: Vec<Went>,
}

// === impl Mover ===

impl Mover {
    pub(crate) fn new() -> Self {
        Self {
            sessions: BTreeMap::new(),
            copies: BTreeMap::new(),
            gone: BTreeMap::new(),
            committed: BTreeMap::new(),
            of_user: BTreeMap::new(),
            moving: BTreeSet::new(),
            pace: Pace::default(),
            windows: Windows::default(),
            foreign: 0,
            decided: BTreeSet::new(),
            counts: Counts::default(),
            next_sweep: Duration::ZERO,
        }
    }

    /// A connection is here. True if nothing of that name has been here before.
    pub(crate) fn arrived(
        &mut self,
        session: SessionId,
        user: User,
        opened: bool,
        platform: i32,
        owner: Option<NodeId>,
    ) -> bool {
        if self.generation(session).is_some() {
            return false;
        }
        let arrived = Session {
            user,
            platform,
            opened,
            generation: 0,
            seen: VecDeque::new(),
            owner: None,
            attempts: 0,
            stage: Stage::Resting,
        };
        self.insert(session, arrived);
        self.set_owner(session, owner);
        true
    }

    /// It is open.
    pub(crate) fn opened(&mut self, session: SessionId) {
        if let Some(here) = self.sessions.get_mut(&session)
            && !here.opened
        {
            self.pace.forget(session, here);
            here.opened = true;
            self.foreign += usize::from(here.owner.is_some());
            self.pace.note(session, here);
        }
    }

    /// It is over.
    pub(crate) fn ended<D, P>(&mut self, session: SessionId, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let Some(over) = self.remove(session) else { return };
        self.windows.over(session);
        let id = MoveId { session, generation: over.generation };
        if let Stage::Offered { to, .. } = over.stage {
            send(to, Message::Abort { id }, out);
        }
        if !over.stage.is_active() && !matches!(over.stage, Stage::Suspending { .. }) {
            out.push_back(Action::Release { id });
        }
        self.remember(session, over, None, now, limits);
    }

    /// The ring has changed: whose is each session now?
    pub(crate) fn ring<D, P>(
        &mut self,
        owner: impl Fn(&User) -> Option<NodeId>,
        fleet: &Fleet,
        now: Duration,
        limits: &Limits,
        out: &mut Out<D, P>,
    ) {
        let me = fleet.me().node;
        let elsewhere = |user: &User| owner(user).filter(|&node| node != me);
        let owners: Vec<_> = self.sessions.iter().map(|(&session, here)| (session, elsewhere(&here.user))).collect();
        for (session, owner) in owners {
            let here = self.sessions.get_mut(&session).expect("it was just listed");
            here.attempts = 0;
            if here.stage.target().is_some_and(|to| Some(to) != owner) {
                self.set_owner(session, owner);
                self.abort(session, now, limits, out);
            } else {
                self.set_owner(session, owner);
            }
        }
        for copy in self.copies.values_mut() {
            self.foreign -= usize::from(copy.foreign && copy.opened);
            copy.foreign = elsewhere(&copy.user).is_some();
            self.foreign += usize::from(copy.foreign && copy.opened);
        }
    }

    /// A gateway has ended.
    pub(crate) fn peer_ended<D, P>(&mut self, peer: Gateway, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        let offered: Vec<_> = self
            .moving
            .iter()
            .copied()
            .filter(|session| matches!(self.sessions[session].stage, Stage::Offered { to, .. } if to == peer))
            .collect();
        for session in offered {
            self.fail(session, now, limits, out);
        }
        let committed: Vec<_> =
            self.committed.iter().filter(|(_, one)| one.to == peer).map(|(&session, _)| session).collect();
        for session in committed {
            let id = MoveId { session, generation: self.gone[&session].generation };
            self.settle(session, out);
            out.push_back(Action::Note(Note::Lost(id)));
            self.counts.lost += 1;
        }
        self.offerer_ended(peer, out);
    }

    /// Whether all that is open here is of our own users.
    pub(crate) fn settled(&self) -> bool {
        self.foreign == 0
    }

    /// What there is of a user.
    pub(crate) fn presence(&self, user: &User) -> Presence {
        // Who has just come to rest does so when the actions have been taken.
        let mut presence = Presence { undecided: self.decided.contains(user), ..Presence::default() };
        for &session in self.of_user.get(user).into_iter().flatten() {
            if let Some(here) = self.sessions.get(&session).filter(|here| here.opened) {
                if here.stage.is_active() {
                    presence.active.push(session);
                } else {
                    presence.undecided = true;
                }
            }
            presence.undecided |= self.copies.get(&session).is_some_and(|copy| copy.opened);
            if let Some(Gone { generation, opened: true, to: Some(to), .. }) = self.gone.get(&session) {
                let id = MoveId { session, generation: *generation };
                presence.went.push(Went { id, to: *to });
            }
        }
        presence
    }

    /// Whether an active session has seen a push.
    pub(crate) fn has_seen(&self, session: SessionId, push: PushId) -> bool {
        self.sessions.get(&session).is_some_and(|here| here.seen.contains(&push))
    }

    /// It has, now.
    pub(crate) fn saw(&mut self, session: SessionId, push: PushId, limits: &Limits) {
        let Some(here) = self.sessions.get_mut(&session) else { return };
        if here.seen.len() >= limits.seen_pushes {
            here.seen.pop_front();
        }
        here.seen.push_back(push);
    }

    /// As told in answers.
    pub(crate) fn reached(&self, session: SessionId) -> Option<Reached> {
        self.sessions.get(&session).map(|here| Reached { session, platform: here.platform })
    }

    /// Time has passed.
    pub(crate) fn tick<D, P>(&mut self, now: Duration, limits: &Limits, out: &mut Out<D, P>) {
        self.tick_giving(now, limits, out);
        self.tick_taking(now, limits, out);
        if now >= self.next_sweep + limits.memory / 4 {
            self.next_sweep = now;
            let Self { gone, committed, of_user, sessions, copies, .. } = self;
            gone.retain(|session, one| {
                let keep = now < one.until || committed.contains_key(session);
                if !keep && !sessions.contains_key(session) && !copies.contains_key(session) {
                    forget(of_user, &one.user, *session);
                }
                keep
            });
        }
    }

    /// When something has to be done next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let offers = self.moving.iter().filter_map(|session| self.sessions[session].stage.deadline());
        let committed = self.committed.values().map(|one| one.again);
        let copies = self.copies.values().map(|copy| copy.again.min(copy.until));
        offers.chain(committed).chain(copies).chain(self.pace.deadline()).min()
    }

    pub(crate) fn progress(&self, limits: &Limits) -> Progress {
        Progress {
            sessions: self.sessions.len(),
            waiting: self.pace.waiting(),
            moving: self.moving.len(),
            committed: self.committed.len(),
            copies: self.copies.len(),
            stranded: self.pace.stranded(),
            moved: self.counts.moved,
            taken: self.counts.taken,
            failed: self.counts.failed,
            lost: self.counts.lost,
            refused: self.counts.refused.0,
            paused: self.pace.is_paused(),
            moves_per_s: limits.moves_per_s,
        }
    }

    /// The latest move of that session that we know of.
    fn generation(&self, session: SessionId) -> Option<u32> {
        let here = self.sessions.get(&session).map(|here| here.generation);
        let copy = self.copies.get(&session).map(|copy| copy.id.generation);
        let gone = self.gone.get(&session).map(|gone| gone.generation);
        here.max(copy).max(gone)
    }

    fn insert(&mut self, session: SessionId, new: Session) {
        self.gone.remove(&session);
        self.of_user.entry(new.user.clone()).or_default().insert(session);
        self.sessions.insert(session, new);
    }

    /// Takes a session of ours out, with all that points to it but its name beside the user's.
    fn remove(&mut self, session: SessionId) -> Option<Session> {
        let here = self.sessions.remove(&session)?;
        self.pace.forget(session, &here);
        self.moving.remove(&session);
        self.foreign -= usize::from(here.opened && here.owner.is_some());
        Some(here)
    }

    /// What was ours is not any more.
    fn remember(&mut self, session: SessionId, was: Session, to: Option<NodeId>, now: Duration, limits: &Limits) {
        self.decided.insert(was.user.clone());
        let Session { user, opened, generation, .. } = was;
        self.gone.insert(session, Gone { user, opened, generation, to, given_up: false, until: now + limits.memory });
    }

    /// Whose a session of ours is.
    fn set_owner(&mut self, session: SessionId, owner: Option<NodeId>) {
        let Some(here) = self.sessions.get_mut(&session) else { return };
        self.pace.forget(session, here);
        self.foreign -= usize::from(here.opened && here.owner.is_some());
        here.owner = owner;
        self.foreign += usize::from(here.opened && here.owner.is_some());
        if here.stage.is_active() {
            here.stage = if owner.is_some() { Stage::Waiting(None) } else { Stage::Resting };
        }
        self.pace.note(session, here);
    }

    /// What a message means that is of no move in which we could have such a part now.
    fn in_vain<D, P>(&mut self, from: Gateway, id: MoveId, out: &mut Out<D, P>) {
        if self.generation(id.session).is_some_and(|known| known >= id.generation) {
            self.counts.refused.0.stale += 1;
        } else {
            self.foreign_message(from, out);
        }
    }

    fn foreign_message<D, P>(&mut self, from: Gateway, out: &mut Out<D, P>) {
        self.counts.refused.0.foreign += 1;
        out.push_back(Action::Note(Note::Foreign(from)));
    }

    /// Everything that must hold between two events.
    ///
    /// # Panics
    /// If something does not.
    pub(crate) fn check(&self) {
        let mut foreign = 0;
        for (session, here) in &self.sessions {
            assert!(!self.gone.contains_key(session), "here and gone");
            assert!(!self.copies.contains_key(session), "ours, and a copy of another's");
            assert_eq!(here.stage.is_active(), !self.moving.contains(session));
            if here.stage.is_active() {
                assert_eq!(here.owner.is_some(), !matches!(here.stage, Stage::Resting));
            }
            foreign += usize::from(here.opened && here.owner.is_some());
        }
        for (session, copy) in &self.copies {
            assert_eq!(*session, copy.id.session);
            foreign += usize::from(copy.opened && copy.foreign);
            if let Some(gone) = self.gone.get(session) {
                assert!(gone.generation < copy.id.generation, "an old offer was taken");
            }
        }
        assert_eq!(foreign, self.foreign);
        for session in self.committed.keys() {
            assert!(self.gone.get(session).is_some_and(|gone| gone.to.is_some()), "committed, and not gone");
        }
        let users = self.sessions.iter().map(|(session, here)| (session, &here.user));
        let copies = self.copies.iter().map(|(session, copy)| (session, &copy.user));
        let gone = self.gone.iter().map(|(session, gone)| (session, &gone.user));
        let mut named: BTreeMap<&User, BTreeSet<SessionId>> = BTreeMap::new();
        for (session, user) in users.chain(copies).chain(gone) {
            named.entry(user).or_default().insert(*session);
        }
        assert!(named.into_iter().eq(self.of_user.iter().map(|(user, sessions)| (user, sessions.clone()))));
        self.windows.check(|session| self.moving.contains(&session) || self.committed.contains_key(&session));
        self.pace.check(self.sessions.iter().map(|(session, here)| (*session, here)));
    }
}

fn forget(of_user: &mut BTreeMap<User, BTreeSet<SessionId>>, user: &User, session: SessionId) {
    if let Some(sessions) = of_user.get_mut(user) {
        sessions.remove(&session);
        if sessions.is_empty() {
            of_user.remove(user);
        }
    }
}

fn send<D, P>(to: Gateway, message: Message<D, P>, out: &mut Out<D, P>) {
    out.push_back(Action::Send { to, message });
}
