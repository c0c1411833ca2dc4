//! Pushes: a push is handled where it arrives, by asking everybody who may hold a session of its user.
//!
//! Each user has a line here: one push at a time, in the order in which they came. What others ask does not wait in that
//! line, only until no session of the user is in motion.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    event::{Action, Host, Outcome},
    fleet::{Fleet, Standing},
    limits::Limits,
    message::{Ask, Message, Reached, Told, Went},
    mover::{Mover, Out},
    name::{Gateway, MoveId, NodeId, PushId, SessionId, User},
};

/// All pushes under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Post<P> {
    lines: BTreeMap<User, VecDeque<Job<P>>>,
    /// Questions of others that wait until nothing of the user is in motion, the oldest first.
    asked: BTreeMap<User, Vec<Asked<P>>>,
    /// The latest question about each user from each gateway, and what it was told.
    slots: BTreeMap<(Gateway, User), Slot>,
    /// Of our latest question.
    number: u64,
    next_sweep: Duration,
}

/// A push of a pusher here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Job<P> {
    ticket: u64,
    push: PushId,
    body: P,
    until: Duration,
    /// Once it is the first in its line.
    work: Option<Work>,
}

/// How far a push has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Work {
    /// Whether it has to be given to the sessions here (again).
    here: bool,
    /// Who is asked and has not answered.
    asks: BTreeMap<NodeId, Question>,
    reached: BTreeMap<SessionId, i32>,
    /// Moves of sessions that have been followed.
    followed: BTreeSet<MoveId>,
}

/// A question to another gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Question {
    /// To whom it was sent last, if it was, its number, and when to repeat it.
    sent: Option<(Gateway, u64, Duration)>,
}

/// A question of another gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked<P> {
    from: Gateway,
    number: u64,
    push: PushId,
    body: P,
    until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    number: u64,
    told: Option<Told>,
    until: Duration,
}

/// What a push needs from around it.
pub(crate) struct Around<'a, D, P, H> {
    pub(crate) mover: &'a mut Mover,
    pub(crate) fleet: &'a Fleet,
    pub(crate) limits: &'a Limits,
    pub(crate) host: &'a mut H,
    pub(crate) now: Duration,
    pub(crate) out: &'a mut Out<D, P>,
}

// === impl Post ===

impl<P: Clone> Post<P> {
    pub(crate) fn new() -> Self {
        Self {
            lines: BTreeMap::new(),
            asked: BTreeMap::new(),
            slots: BTreeMap::new(),
            number: 0,
            next_sweep: Duration::ZERO,
        }
    }

    /// A pusher has a push.
    pub(crate) fn push<D: Clone, H: Host<P>>(
        &mut self,
        ticket: u64,
        user: User,
        push: PushId,
        body: P,
        around: &mut Around<D, P, H>,
    ) {
        let line = self.lines.entry(user.clone()).or_default();
        if line.len() >= around.limits.waiting_pushes {
            around.out.push_back(Action::Answer { ticket, outcome: Outcome::Unsure(vec![]) });
            return;
        }
        line.push_back(Job { ticket, push, body, until: around.now + around.limits.push_limit, work: None });
        if line.len() == 1 {
            self.work_on(&user, around);
        }
    }

    /// Another gateway has a push.
    pub(crate) fn ask<D: Clone, H: Host<P>>(&mut self, from: Gateway, ask: Ask<P>, around: &mut Around<D, P, H>) {
        let Ask { number, user, push, patience_ms, body } = ask;
        let until = around.now + around.limits.memory;
        let slot = self.slots.entry((from, user.clone())).or_insert(Slot { number: 0, told: None, until });
        if number < slot.number {
            return;
        }
        if number == slot.number
            && let Some(told) = &slot.told
        {
            around.out.push_back(Action::Send { to: from, message: Message::Told(Box::new(told.clone())) });
            return;
        }
        *slot = Slot { number, told: None, until };
        let asked = self.asked.entry(user.clone()).or_default();
        // It has given up its earlier question, or repeats it.
        asked.retain(|other| other.from != from);
        let until = around.now + Duration::from_millis(patience_ms.into());
        asked.push(Asked { from, number, push, body, until });
        self.answer(&user, around);
    }

