//! One push on its way to many users: whom to ask next, and when a user may be called offline. Pure.
//!
//! A node that is asked for a user first looks at its own sessions. Then:
//!
//! * The node where a push comes in asks the user's owner, and that one sees to the rest.
//! * The owner, and every node that was asked by another, asks all others that may have a session of the user: the owner
//!   by its own ring, and the owners by the rings before that have not said that they are settled (that all sessions they
//!   have are theirs by the present ring). Whoever has been asked for this push already is left out, and the number of
//!   hops is limited, so a push does not go round.
//! * What others said and what is here is put together: while a ring changes a user can have sessions on two nodes.
//! * A session may have moved to this node while others were being asked, maybe before this node heard of the ring by
//!   which it is the owner. So this node looks once more in the end.
//! * A session can also cross the questions: the node that it goes to is asked before it is there, the one that it comes
//!   from when it has left. So a node says, beside what became of a push, which sessions went from it to which node lately,
//!   and whoever asked asks there (again), unless the one who asked *them* is in a better place to do so.
//! * A session that took the push on one node and then moves to another must not get it there again. A connection keeps its
//!   name; so the names of those that took it go along, and they are left out. For the same reason the others are asked one
//!   after the other.
//!
//! Who was not reached then is offline. If somebody who may have a session does not answer, nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Outcome, Reached};
use crate::ring::NodeAddress;

/// Hops that a push may make from the node where it came in: to the owner, to an owner before, and some more while not
/// everybody has heard of a new ring and sessions move on.
pub const MAX_HOPS: u8 = 5;

/// Who may have sessions of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The owner; none if that is this node.
    pub owner: Option<NodeAddress>,
    /// Owners by the rings before, other than this node, that are not settled.
    pub former: Vec<NodeAddress>,
}

/// What this node's own sessions made of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// These took it; maybe none is there.
    Took(Vec<Reached>),
    /// There is a session, but it cannot take anything now.
    Busy,
}

/// Users to ask another node for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The node.
    pub node: NodeAddress,
    /// Who has been asked or is being asked, by us or before us: this node need not ask them.
    pub via: Vec<NodeAddress>,
    /// Hops that it may go on from there.
    pub hops: u8,
    /// The indices of the users.
    pub users: Vec<usize>,
}

/// A user, and the connections that have the push already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The user.
    pub user: Vec<u8>,
    /// Names of connections.
    pub except: Vec<Box<str>>,
}

/// A session that went from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Went {
    /// The name of its connection.
    pub connection: Box<str>,
    /// How often it had gone somewhere by then, this time included.
    pub time: u32,
    /// Where to.
    pub to: NodeAddress,
}

/// What is to be done for some users now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Deliver to this node's own sessions; the indices of the users.
    pub local: Vec<usize>,
    /// Ask others.
    pub asks: Vec<Ask>,
}

/// A push that is under way.
#[derive(Clone, Debug)]
pub struct Round {
    users: Vec<User>,
    here: Option<NodeAddress>,
    via: Vec<NodeAddress>,
    hops: u8,
}

#[derive(Clone, Debug)]
struct User {
    wanted: Wanted,
    look: Look,
    reached: Vec<Reached>,
    /// Those who have answered.
    answered: BTreeSet<NodeAddress>,
    /// One of them said that nobody knows.
    unsure: bool,
    /// Moves of sessions that we have heard of.
    went: BTreeSet<Went>,
    /// Nodes to ask, maybe once more, because a session has gone there.
    again: BTreeSet<NodeAddress>,
    /// Moves that those who asked us are to follow.
    passed_back: Vec<Went>,
    outcome: Option<Outcome>,
}

/// Whether our own sessions have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Not yet.
    First,
    /// Yes.
    Done,
    /// They are to be looked at once more.
    Again,
    /// That has been done, too.
    Last,
}

// === impl Steps ===

impl Steps {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.asks.is_empty()
    }
}

// === impl Round ===

impl Round {
    /// A push to `users` at the node `here`, which came over `via`, the nodes asked before, and may go on for so many
    /// hops.
    pub fn new(
        users: impl IntoIterator<Item = Wanted>,
        here: Option<NodeAddress>,
        via: Vec<NodeAddress>,
        hops: u8,
    ) -> Self {
        let user = |wanted| User {
            wanted,
            look: Look::First,
            reached: vec![],
            answered: BTreeSet::new(),
            unsure: false,
            went: BTreeSet::new(),
            again: BTreeSet::new(),
            passed_back: vec![],
            outcome: None,
        };
        Self { users: users.into_iter().map(user).collect(), here, via, hops: hops.min(MAX_HOPS) }
    }

    /// A user.
    pub fn user(&self, index: usize) -> &[u8] {
        &self.users[index].wanted.user
    }

    /// A user, and the connections that have the push by now.
    pub fn wanted(&self, index: usize) -> Wanted {
        let user = &self.users[index];
        let mut wanted = user.wanted.clone();
        wanted.except.extend(user.reached.iter().map(|reached| reached.connection.clone()));
        wanted
    }

