//! A fleet in which users come, go and move, rings change at each node in its own time, messages are late, lost and come
//! after they were given up, processes die, and those who watch move themselves. Each session has a platform of its own, so
//! that it is known which one somebody was told of.
//!
//! Nobody is told that a session is gone while it is there, nobody is told the same twice, and in the end all know what is
//! true. A failure prints its seed; `RINGSTEER_SEED=<seed>` replays it.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Name, Platforms, Word,
    readers::{LEASE_MS, Readers},
    watching::{Asking, Knows, Surroundings, Watching},
};
use crate::{
    peer::gateways::Incarnation,
    push::round::Went,
    random::Spread,
    ring::{NodeAddress, fixtures},
    seeds::{Place, seeds},
};

const NODES: usize = 4;
const USERS: usize = 5;
const STEPS: usize = 1500;

/// How long a node remembers who went.
const REMEMBERED_MS: u64 = 15_000;

/// A user's session, and where it is.
struct Session {
    user: usize,
    platform: i32,
    at: usize,
    /// Where a copy of it waits.
    copy: Option<usize>,
    /// It has come to where it is, and goes on there in a moment.
    is_silent: bool,
}

/// What is so, apart from what anybody has been told.
struct Facts {
    now_ms: u64,
    latest: usize,
    sessions: Vec<Session>,
    /// The ring that each node follows, and the process that is there.
    epochs: [usize; NODES],
    lives: [i64; NODES],
    /// Of each node, which others it knows to be settled by which ring.
    settled: [BTreeMap<usize, usize>; NODES],
    /// Of each node, whose sessions went somewhere and when.
    went: [Vec<(usize, Went, u64)>; NODES],
    stamp: Cell<u64>,
}

/// What one node sees.
struct View<'a>(&'a Facts, usize);

/// A node's part of what is tested. Those who watch are named by numbers, and so are their answers.
struct Gateway {
    watching: Watching<usize, usize>,
    readers: Readers,
}

/// A question on its way, or its answer.
struct Call {
    from: (usize, i64),
    to: (usize, i64),
    body: Body,
    answer: Option<(Answer, Option<usize>)>,
    /// Nobody waits for the answer any more.
    is_given_up: bool,
}

enum Body {
    Watch(Asking),
    Status { stream: u64, words: Vec<(Name, Word)> },
}

enum Answer {
    Words(Option<Vec<Option<Word>>>),
    Known(bool),
}

/// A session that watches.
struct Watcher {
    at: usize,
    /// What it has been told of whom it watches.
    told: BTreeMap<usize, Option<Platforms>>,
    /// Whom it has asked about, and its question's number; and whether the answer has been made.
    asks: Option<(u64, Vec<usize>, bool)>,
}

struct Simulation {
    random: Spread,
    facts: Facts,
    gateways: Vec<Gateway>,
    calls: Vec<Call>,
    watchers: BTreeMap<usize, Watcher>,
    last_watcher: usize,
    last_platform: i32,
    /// How often what happened: told, gone while somebody watched, moved while somebody watched, calls lost, watchers moved.
    counts: [usize; 5],
}

fn name(user: usize) -> Name {
    format!("user {user}").into_bytes().into()
}

fn number(name: &[u8]) -> usize {
    str::from_utf8(name).unwrap().strip_prefix("user ").unwrap().parse().unwrap()
}

fn node(index: usize) -> NodeAddress {
    fixtures::member(index as u16 + 1, "x:1").address
}

fn owner(user: usize, epoch: usize) -> usize {
    (Spread::new((user * 1000 + epoch) as u64).number() % NODES as u64) as usize
}

fn incarnation(life: i64) -> Incarnation {
    Incarnation { started_ms: life, number: 7 }
}

// === impl Facts ===

impl Facts {
    fn is_settled(&self, node: usize) -> Option<usize> {
        let epoch = self.epochs[node];
        let mut here = self.sessions.iter().filter(|session| session.at == node || session.copy == Some(node));
        here.all(|session| owner(session.user, epoch) == node).then_some(epoch)
    }

    fn platforms(&self, user: usize) -> Platforms {
        self.sessions.iter().filter(|session| session.user == user).map(|session| session.platform).collect()
    }
}

