//! Those who watch here, what nodes have said of whom they watch, and what they have been told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use super::source::Asking;
use super::{MAX_NAME, Name, Platforms, Word, source::Source, word::in_order};
use crate::{peer::gateways::Incarnation, ring::NodeAddress};

/// After how long a node that does not answer is believed to have nobody, in milliseconds.
pub const GIVEN_UP_MS: u64 = 10_000;

/// Most users times sessions that watch them.
const MOST: usize = 1 << 20;

/// What is known without asking other nodes.
pub trait Surroundings {
    /// What this node itself says of a user.
    fn here(&self, user: &[u8]) -> Word;

    /// The other nodes that may have sessions of a user, by the ring.
    fn places(&self, user: &[u8]) -> Vec<NodeAddress>;

    /// Whether that is this node.
    fn is_here(&self, node: NodeAddress) -> bool;
}

/// What a session that begins to watch a user knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knows {
    /// Nothing, and an answer will be made for it: it is told nothing until that has been given.
    Nothing,
    /// What it has been told elsewhere; none if that is nothing.
    Told(Option<Platforms>),
}

/// Something that sessions are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News<W> {
    /// Of whom.
    pub user: Name,
    /// Where that user is online now.
    pub platforms: Platforms,
    /// Who is to be told.
    pub to: Vec<W>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Out<W, R> {
    /// To be told, in this order.
    pub news: Vec<News<W>>,
    /// What these wait for is known.
    pub ready: Vec<R>,
    /// For these nodes there may be a question.
    pub nodes: BTreeSet<NodeAddress>,
}

/// Everything about those who watch here. `W` names a session that does; `R` is how somebody hears that an answer can be
/// made.
#[derive(Debug)]
pub struct Watching<W, R> {
    most: usize,
    users: HashMap<Name, Watched<W>>,
    sources: BTreeMap<NodeAddress, Source>,
    /// Answers that wait for something, by number.
    open: BTreeMap<u64, Open<R>>,
    last_open: u64,
    last_stream: u64,
    watches: usize,
    out: Out<W, R>,
}

/// A user who is watched.
#[derive(Debug)]
struct Watched<W> {
    /// Who watches. All know what was told last, but for those of whom something else stands here.
    by: BTreeMap<W, Part>,
    /// What this node said last.
    here: Word,
    /// What others did.
    there: BTreeMap<NodeAddress, Sight>,
    /// What those who watch have been told last; none as long as not everybody has said something.
    told: Option<Platforms>,
    /// Somebody knows something else.
    differ: bool,
    /// Answers that wait until everything is known.
    open: Vec<u64>,
}

/// What one session knows of a user whom it watches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// What was told last, or nothing if nothing was.
    Same,
    /// This, from elsewhere. It is told otherwise when everything is known.
    Other(Platforms),
    /// An answer is on its way to it, with this if it is made already. What comes after it waits.
    Answering(Option<Platforms>),
}

/// What a node has said of a user.
#[derive(Debug, Default)]
struct Sight {
    /// None until it has said something.
    word: Option<Word>,
    /// It has to say it again before it is believed that the user is less online than before.
    is_due: bool,
}

#[derive(Debug)]
struct Open<R> {
    left: usize,
    reply: R,
}

// === impl Sight ===

impl Sight {
    /// Whether it can be relied on.
    fn is_sure(&self) -> bool {
        self.word.is_some() && !self.is_due
    }
}

// === impl Out ===

impl<W, R> Default for Out<W, R> {
    fn default() -> Self {
        Self { news: Vec::new(), ready: Vec::new(), nodes: BTreeSet::new() }
    }
}

// === impl Watching ===

impl<W, R> Default for Watching<W, R> {
    fn default() -> Self {
        Self::at_most(MOST)
    }
}

impl<W, R> Watching<W, R> {
    /// Nobody, and never more than that.
    pub fn at_most(most: usize) -> Self {
        Self {
            most,
            users: HashMap::new(),
            sources: BTreeMap::new(),
            open: BTreeMap::new(),
            last_open: 0,
            last_stream: 0,
            watches: 0,
            out: Out::default(),
        }
    }