    /// Whether a connection of a user has the push already. One without a name never has.
    pub fn has_it(&self, index: usize, connection: &str) -> bool {
        let user = &self.users[index];
        let reached = || user.reached.iter().map(|reached| &reached.connection);
        !connection.is_empty() && user.wanted.except.iter().chain(reached()).any(|name| **name == *connection)
    }

    /// What is to be done now; nothing if all is decided. Every step must be reported before this is called again, by
    /// [`Round::local`], [`Round::answered`] or not at all if it failed: then it comes again.
    pub fn steps(&mut self, places: impl Fn(&[u8]) -> Places) -> Steps {
        let mut steps = Steps::default();
        let mut asks: BTreeMap<(NodeAddress, Vec<NodeAddress>), Vec<usize>> = BTreeMap::new();
        for (index, user) in self.users.iter_mut().enumerate().filter(|(_, user)| user.outcome.is_none()) {
            if matches!(user.look, Look::First | Look::Again) {
                steps.local.push(index);
                continue;
            }
            let Places { owner, former } = places(&user.wanted.user);
            if self.hops == 0 && !user.again.is_empty() {
                // Somebody else has to find it.
                user.again.clear();
                user.unsure = true;
            }
            let mut wanted: Vec<NodeAddress> = match owner {
                _ if self.hops == 0 => vec![],
                // It sees to the rest.
                Some(owner) if self.via.is_empty() => vec![owner],
                owner => owner.into_iter().chain(former).filter(|node| !self.via.contains(node)).collect(),
            };
            wanted.extend(user.again.iter().filter(|node| !wanted.contains(node)).copied().collect::<Vec<_>>());
            let open: Vec<_> = wanted.iter().copied().filter(|node| !user.answered.contains(node)).collect();
            if !open.is_empty() {
                // Who is or was asked for this user by us must not be asked by the others.
                let mut via = [&self.via[..], self.here.as_slice(), &wanted].concat();
                via.extend(&user.answered);
                via.sort_unstable();
                via.dedup();
                // One after the other: a session that takes it at one node and moves on to the next must be known there.
                asks.entry((open[0], via)).or_default().push(index);
                continue;
            }
            if user.look == Look::Done && !user.answered.is_empty() {
                user.look = Look::Again;
                steps.local.push(index);
            } else if !user.reached.is_empty() {
                user.outcome = Some(Outcome::Delivered(std::mem::take(&mut user.reached)));
            } else if user.unsure {
                user.outcome = Some(Outcome::Unknown);
            } else {
                user.outcome = Some(Outcome::Offline);
            }
        }
        let hops = self.hops.saturating_sub(1);
        steps.asks = asks.into_iter().map(|((node, via), users)| Ask { node, via, hops, users }).collect();
        steps
    }

    /// Our own sessions have been looked at.
    pub fn local(&mut self, index: usize, local: Local) {
        let user = &mut self.users[index];
        match local {
            Local::Took(reached) => {
                user.add(reached);
                user.look = if user.look == Look::Again { Look::Last } else { Look::Done };
            }
            Local::Busy => {}
        }
    }

    /// Another node has answered.
    pub fn answered(&mut self, node: NodeAddress, index: usize, outcome: Outcome) {
        let user = &mut self.users[index];
        user.answered.insert(node);
        user.again.remove(&node);
        match outcome {
            Outcome::Delivered(reached) => user.add(reached),
            Outcome::Offline => {}
            Outcome::Unknown => user.unsure = true,
        }
    }

    /// Sessions of a user went from some node, ours or one that was asked, to another one. To be told after what has become
    /// of the push there, and with all that went before that.
    pub fn went(&mut self, index: usize, all: Vec<Went>) {
        for went in all {
            if self.has_it(index, &went.connection) {
                continue;
            }
            let user = &mut self.users[index];
            if !user.went.insert(went.clone()) {
                continue;
            }
            if Some(went.to) == self.here {
                if matches!(user.look, Look::Done | Look::Last) {
                    user.look = Look::Again;
                }
            } else if self.via.contains(&went.to) {
                // It waits for us, or for the one who waits for us: asking it would be waiting for ourselves.
                user.passed_back.push(went);
            } else {
                user.answered.remove(&went.to);
                user.again.insert(went.to);
            }
        }
    }

    /// For each user, what those who asked us are to follow.
    pub fn passed_back(&mut self) -> Vec<Vec<Went>> {
        self.users.iter_mut().map(|user| std::mem::take(&mut user.passed_back)).collect()
    }

    /// The time is over. Every user has an outcome then, in the order in which they were given.
    pub fn finish(self) -> Vec<Outcome> {
        let outcome = |user: User| match user.outcome {
            Some(outcome) => outcome,
            None if user.reached.is_empty() => Outcome::Unknown,
            None => Outcome::Delivered(user.reached),
        };
        self.users.into_iter().map(outcome).collect()
    }
}

impl User {
    /// Notes who took it. Two ways to one node give one answer twice.
    fn add(&mut self, reached: Vec<Reached>) {
        for one in reached {
            let known = |other: &Reached| !one.connection.is_empty() && other.connection == one.connection;
            if !self.reached.iter().any(known) {
                self.reached.push(one);
            }
        }
    }
}

#[cfg(test)]
mod tests;