impl Surroundings for View<'_> {
    fn here(&self, user: &[u8]) -> Word {
        let &View(facts, here) = self;
        let user = number(user);
        let stamp = facts.stamp.get() + 1;
        facts.stamp.set(stamp);
        let sessions = facts.sessions.iter().filter(|session| session.user == user);
        let sessions = sessions.filter(|session| session.at == here || session.copy == Some(here));
        let lately = |(other, _, when): &&(usize, Went, u64)| *other == user && facts.now_ms - when < REMEMBERED_MS;
        let went = facts.went[here].iter().filter(lately).map(|(_, went, _)| went.clone()).collect();
        let platforms = sessions.map(|session| session.platform).collect();
        Word { stamp, platforms, went }
    }

    fn places(&self, user: &[u8]) -> Vec<NodeAddress> {
        let &View(facts, here) = self;
        let (user, epoch) = (number(user), facts.epochs[here]);
        let former = (0..epoch).map(|former| owner(user, former));
        let former = former.filter(|other| facts.settled[here].get(other) != Some(&epoch));
        // Nobody takes anybody in by a ring before all others have heard that it follows that one.
        let ahead = (0..NODES).filter(|other| facts.epochs[*other] > epoch);
        let places: BTreeSet<_> =
            former.chain([owner(user, epoch)]).chain(ahead).filter(|other| *other != here).map(node).collect();
        places.into_iter().collect()
    }

    fn is_here(&self, other: NodeAddress) -> bool {
        other == node(self.1)
    }
}

// === impl Simulation ===