    /// What is to be done since this was asked last.
    pub fn take(&mut self) -> Out<W, R> {
        std::mem::take(&mut self.out)
    }

    /// Users who are watched.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &Name> {
        self.users.keys()
    }

    /// Users times sessions that watch them.
    pub fn len(&self) -> usize {
        self.watches
    }

    /// Whether nobody watches.
    pub fn is_empty(&self) -> bool {
        self.watches == 0
    }

    /// How many streams of questions were begun.
    pub fn streams(&self) -> u64 {
        self.last_stream
    }

    /// Whether somebody watches a user.
    pub fn watches(&self, user: &[u8]) -> bool {
        self.users.contains_key(user)
    }
}

impl<W: Ord + Clone, R> Watching<W, R> {
    /// A session wants to be told of a user. False if more is watched already than may be.
    pub fn watch(&mut self, by: W, user: &[u8], knows: Knows, now_ms: u64, around: &impl Surroundings) -> bool {
        let is_known = self.users.get(user).is_some_and(|watched| watched.by.contains_key(&by));
        if user.len() > MAX_NAME || (!is_known && self.watches >= self.most) {
            return false;
        }
        if !self.users.contains_key(user) {
            let name = Name::from(user);
            let watched = Watched {
                by: BTreeMap::new(),
                here: around.here(user),
                there: BTreeMap::new(),
                told: None,
                differ: false,
                open: Vec::new(),
            };
            let mut places: BTreeSet<NodeAddress> = watched.here.went.iter().map(|went| went.to).collect();
            places.extend(around.places(user));
            self.users.insert(Name::clone(&name), watched);
            for node in places {
                self.add_place(&name, node, now_ms, around);
            }
            self.look(&name, now_ms, around);
        }
        let Some(watched) = self.users.get_mut(user) else { unreachable!("inserted above") };
        if watched.by.insert(by.clone(), Part::Answering(None)).is_none() {
            self.watches += 1;
        }
        if let Knows::Told(known) = knows {
            self.begins(&by, user, known, now_ms, around);
        }
        true
    }

    /// A session that knows this of a user is told of what is new from now on.
    fn begins(&mut self, by: &W, user: &[u8], known: Option<Platforms>, now_ms: u64, around: &impl Surroundings) {
        let Some((name, _)) = self.users.get_key_value(user) else { return };
        let name = Name::clone(name);
        let Some(watched) = self.users.get_mut(user) else { return };
        let mut ask_again = false;
        let part = match (known, &watched.told) {
            (None, None) => Part::Same,
            // Where it comes from, more may be known than here, or later words.
            (Some(known), None) => {
                (watched.differ, ask_again) = (true, !known.is_empty());
                Part::Other(known)
            }
            (Some(known), Some(told)) if known.iter().any(|platform| !told.contains(platform)) => {
                (watched.differ, ask_again) = (true, true);
                Part::Other(known)
            }
            (known, Some(told)) => {
                if known.as_ref() != Some(told) {
                    let (user, platforms) = (Name::clone(&name), told.clone());
                    self.out.news.push(News { user, platforms, to: vec![by.clone()] });
                }
                Part::Same
            }
        };
        watched.by.insert(by.clone(), part);
        if ask_again {
            self.ask_again(&name, None);
            self.look(&name, now_ms, around);
        }
    }

    /// It does not want to be told any more. What it has been told, if it has.
    pub fn unwatch(&mut self, by: &W, user: &[u8]) -> Option<Platforms> {
        let (name, watched) = self.users.get_key_value(user)?;
        let name = Name::clone(name);
        let told = watched.told.clone();
        let watched = self.users.get_mut(user)?;
        let part = watched.by.remove(by)?;
        self.watches -= 1;
        if watched.by.is_empty() {
            self.forget(&name);
        }
        match part {
            Part::Same => told,
            Part::Other(platforms) => Some(platforms),
            Part::Answering(platforms) => platforms,
        }
    }