    /// The answer to a question of ours.
    pub(crate) fn told<D: Clone, H: Host<P>>(&mut self, from: Gateway, told: Told, around: &mut Around<D, P, H>) {
        let Some(work) = self.lines.get_mut(&told.user).and_then(|line| line.front_mut()?.work.as_mut()) else {
            return;
        };
        let ours = |question: &Question| question.sent.is_some_and(|(to, n, _)| (to, n) == (from, told.number));
        if work.asks.get(&from.node).is_some_and(ours) {
            work.asks.remove(&from.node);
            work.learn(told.reached, told.went, around.fleet);
            self.work_on(&told.user, around);
        }
    }

    /// Something of that user has come to rest, or gone.
    pub(crate) fn decided<D: Clone, H: Host<P>>(&mut self, user: &User, around: &mut Around<D, P, H>) {
        self.answer(user, around);
        self.work_on(user, around);
    }

    /// Somebody has come up, or is out of reach, or has ended for certain: who can be asked now, and who need not be?
    pub(crate) fn fleet_changed<D: Clone, H: Host<P>>(&mut self, around: &mut Around<D, P, H>) {
        let users: Vec<_> = self.lines.keys().cloned().collect();
        for user in users {
            self.work_on(&user, around);
        }
    }

    /// A gateway has ended: it waits for no answer any more.
    pub(crate) fn peer_ended(&mut self, peer: Gateway) {
        self.slots.retain(|(from, _), _| *from != peer);
        self.asked.retain(|_, asked| {
            asked.retain(|one| one.from != peer);
            !asked.is_empty()
        });
    }

    /// Time has passed.
    pub(crate) fn tick<D: Clone, H: Host<P>>(&mut self, around: &mut Around<D, P, H>) {
        let now = around.now;
        self.asked.retain(|_, asked| {
            asked.retain(|one| one.until > now);
            !asked.is_empty()
        });
        let users: Vec<_> = self.lines.keys().cloned().collect();
        for user in users {
            let line = self.lines.get_mut(&user).expect("it was just listed");
            let late = line.iter().position(|job| job.until > now).unwrap_or(line.len());
            for job in line.drain(..late) {
                let reached = job.work.map(|work| work.reached_list()).unwrap_or_default();
                around.out.push_back(Action::Answer { ticket: job.ticket, outcome: Outcome::Unsure(reached) });
            }
            self.work_on(&user, around);
        }
        if now >= self.next_sweep + around.limits.memory / 4 {
            self.next_sweep = now;
            self.slots.retain(|_, slot| slot.until > now);
        }
    }

    /// When something has to be done next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let jobs = self.lines.values().flatten();
        let asks = jobs.clone().filter_map(|job| job.work.as_ref()).flat_map(|work| work.asks.values());
        let repeats = asks.filter_map(|question| question.sent.map(|(_, _, again)| again));
        let asked = self.asked.values().flatten().map(|one| one.until);
        jobs.map(|job| job.until).chain(repeats).chain(asked).min()
    }

    /// Pushes under way.
    pub(crate) fn waiting(&self) -> usize {
        self.lines.values().map(VecDeque::len).sum::<usize>() + self.asked.values().map(Vec::len).sum::<usize>()
    }

    /// Answers what others have asked about a user, unless something of that user is in motion.
    fn answer<D: Clone, H: Host<P>>(&mut self, user: &User, around: &mut Around<D, P, H>) {
        if !self.asked.contains_key(user) || around.mover.presence(user).undecided {
            return;
        }
        for Asked { from, number, push, body, .. } in self.asked.remove(user).unwrap_or_default() {
            let (reached, went) = around.give(user, push, &body);
            let told = Told { number, user: user.clone(), reached, went };
            if let Some(slot) = self.slots.get_mut(&(from, user.clone())) {
                slot.told = Some(told.clone());
            }
            around.out.push_back(Action::Send { to: from, message: Message::Told(Box::new(told)) });
        }
    }

    /// Brings the first push of a user's line as far as it comes, and those behind it.
    fn work_on<D: Clone, H: Host<P>>(&mut self, user: &User, around: &mut Around<D, P, H>) {
        while let Some(job) = self.lines.get_mut(user).and_then(VecDeque::front_mut) {
            let work = job.work.get_or_insert_with(|| around.begin(user));
            loop {
                while work.here && !around.mover.presence(user).undecided {
                    // Giving it may show that a session went and came back.
                    work.here = false;
                    let (reached, went) = around.give(user, job.push, &job.body);
                    work.learn(reached, went, around.fleet);
                }
                let left = job.until.saturating_sub(around.now).as_millis();
                let patience_ms = u32::try_from(left).unwrap_or(u32::MAX);
                let (push, body) = (job.push, &job.body);
                let ask = |number| Ask { number, user: user.clone(), push, patience_ms, body: body.clone() };
                let asked = work.asks.len();
                work.asks.retain(|&node, question| around.question(node, question, &mut self.number, ask));
                if work.asks.len() == asked {
                    break;
                }
                // Somebody has ended and told us nothing. A session of his may have come to where there was none when we
                // asked, so everything is asked again.
                let again = around.begin(user);
                work.here = true;
                work.asks.extend(again.asks);
            }
            if work.here || !work.asks.is_empty() {
                return;
            }
            let (ticket, reached) = (job.ticket, work.reached_list());
            let outcome = if reached.is_empty() { Outcome::Offline } else { Outcome::Delivered(reached) };
            around.out.push_back(Action::Answer { ticket, outcome });
            if let Some(line) = self.lines.get_mut(user) {
                line.pop_front();
            }
        }
        self.lines.remove(user);
    }

    /// As [`Mover::check`].
    pub(crate) fn check(&self, mover_presence: impl Fn(&User) -> bool) {
        for (user, line) in &self.lines {
            let first = line.front().expect("an empty line is removed");
            let work = first.work.as_ref().expect("the first is being worked on");
            assert!(!work.asks.is_empty() || work.here, "a push waits for nothing");
            assert!(!work.here || mover_presence(user), "a push was not given, though nothing is in motion");
            assert!(line.iter().skip(1).all(|job| job.work.is_none()), "two pushes of a user at a time");
        }
        for (user, asked) in &self.asked {
            assert!(!asked.is_empty() && mover_presence(user), "a question waits for nothing");
        }
    }
}