impl Simulation {
    fn new(seed: u64) -> Self {
        let facts = Facts {
            now_ms: 0,
            latest: 0,
            sessions: Vec::new(),
            epochs: [0; NODES],
            lives: [1; NODES],
            settled: Default::default(),
            went: Default::default(),
            stamp: Cell::new(0),
        };
        let gateway = || Gateway { watching: Watching::default(), readers: Readers::default() };
        let mut simulation = Self {
            random: Spread::new(seed),
            facts,
            gateways: (0..NODES).map(|_| gateway()).collect(),
            calls: Vec::new(),
            watchers: BTreeMap::new(),
            last_watcher: 0,
            last_platform: 0,
            counts: [0; 5],
        };
        (0..NODES).for_each(|node| simulation.link(node));
        simulation
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.number() % limit as u64) as usize
    }

    /// Something of these, if there is any.
    fn any<T>(&mut self, mut all: Vec<T>) -> Option<T> {
        let place = (!all.is_empty()).then(|| self.below(all.len()))?;
        Some(all.swap_remove(place))
    }

    /// A node has links with all others.
    fn link(&mut self, here: usize) {
        for other in (0..NODES).filter(|other| *other != here) {
            let process = incarnation(self.facts.lives[other]);
            self.at(here, |watching, now_ms, view| watching.linked(node(other), process, now_ms, view));
        }
    }

    /// Does something at a node, and what comes of it.
    fn at<T>(&mut self, here: usize, change: impl FnOnce(&mut Watching<usize, usize>, u64, &View<'_>) -> T) -> T {
        let watching = &mut self.gateways[here].watching;
        let result = change(watching, self.facts.now_ms, &View(&self.facts, here));
        watching.check();
        let out = watching.take();
        for news in out.news {
            for to in news.to {
                self.counts[0] += 1;
                let user = number(&news.user);
                let watcher = &self.watchers[&to];
                assert_eq!(watcher.at, here);
                assert!(
                    !watcher.asks.as_ref().is_some_and(|(_, users, _)| users.contains(&user)),
                    "told before its answer"
                );
                assert_ne!(watcher.told[&user].as_ref(), Some(&news.platforms), "{to} is told of {user} again");
                self.is_told(to, user, &news.platforms);
            }
        }
        result
    }

    fn is_told(&mut self, to: usize, user: usize, platforms: &Platforms) {
        let there = self.facts.platforms(user);
        let told = self.watchers.get_mut(&to).unwrap().told.get_mut(&user).unwrap();
        for lost in told.iter().flatten().filter(|platform| !platforms.contains(platform)) {
            self.counts[1] += 1;
            assert!(!there.contains(lost), "{to} is told that {lost} of {user} is gone");
        }
        assert!(platforms.iter().all(|platform| *platform <= self.last_platform));
        *told = Some(platforms.clone());
    }

    /// Something about a user has changed at a node.
    fn changed(&mut self, here: usize, user: usize) {
        self.at(here, |watching, now_ms, view| watching.changed_here(&name(user), now_ms, view));
        self.gateways[here].readers.changed(&name(user));
        self.gateways[here].readers.check();
    }

    fn follow(&mut self, here: usize) {
        let users: BTreeSet<Name> = self.gateways[here].watching.users().cloned().collect();
        for user in users {
            self.at(here, |watching, now_ms, view| watching.follow(&user, now_ms, view));
        }
    }

    fn step(&mut self) {
        self.facts.now_ms += self.below(8) as u64;
        match self.below(40) {
            0..=3 => self.comes(),
            4..=5 => self.goes(),
            6 if self.facts.latest < 12 && self.below(4) == 0 => self.facts.latest += 1,
            7..=8 => self.follows(),
            9..=14 => self.moves(),
            15 => self.watches(),
            16 => self.watches_no_more(),
            17 => self.watcher_moves(),
            18 if self.below(6) == 0 => self.dies(),
            18 => self.loses(),
            19..=20 => self.answers(),
            _ => self.talks(false),
        }
    }

    fn comes(&mut self) {
        let (user, knows) = (self.below(USERS), self.below(NODES));
        let here = owner(user, self.facts.epochs[knows]);
        // The node has the last word on it.
        if owner(user, self.facts.epochs[here]) == here {
            self.last_platform += 1;
            let platform = self.last_platform;
            self.facts.sessions.push(Session { user, platform, at: here, copy: None, is_silent: false });
            self.changed(here, user);
        }
    }

    fn goes(&mut self) {
        let sessions = &self.facts.sessions;
        let free = (0..sessions.len()).filter(|&index| sessions[index].copy.is_none() && !sessions[index].is_silent);
        if let Some(index) = self.any(free.collect()) {
            let Session { user, at, .. } = self.facts.sessions.remove(index);
            self.changed(at, user);
        }
    }

    fn follows(&mut self) {
        let here = self.below(NODES);
        if self.facts.epochs[here] < self.facts.latest {
            self.facts.epochs[here] += 1;
            (0..NODES).for_each(|node| self.follow(node));
        }
    }

    /// A session moves on by one step.
    fn moves(&mut self) {
        let epochs = self.facts.epochs;
        let sessions = &self.facts.sessions;
        let to = |session: &Session| owner(session.user, epochs[session.at]);
        let moving = (0..sessions.len()).filter(|&index| {
            let session = &sessions[index];
            let may_go = to(session) != session.at && epochs[session.at] == epochs[to(session)];
            session.is_silent || session.copy.is_some() || may_go
        });
        let Some(index) = self.any(moving.collect()) else { return };
        let aborts = self.below(4) == 0;
        let now_ms = self.facts.now_ms;
        let session = &mut self.facts.sessions[index];
        let (user, from) = (session.user, session.at);
        if session.is_silent {
            session.is_silent = false;
            self.changed(from, user);
        } else if let Some(copy) = session.copy.take() {
            if aborts {
                return self.changed(copy, user);
            }
            (session.at, session.is_silent) = (copy, true);
            let time = self.facts.went.iter().map(Vec::len).sum::<usize>() as u32;
            let went = Went { connection: session.platform.to_string().into(), time, to: node(copy) };
            self.facts.went[from].push((user, went, now_ms));
            self.counts[2] += usize::from(self.watchers.values().any(|watcher| watcher.told.contains_key(&user)));
            self.changed(from, user);
        } else {
            session.copy = Some(to(session));
        }
    }

    fn watches(&mut self) {
        let free = |watcher: &Watcher| watcher.asks.is_none();
        let old = self.watchers.iter().filter(|(_, watcher)| free(watcher)).map(|(id, _)| *id).collect();
        let id = match self.below(2) {
            0 if self.watchers.len() < 8 => {
                self.last_watcher += 1;
                let at = self.below(NODES);
                self.watchers.insert(self.last_watcher, Watcher { at, told: BTreeMap::new(), asks: None });
                self.last_watcher
            }
            _ => match self.any(old) {
                Some(id) => id,
                None => return,
            },
        };
        let users: Vec<usize> = (0..=self.below(2)).map(|_| self.below(USERS)).collect();
        let watcher = self.watchers.get_mut(&id).unwrap();
        let at = watcher.at;
        let new: BTreeSet<usize> = users.iter().copied().filter(|user| !watcher.told.contains_key(user)).collect();
        watcher.told.extend(new.iter().map(|user| (*user, None)));
        for user in new {
            let is_watched =
                self.at(at, |watching, now_ms, view| watching.watch(id, &name(user), Knows::Nothing, now_ms, view));
            assert!(is_watched);
        }
        let names: Vec<Name> = users.iter().map(|user| name(*user)).collect();
        let number = self.at(at, |watching, _, _| watching.ask(&id, names.iter().map(|name| &**name), id));
        self.watchers.get_mut(&id).unwrap().asks = Some((number, users, false));
    }

    /// An answer is made, or has arrived.
    fn answers(&mut self) {
        let asking = self.watchers.iter().filter(|(_, watcher)| watcher.asks.is_some()).map(|(id, _)| *id).collect();
        let Some(id) = self.any(asking) else { return };
        let watcher = self.watchers.get_mut(&id).unwrap();
        let (at, (number, users, is_made)) = (watcher.at, watcher.asks.take().unwrap());
        let names: Vec<Name> = users.iter().map(|user| name(*user)).collect();
        let bytes = names.iter().map(|name| &**name);
        if is_made {
            self.at(at, |watching, now_ms, view| watching.answered(&id, bytes, now_ms, view));
        } else {
            let known = self.at(at, |watching, _, _| watching.answer(&id, bytes, number));
            for (user, platforms) in known {
                self.is_told(id, crate::presence::simulation::number(user), &platforms);
            }
            self.watchers.get_mut(&id).unwrap().asks = Some((number, users, true));
        }
    }

    fn watches_no_more(&mut self) {
        let Some(id) = self.any(self.watchers.keys().copied().collect()) else { return };
        let (all, watcher) = (self.below(3) == 0, &self.watchers[&id]);
        if !all && watcher.asks.is_some() {
            return;
        }
        let at = watcher.at;
        let users: Vec<usize> = watcher.told.keys().copied().take(if all { USERS } else { 1 }).collect();
        for user in users {
            self.at(at, |watching, _, _| watching.unwatch(&id, &name(user)));
            self.watchers.get_mut(&id).unwrap().told.remove(&user);
        }
        if all {
            self.watchers.remove(&id);
        }
    }

    /// A session that watches goes to another node, or comes back.
    fn watcher_moves(&mut self) {
        let resting = self.watchers.iter().filter(|(_, watcher)| watcher.asks.is_none()).map(|(id, _)| *id).collect();
        let (Some(id), to) = (self.any(resting), self.below(NODES)) else { return };
        let from = self.watchers[&id].at;
        // Both follow one ring.
        if self.facts.epochs[from] != self.facts.epochs[to] {
            return;
        }
        let users: Vec<usize> = self.watchers[&id].told.keys().copied().collect();
        let mut told = Vec::new();
        for user in users {
            let known = self.at(from, |watching, _, _| watching.unwatch(&id, &name(user)));
            assert_eq!(known, self.watchers[&id].told[&user], "what {id} was told of {user} goes along");
            told.push((user, known));
        }
        // Much may happen while it is on its way.
        for _ in 0..self.below(5) {
            self.talks(false);
        }
        self.watchers.get_mut(&id).unwrap().at = to;
        self.counts[4] += told.len();
        for (user, known) in told {
            self.at(to, |watching, now_ms, view| watching.watch(id, &name(user), Knows::Told(known), now_ms, view));
        }
    }

    /// A process ends, and the next one begins.
    fn dies(&mut self) {
        let here = self.below(NODES);
        let life = self.facts.lives[here];
        self.facts.lives[here] += 1;
        let ended: Vec<_> = self
            .facts
            .sessions
            .extract_if(.., |session| session.at == here)
            .map(|session| (session.user, session.copy))
            .collect();
        self.facts
            .sessions
            .iter_mut()
            .filter(|session| session.copy == Some(here))
            .for_each(|session| session.copy = None);
        for (user, copy) in ended {
            copy.into_iter().for_each(|copy| self.changed(copy, user));
        }
        (self.facts.went[here], self.facts.settled[here]) = Default::default();
        self.gateways[here] = Gateway { watching: Watching::default(), readers: Readers::default() };
        self.watchers.retain(|_, watcher| watcher.at != here);
        while let Some(place) = self.calls.iter().position(|call| [call.from, call.to].contains(&(here, life))) {
            let call = self.calls.swap_remove(place);
            self.fails(call);
        }
        let proven = self.below(2) == 0;
        for other in (0..NODES).filter(|other| *other != here) {
            if proven {
                self.at(other, |watching, now_ms, view| watching.ended(node(here), now_ms, view));
            }
            let process = incarnation(self.facts.lives[here]);
            self.at(other, |watching, now_ms, view| watching.linked(node(here), process, now_ms, view));
            self.gateways[other]
                .readers
                .expire(self.facts.now_ms, |process| process == (node(here), incarnation(life)));
        }
        self.link(here);
    }

    /// A call was in vain, for who made it.
    fn fails(&mut self, call: Call) {
        let ((from, life), to) = (call.from, call.to);
        if call.is_given_up || self.facts.lives[from] != life {
            return;
        }
        match call.body {
            Body::Watch(asking) => {
                self.at(from, |watching, now_ms, _| watching.was_not_answered(node(to.0), asking.stream, now_ms));
            }
            Body::Status { stream, words } => {
                let users = words.into_iter().map(|(user, _)| user).collect();
                self.gateways[from].readers.was_not_told((node(to.0), incarnation(to.1)), stream, users);
            }
        }
    }

    /// A call gets lost on its way there or back, or is waited for in vain and arrives all the same.
    fn loses(&mut self) {
        let Some(place) = (!self.calls.is_empty()).then(|| self.below(self.calls.len())) else { return };
        self.counts[3] += 1;
        let Call { from, to, body, answer, is_given_up } = self.calls.swap_remove(place);
        if answer.is_none() && self.below(2) == 0 {
            let late = match &body {
                Body::Watch(asking) => Body::Watch(asking.clone()),
                Body::Status { stream, words } => Body::Status { stream: *stream, words: words.clone() },
            };
            self.calls.push(Call { from, to, body: late, answer: None, is_given_up: true });
        }
        self.fails(Call { from, to, body, answer, is_given_up });
    }

    /// Somebody says something, or hears it.
    fn talks(&mut self, everything: bool) {
        let (from, to) = (self.below(NODES), self.below(NODES));
        if from != to && self.below(2) == 0 {
            self.calls_at(from, to);
        }
        let count = if everything { self.calls.len() } else { 1 };
        for _ in 0..count {
            let Some(place) = (!self.calls.is_empty()).then(|| self.below(self.calls.len())) else { return };
            let call = self.calls.swap_remove(place);
            self.carries(call);
        }
    }

    /// Asks and tells another node what there is to ask and tell, one thing of each kind at a time.
    fn calls_at(&mut self, from: usize, to: usize) {
        let (here, there) = ((from, self.facts.lives[from]), (to, self.facts.lives[to]));
        let under_way = |calls: &[Call], wanted: fn(&Body) -> bool| {
            calls.iter().any(|call| !call.is_given_up && (call.from, call.to) == (here, there) && wanted(&call.body))
        };
        let mut made = Vec::new();
        if !under_way(&self.calls, |body| matches!(body, Body::Watch(_))) {
            let process = incarnation(there.1);
            made.extend(self.at(from, |watching, now_ms, _| watching.next(node(to), process, now_ms)).map(Body::Watch));
        }
        if !under_way(&self.calls, |body| matches!(body, Body::Status { .. }))
            && let Some((stream, users)) = self.gateways[from].readers.next((node(to), incarnation(there.1)))
        {
            let view = View(&self.facts, from);
            let words = users.into_iter().map(|user| (Name::clone(&user), view.here(&user))).collect();
            made.push(Body::Status { stream, words });
        }
        let call = |body| Call { from: here, to: there, body, answer: None, is_given_up: false };
        self.calls.extend(made.into_iter().map(call));
    }

    fn carries(&mut self, mut call: Call) {
        let ((from, from_life), (to, to_life)) = (call.from, call.to);
        let now_ms = self.facts.now_ms;
        let Some((answer, settled)) = call.answer.take() else {
            if self.facts.lives[to] != to_life {
                return self.fails(call);
            }
            let process = (node(from), incarnation(from_life));
            let answer = match &call.body {
                Body::Watch(Asking { stream, begins, more, fewer }) => {
                    let readers = &mut self.gateways[to].readers;
                    let noted = readers.asked(process, (*stream, *begins), (more, fewer), now_ms);
                    readers.check();
                    let view = View(&self.facts, to);
                    Answer::Words(noted.map(|noted| {
                        more.iter().zip(noted).map(|(user, noted)| noted.then(|| view.here(user))).collect()
                    }))
                }
                Body::Status { stream, words } => {
                    let (stream, words) = (*stream, words.clone());
                    let (who, process) = process;
                    Answer::Known(
                        self.at(to, |watching, now_ms, view| watching.told(who, process, stream, words, now_ms, view)),
                    )
                }
            };
            let settled = self.facts.is_settled(to);
            call.answer = Some((answer, settled));
            return self.calls.push(call);
        };
        if call.is_given_up || self.facts.lives[from] != from_life {
            return;
        }
        if let Some(epoch) = settled
            && self.facts.settled[from].insert(to, epoch) != Some(epoch)
        {
            self.follow(from);
        }
        match (call.body, answer) {
            (Body::Watch(asking), Answer::Words(words)) => {
                self.at(from, |watching, now_ms, view| watching.asked(node(to), asking.stream, words, now_ms, view));
            }
            (Body::Status { stream, .. }, Answer::Known(known)) => {
                if !known {
                    self.gateways[from].readers.wants_no_more((node(to), incarnation(to_life)), stream);
                }
            }
            _ => unreachable!("another answer than was asked for"),
        }
    }

    /// Nothing happens any more, and everything is said.
    fn settle(&mut self) {
        for here in 0..NODES {
            self.facts.epochs[here] = self.facts.latest;
            self.follow(here);
        }
        for _ in 0..40 {
            (0..USERS * 10).for_each(|_| self.moves());
            self.facts.now_ms += 1000;
            for here in 0..NODES {
                self.at(here, |watching, now_ms, view| watching.tick(now_ms, view));
                self.gateways[here].readers.expire(self.facts.now_ms, |_| false);
            }
            for _ in 0..4 {
                (0..NODES * NODES).filter(|pair| pair / NODES != pair % NODES).for_each(|pair| {
                    self.calls_at(pair / NODES, pair % NODES);
                });
                // There and back.
                self.talks(true);
                self.talks(true);
            }
            (0..20).for_each(|_| self.answers());
        }
    }

    fn check(&mut self) {
        for (id, watcher) in &self.watchers {
            for (user, told) in &watcher.told {
                let there = self.facts.platforms(*user);
                assert!(
                    watcher.asks.is_some() || told.as_ref() == Some(&there),
                    "{id} at {} of {user}: {told:?}, {there:?}",
                    watcher.at
                );
                let known = self.gateways[watcher.at].watching.told_of(&name(*user));
                assert_eq!(known, Some(&there));
            }
        }
        while !self.watchers.is_empty() {
            self.watches_no_more();
        }
        // Whoever has not heard that nobody watches any more finds it out in time.
        (0..=LEASE_MS / 40_000).for_each(|_| self.settle());
        assert!(self.gateways.iter().all(|gateway| gateway.watching.is_empty() && gateway.readers.is_empty()));
    }
}

#[test]
fn nobody_notices_a_move_and_in_the_end_all_know_who_is_online() {
    let mut counts = [0; 5];
    for seed in seeds(100) {
        let mut place = Place { seed, step: 0 };
        let mut simulation = Simulation::new(seed);
        for step in 0..STEPS {
            place.step = step;
            simulation.step();
        }
        place.step = STEPS;
        simulation.settle();
        simulation.check();
        counts.iter_mut().zip(simulation.counts).for_each(|(count, more)| *count += more);
    }
    println!(
        "told {}, gone {}, moved {}, lost {}, watchers moved {}",
        counts[0], counts[1], counts[2], counts[3], counts[4]
    );
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}