    fn forget(&mut self, user: &Name) {
        let Some(watched) = self.users.remove(user) else { return };
        for node in watched.there.into_keys() {
            self.no_place(user, node);
        }
        for number in watched.open {
            self.is_known(number);
        }
    }

    /// A session wants an answer about users whom it watches: `reply` is among what is ready once all are known. It is told
    /// nothing of them until [`Watching::answered`]. Gives the answer a number.
    pub fn ask<'a>(&mut self, by: &W, users: impl IntoIterator<Item = &'a [u8]>, reply: R) -> u64 {
        self.last_open += 1;
        let number = self.last_open;
        let mut left = 0;
        for user in users {
            let Some(watched) = self.users.get_mut(user) else { continue };
            let Some(part) = watched.by.get_mut(by) else { continue };
            let is_known = watched.told.is_some() && !matches!(part, Part::Other(_));
            *part = match std::mem::replace(part, Part::Same) {
                Part::Same => Part::Answering(watched.told.clone()),
                Part::Other(platforms) => Part::Answering(Some(platforms)),
                answering @ Part::Answering(_) => answering,
            };
            if !is_known && watched.open.last() != Some(&number) {
                watched.open.push(number);
                left += 1;
            }
        }
        match left {
            0 => self.out.ready.push(reply),
            left => _ = self.open.insert(number, Open { left, reply }),
        }
        number
    }

    /// The answer of that number is made now: what is known of these users, in their order.
    pub fn answer<'a>(
        &mut self,
        by: &W,
        users: impl IntoIterator<Item = &'a [u8]>,
        number: u64,
    ) -> Vec<(&'a [u8], Platforms)> {
        self.open.remove(&number);
        let mut known = Vec::new();
        for user in users {
            let Some(watched) = self.users.get_mut(user) else { continue };
            watched.open.retain(|other| *other != number);
            let (Some(Part::Answering(given)), Some(told)) = (watched.by.get_mut(by), &watched.told) else { continue };
            let is_less = given.iter().flatten().any(|platform| !told.contains(platform));
            if !is_less || watched.there.values().all(Sight::is_sure) {
                *given = Some(told.clone());
                known.push((user, told.clone()));
            }
        }
        known
    }

    /// It has been given. What has changed since is told.
    pub fn answered<'a>(
        &mut self,
        by: &W,
        users: impl IntoIterator<Item = &'a [u8]>,
        now_ms: u64,
        around: &impl Surroundings,
    ) {
        for user in users {
            let part = self.users.get_mut(user).and_then(|watched| watched.by.get_mut(by));
            let Some(Part::Answering(given)) = part else { continue };
            let given = given.take();
            self.begins(by, user, given, now_ms, around);
        }
    }

    /// Something one of the answers waits for is known, or nobody wants to know it any more.
    fn is_known(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.left -= 1;
            if open.left == 0
                && let Some(open) = self.open.remove(&number)
            {
                self.out.ready.push(open.reply);
            }
        }
    }

    /// Something has changed here.
    pub fn changed_here(&mut self, user: &[u8], now_ms: u64, around: &impl Surroundings) {
        if let Some((name, _)) = self.users.get_key_value(user) {
            let name = Name::clone(name);
            self.look(&name, now_ms, around);
        }
    }

    /// The ring may say something else of where this user may be.
    pub fn follow(&mut self, user: &Name, now_ms: u64, around: &impl Surroundings) {
        let Some(watched) = self.users.get(user) else { return };
        let mut places: BTreeSet<NodeAddress> = around.places(user).into_iter().collect();
        let words = watched.there.values().filter_map(|sight| sight.word.as_ref()).chain([&watched.here]);
        places.extend(words.flat_map(|word| word.went.iter().map(|went| went.to)));
        // Whoever has the user, or has still to say so, stays: a later ring than we know may have brought a session there.
        let is_done = |sight: &Sight| sight.is_sure() && sight.word.iter().all(|word| word.platforms.is_empty());
        let gone = watched.there.iter().filter(|(node, sight)| !places.contains(node) && is_done(sight));
        let gone: Vec<_> = gone.map(|(node, _)| *node).collect();
        for &node in &places {
            self.add_place(user, node, now_ms, around);
        }
        for node in gone {
            if let Some(watched) = self.users.get_mut(user) {
                watched.there.remove(&node);
            }
            self.no_place(user, node);
        }
        self.look(user, now_ms, around);
    }

    /// A node may have sessions of a user.
    fn add_place(&mut self, user: &Name, node: NodeAddress, now_ms: u64, around: &impl Surroundings) {
        let Some(watched) = self.users.get_mut(user) else { return };
        // Here is looked whenever something is heard.
        if watched.there.contains_key(&node) || around.is_here(node) {
            return;
        }
        let source = self.sources.entry(node).or_insert_with(|| Source::new(now_ms));
        let sight = match source.is_given_up {
            true => Sight { word: Some(Word::default()), is_due: false },
            false => Sight { word: None, is_due: true },
        };
        watched.there.insert(node, sight);
        source.users += 1;
        source.ask_for(Name::clone(user));
        self.out.nodes.insert(node);
    }

    /// A node is not asked about a user any more.
    fn no_place(&mut self, user: &Name, node: NodeAddress) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.ask_no_more(user);
            source.users -= 1;
            self.out.nodes.insert(node);
        }
    }

    /// Every node that may have sessions of a user, but that one, has to be asked once more.
    fn ask_again(&mut self, user: &Name, but: Option<NodeAddress>) {
        let nodes: Vec<_> =
            self.users.get(user).into_iter().flat_map(|watched| watched.there.keys()).copied().collect();
        for node in nodes.into_iter().filter(|node| Some(*node) != but) {
            self.ask_this_again(user, node);
        }
    }

    fn ask_this_again(&mut self, user: &Name, node: NodeAddress) {
        let sight = self.users.get_mut(user).and_then(|watched| watched.there.get_mut(&node));
        let (Some(sight), Some(source)) = (sight, self.sources.get_mut(&node)) else { return };
        sight.is_due = !source.is_given_up;
        source.ask_for(Name::clone(user));
        self.out.nodes.insert(node);
    }

    /// Something was said of a user, by that node or else by this one: others have to be asked who may have what is missing
    /// now.
    fn compare(
        &mut self,
        user: &Name,
        who: Option<NodeAddress>,
        (former, word): (&Word, &Word),
        now_ms: u64,
        around: &impl Surroundings,
    ) {
        // Also if an earlier one went there and it has been asked since: each has to be followed.
        let new: BTreeSet<NodeAddress> =
            word.went.iter().filter(|went| !former.went.contains(went)).map(|went| went.to).collect();
        for node in new.into_iter().filter(|node| Some(*node) != who) {
            self.add_place(user, node, now_ms, around);
            self.ask_this_again(user, node);
        }
        if word.is_less_than(former) {
            self.ask_again(user, who);
        }
    }

    /// Looks at a user: tells those who watch if they do not know how it is.
    fn look(&mut self, user: &Name, now_ms: u64, around: &impl Surroundings) {
        let Some(watched) = self.users.get_mut(user) else { return };
        let here = around.here(user);
        let former = std::mem::replace(&mut watched.here, here.clone());
        self.compare(user, None, (&former, &here), now_ms, around);
        let Some(watched) = self.users.get_mut(user) else { return };
        let is_whole = watched.there.values().all(Sight::is_sure);
        let mut platforms = here.platforms;
        for word in watched.there.values().filter_map(|sight| sight.word.as_ref()) {
            word.add_to(&mut platforms);
        }
        match &watched.told {
            _ if is_whole => {}
            // What is missing may be on its way.
            Some(told) => platforms.extend_from_slice(told),
            None => return,
        }
        let platforms = in_order(platforms);
        let is_new = watched.told.as_ref() != Some(&platforms);
        if is_new {
            watched.told = Some(platforms.clone());
        }
        let mut to = Vec::new();
        if is_new || (is_whole && watched.differ) {
            watched.differ = false;
            for (by, part) in &mut watched.by {
                match part {
                    Part::Answering(_) => {}
                    Part::Same if !is_new => {}
                    Part::Other(known) if !is_whole && known.iter().any(|platform| !platforms.contains(platform)) => {
                        watched.differ = true;
                    }
                    Part::Other(known) if *known == platforms => *part = Part::Same,
                    Part::Other(_) | Part::Same => {
                        *part = Part::Same;
                        to.push(by.clone());
                    }
                }
            }
        }
        let open = if is_whole { std::mem::take(&mut watched.open) } else { vec![] };
        if !to.is_empty() {
            self.out.news.push(News { user: Name::clone(user), platforms, to });
        }
        for number in open {
            self.is_known(number);
        }
    }

    /// A node has said something of a user, as the answer to a question or by itself.
    fn heard(&mut self, node: NodeAddress, user: &Name, word: Word, now_ms: u64, around: &impl Surroundings) {
        let Some(sight) = self.users.get_mut(user).and_then(|watched| watched.there.get_mut(&node)) else { return };
        let former = sight.word.clone().unwrap_or_default();
        if sight.word.is_none() || word.stamp >= former.stamp {
            sight.word = Some(word.clone());
            self.compare(user, Some(node), (&former, &word), now_ms, around);
        }
        self.look(user, now_ms, around);
    }

    /// The next question for a node's process, if there is one and a link.
    pub fn next(&mut self, node: NodeAddress, process: Incarnation, now_ms: u64) -> Option<Asking> {
        let source = self.sources.get_mut(&node).filter(|source| source.process == Some(process))?;
        source.next(&mut self.last_stream, now_ms)
    }

    /// A question has been answered, with a word on each of its users whom the node will tell us of; or with none if it does
    /// not know the stream.
    pub fn asked(
        &mut self,
        node: NodeAddress,
        stream: u64,
        words: Option<Vec<Option<Word>>>,
        now_ms: u64,
        around: &impl Surroundings,
    ) {
        let Some(source) = self.sources.get_mut(&node) else { return };
        let Some(users) = source.answered(stream) else { return };
        self.out.nodes.insert(node);
        let Some(words) = words.filter(|words| words.len() == users.len()) else { return self.begin_again(node) };
        for (user, word) in users.iter().zip(words) {
            let Some(source) = self.sources.get_mut(&node) else { return };
            let Some(word) = word else {
                if self.users.get(user).is_some_and(|watched| watched.there.contains_key(&node)) {
                    source.refused(Name::clone(user));
                }
                continue;
            };
            // If it has to be asked again, this answer came too early.
            let is_due = source.more.contains(user);
            if let Some(sight) = self.users.get_mut(user).and_then(|watched| watched.there.get_mut(&node)) {
                sight.is_due = is_due;
                self.heard(node, user, word, now_ms, around);
            }
        }
    }

    /// A question was not answered. It may have arrived.
    pub fn was_not_answered(&mut self, node: NodeAddress, stream: u64, now_ms: u64) {
        let Some(source) = self.sources.get_mut(&node).filter(|source| source.has_stream(stream)) else { return };
        source.silent_since_ms.get_or_insert(now_ms);
        self.begin_again(node);
    }

    fn begin_again(&mut self, node: NodeAddress) {
        let at_node = self.users.iter().filter(|(_, watched)| watched.there.contains_key(&node));
        let all = at_node.map(|(name, _)| Name::clone(name)).collect();
        if let Some(source) = self.sources.get_mut(&node) {
            source.begin_again(all);
            self.out.nodes.insert(node);
        }
    }

    /// A node tells us of changes, in a stream of ours. False if that is not the present one.
    pub fn told(
        &mut self,
        node: NodeAddress,
        process: Incarnation,
        stream: u64,
        words: Vec<(Name, Word)>,
        now_ms: u64,
        around: &impl Surroundings,
    ) -> bool {
        let is_it = |source: &&mut Source| source.process == Some(process) && source.has_stream(stream);
        if self.sources.get_mut(&node).filter(is_it).is_none() {
            return false;
        }
        for (user, word) in words {
            if let Some((name, _)) = self.users.get_key_value(&*user) {
                let name = Name::clone(name);
                self.heard(node, &name, word, now_ms, around);
            }
        }
        true
    }

    /// There is a link with that process.
    pub fn linked(&mut self, node: NodeAddress, process: Incarnation, now_ms: u64, around: &impl Surroundings) {
        let source = self.sources.entry(node).or_insert_with(|| Source::new(now_ms));
        if source.process != Some(process) {
            if source.process.is_some() {
                self.has_nobody(node, now_ms, around);
            }
            self.begin_again(node);
        }
        if let Some(source) = self.sources.get_mut(&node) {
            source.process = Some(process);
            source.linked(true, now_ms);
            self.out.nodes.insert(node);
        }
    }

    /// There is none.
    pub fn unlinked(&mut self, node: NodeAddress, now_ms: u64) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.linked(false, now_ms);
        }
    }

    /// The node's process has ended, and no other has begun.
    pub fn ended(&mut self, node: NodeAddress, now_ms: u64, around: &impl Surroundings) {
        self.unlinked(node, now_ms);
        if self.sources.get(&node).is_some_and(|source| !source.is_given_up) {
            self.give_up(node, now_ms, around);
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_ms: u64, around: &impl Surroundings) {
        let is_over = |source: &Source| {
            let silent_since = source.silent_since_ms.filter(|_| source.users > 0 && !source.is_given_up);
            silent_since.is_some_and(|since| now_ms.saturating_sub(since) >= GIVEN_UP_MS)
        };
        let over: Vec<_> = self.sources.iter().filter(|(_, source)| is_over(source)).map(|(node, _)| *node).collect();
        for node in over {
            self.give_up(node, now_ms, around);
        }
    }

    fn give_up(&mut self, node: NodeAddress, now_ms: u64, around: &impl Surroundings) {
        if let Some(source) = self.sources.get_mut(&node) {
            source.is_given_up = true;
            self.begin_again(node);
            self.has_nobody(node, now_ms, around);
        }
    }

    /// A node is believed to have no sessions.
    fn has_nobody(&mut self, node: NodeAddress, now_ms: u64, around: &impl Surroundings) {
        let at_node = self.users.iter().filter(|(_, watched)| watched.there.contains_key(&node));
        let all: BTreeSet<Name> = at_node.map(|(name, _)| Name::clone(name)).collect();
        for user in all {
            let sight = self.users.get_mut(&user).and_then(|watched| watched.there.get_mut(&node));
            let Some(sight) = sight else { continue };
            let was_due = std::mem::take(&mut sight.is_due);
            let nobody = Word::default();
            let former = sight.word.replace(nobody.clone()).unwrap_or_default();
            if was_due || nobody.is_less_than(&former) {
                // Where its sessions went only the ring can say now.
                self.ask_again(&user, Some(node));
            }
            self.look(&user, now_ms, around);
        }
    }

    /// Panics if something does not fit together.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.watches, self.users.values().map(|watched| watched.by.len()).sum::<usize>());
        for (node, source) in &self.sources {
            let at_node = self.users.values().filter(|watched| watched.there.contains_key(node)).count();
            assert_eq!(source.users, at_node);
            assert!(source.more.iter().all(|user| self.users[user].there.contains_key(node)));
        }
        for (user, watched) in &self.users {
            assert!(!watched.by.is_empty());
            let waits = |number: &u64| self.open.contains_key(number);
            assert!(watched.open.iter().all(waits));
            let other = watched.by.values().any(|part| matches!(part, Part::Other(_)));
            let is_sure = watched.told.is_some() && watched.there.values().all(Sight::is_sure);
            assert!(!is_sure || (!other && watched.open.is_empty()), "what is known has been told to {user:?}'s");
            assert!(watched.differ || !other);
        }
    }

    /// What was told last of a user.
    #[cfg(test)]
    pub(super) fn told_of(&self, user: &[u8]) -> Option<&Platforms> {
        self.users.get(user)?.told.as_ref()
    }
}

#[cfg(test)]
mod tests;