// === impl Work ===

impl Work {
    /// Somebody has told what he has.
    fn learn(&mut self, reached: Vec<Reached>, went: Vec<Went>, fleet: &Fleet) {
        self.reached.extend(reached.into_iter().map(|one| (one.session, one.platform)));
        for Went { id, to } in went {
            if self.reached.contains_key(&id.session) || !self.followed.insert(id) {
                continue;
            }
            if to == fleet.me().node {
                self.here = true;
            } else {
                // Even if it is being asked: it may have answered before the session came.
                self.asks.insert(to, Question::default());
            }
        }
    }

    fn reached_list(&self) -> Vec<Reached> {
        self.reached.iter().map(|(&session, &platform)| Reached { session, platform }).collect()
    }
}

// === impl Around ===

impl<D: Clone, P: Clone, H: Host<P>> Around<'_, D, P, H> {
    /// Who has to be asked for a push that begins now.
    fn begin(&self, user: &User) -> Work {
        let owner = self.host.owner(user);
        let asks = self
            .fleet
            .standings(self.now, self.limits)
            .filter(|&(node, standing)| match standing {
                Standing::Settled(_) => Some(node) == owner,
                Standing::Unsettled(_) | Standing::OutOfReach => true,
                Standing::Nobody => false,
            })
            .map(|(node, _)| (node, Question::default()))
            .collect();
        Work { here: true, asks, ..Work::default() }
    }

    /// Gives a push to the active sessions of a user that have not seen it: those that have it, and where others went.
    fn give(&mut self, user: &User, push: PushId, body: &P) -> (Vec<Reached>, Vec<Went>) {
        let presence = self.mover.presence(user);
        let mut reached = Vec::new();
        for session in presence.active {
            if !self.mover.has_seen(session, push) {
                if !self.host.deliver(session, push, body) {
                    continue;
                }
                self.mover.saw(session, push, self.limits);
            }
            reached.extend(self.mover.reached(session));
        }
        (reached, presence.went)
    }

    /// Puts a question if it has to be put now. False if there is nobody to ask.
    fn question(
        &mut self,
        node: NodeId,
        question: &mut Question,
        last_number: &mut u64,
        ask: impl Fn(u64) -> Ask<P>,
    ) -> bool {
        let to = match self.fleet.standing(node, self.now, self.limits) {
            Standing::Settled(to) | Standing::Unsettled(to) => to,
            Standing::OutOfReach => return true,
            Standing::Nobody => return false,
        };
        let number = match question.sent {
            Some((before, _, again)) if before == to && again > self.now => return true,
            // The same question again: whoever has answered it says the same.
            Some((before, number, _)) if before == to => number,
            _ => {
                *last_number += 1;
                *last_number
            }
        };
        question.sent = Some((to, number, self.now + self.limits.retry));
        self.out.push_back(Action::Send { to, message: Message::Ask(Box::new(ask(number))) });
        true
    }
}
