//! From the ring object in the store and the nodes that are there to the next ring object. Pure.
//!
//! Every agent of a fleet does this at the same time, and proposes what comes out by compare-and-swap: the store takes
//! one, the others look again. So it does not matter who proposes, and there is no leader. What comes out keeps to
//! this:
//! * a member keeps its number and its place among the others; who is new stands where the natural order of names puts
//!   it (`gw-2` before `gw-10`), the order in which OpenIM's pushers count the pods of a StatefulSet;
//! * a member that vanishes stays for the grace period, at its address and in its state: a node that comes back within
//!   it moves nobody, and there is no new epoch at all. How long it has been gone each agent measures for itself, by
//!   its own clock, from when it saw that; so the clocks of nodes are never compared;
//! * a number rests before it is given again, for flows may still name it: the search for a free one goes round;
//! * nobody being there, or nobody active, makes no ring: then the last one stays;
//! * what a store has lost (a backup played in, an empty one in its place) is written anew from what this node knows,
//!   and epochs go on from there.
//!
//! | file | subject |
//! |---|---|
//! | `places` | who has which address, and who has to give way |
//! | `simulation` | many agents, one store, everything that can go wrong between them |

mod places;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ringsteer_ebpf::layout::node::MAX_NODES;

use super::object::RingObject;
use crate::{
    config::NewRing,
    ring::{Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring},
};

/// A node that is there and can be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What the ring hashes for it. No two candidates have the same.
    pub identity: Identity,
    /// Where packets to it go.
    pub address: NodeAddress,
    /// Whether it takes new users.
    pub state: MemberState,
}

/// What an agent remembers between two looks.
#[derive(Clone, Debug)]
pub struct Reconciler {
    terms: NewRing,
    /// Members that are not there, and since when we know.
    missing: BTreeMap<Identity, Duration>,
    /// The newest object seen, in the store or before.
    known: Option<RingObject>,
}

/// What came of a look.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// What to put into the store in place of what is there.
    pub proposal: Option<Proposal>,
    /// When to look again although nothing has changed.
    pub again: Option<Duration>,
    /// What an operator should know: a sentence each.
    pub complaints: Vec<String>,
}

/// What to put into the store, if what is there is still what was looked at.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The object.
    pub object: RingObject,
    /// Members left out because they are not there. The store should refuse the proposal if one of them is back, where
    /// it can tell.
    pub gone: Vec<Identity>,
}

// === impl Reconciler ===

impl Reconciler {
    /// One that has seen nothing yet, and makes rings on these terms.
    pub fn new(terms: NewRing) -> Self {
        Self { terms, missing: BTreeMap::new(), known: None }
    }

    /// This ring was in force here before. Should the store hold none, or an older one, it is written there.
    pub fn remember(&mut self, ring: Ring) {
        self.learn(&ring.into());
    }

    /// The store was out of sight. Whoever is missing afterwards may have been there meanwhile, so the grace period
    /// begins anew.
    pub fn lost_sight(&mut self) {
        self.missing.clear();
    }

    /// This node was there, at least for a moment since the last look.
    pub fn seen(&mut self, identity: &Identity) {
        self.missing.remove(identity);
    }

    /// Looks at the object in the store, if there is one, and at the nodes that are there. `now` counts from any
    /// instant, and never backwards.
    pub fn look(&mut self, stored: Option<&RingObject>, candidates: &[Candidate], now: Duration) -> Outlook {
        // The same epoch for two rings, after a store has lost some: a higher one decides.
        let twins = match (stored, &self.known) {
            (Some(stored), Some(known)) => {
                stored.ring().epoch() == known.ring().epoch() && stored.name() != known.name()
            }
            _ => false,
        };
        stored.into_iter().for_each(|stored| self.learn(stored));
        let base = self.known.clone();
        let lost = base.as_ref().is_some_and(|base| stored.is_none_or(|stored| stored.name() != base.name()));

        let mut outlook = Outlook::default();
        let candidates = self.admissible(base.as_ref(), candidates, &mut outlook);
        let expired = self.expired(base.as_ref(), &candidates, now, &mut outlook);
        let next = next_members(base.as_ref(), &candidates, &expired, self.terms, &mut outlook);
        let changed = match &base {
            Some(base) => *base.ring().members() != next.members[..],
            None => true,
        };
        if next.members.is_empty() || !(changed || twins) {
            // Nothing is to change, but it may have to be written again.
            outlook.proposal = base.filter(|_| lost && !twins).map(|object| Proposal { object, gone: Vec::new() });
            return outlook;
        }
        let (algorithm, epoch) = match &base {
            Some(base) => (base.ring().algorithm(), Epoch(base.ring().epoch().0.saturating_add(1))),
            None => (self.terms.algorithm, Epoch(1)),
        };
        match Ring::new(epoch, algorithm, next.members) {
            Ok(ring) => {
                let object = RingObject::new(ring, next.next_number);
                outlook.proposal = Some(Proposal { object, gone: next.gone });
            }
            Err(error) => outlook.complaints.push(format!("the nodes there are make no ring: {error}")),
        }
        outlook
    }

    fn learn(&mut self, object: &RingObject) {
        if self.known.as_ref().is_none_or(|known| known.ring().epoch() <= object.ring().epoch()) {
            self.known = Some(object.clone());
        }
    }

    /// The candidates by identity, without those whose name the ring does not allow.
    fn admissible<'a>(
        &self,
        base: Option<&RingObject>,
        candidates: &'a [Candidate],
        outlook: &mut Outlook,
    ) -> BTreeMap<&'a Identity, &'a Candidate> {
        // A ring that has such names already is not taken apart by a node that was configured otherwise.
        let bare_names = self.terms.allow_identities_without_port
            || base.is_some_and(|base| base.ring().members().iter().any(|member| member.identity.port().is_none()));
        let mut admissible = BTreeMap::new();
        for candidate in candidates {
            if bare_names || candidate.identity.port().is_some() {
                admissible.insert(&candidate.identity, candidate);
            } else {
                outlook.complaints.push(format!(
                    "the node at {} calls itself {}, without a port, and is left out: OpenIM's pushers hash \
                     `name:port`; append the port to its `identity`, or set `allow_identities_without_port = true` on \
                     every node",
                    candidate.address, candidate.identity
                ));
            }
        }
        admissible
    }

    /// The members that have been missing for as long as they may be.
    fn expired(
        &mut self,
        base: Option<&RingObject>,
        candidates: &BTreeMap<&Identity, &Candidate>,
        now: Duration,
        outlook: &mut Outlook,
    ) -> BTreeSet<Identity> {
        // Whoever sees nobody, not even itself, sees nothing.
        let members = base.filter(|_| !candidates.is_empty()).map_or(&[][..], |base| base.ring().members());
        let absent: Vec<_> = members
            .iter()
            .map(|member| &member.identity)
            .filter(|identity| !candidates.contains_key(identity))
            .collect();
        self.missing = absent
            .iter()
            .map(|&identity| (identity.clone(), self.missing.get(identity).copied().unwrap_or(now)))
            .collect();
        let grace = Duration::from_secs(self.terms.grace_s.into());
        let mut expired = BTreeSet::new();
        for (identity, &since) in &self.missing {
            let ends = since + grace;
            if ends <= now {
                expired.insert(identity.clone());
            } else {
                outlook.again = Some(outlook.again.map_or(ends, |again| again.min(ends)));
            }
        }
        expired
    }
}

/// What the members become.
struct Next {
    /// In ring order. Empty if there is nothing to make a ring of.
    members: Vec<Member>,
    next_number: MemberNumber,
    gone: Vec<Identity>,
}

fn next_members(
    base: Option<&RingObject>,
    candidates: &BTreeMap<&Identity, &Candidate>,
    expired: &BTreeSet<Identity>,
    terms: NewRing,
    outlook: &mut Outlook,
) -> Next {
    let old = base.map_or(&[][..], |base| base.ring().members());
    let algorithm = base.map_or(terms.algorithm, |base| base.ring().algorithm());
    let first = MemberNumber::new(1).expect("1 is a number");
    let mut numbers = Numbers {
        // Not those of members that go now, either.
        taken: old.iter().map(|member| member.number).collect(),
        next: base.map_or(first, RingObject::next_number),
    };
    let staying: Vec<&Member> = old.iter().filter(|member| !expired.contains(&member.identity)).collect();
    let addresses = places::addresses(&staying, candidates, &mut outlook.complaints);

    let stays = |member: &&&Member| addresses.contains_key(&member.identity);
    let mut members: Vec<Member> = staying
        .iter()
        .filter(stays)
        .map(|member| Member {
            address: addresses[&member.identity],
            state: candidates.get(&member.identity).map_or(member.state, |candidate| candidate.state),
            ..(*member).clone()
        })
        .collect();

    let known: BTreeSet<&Identity> = old.iter().map(|member| &member.identity).collect();
    let mut new: Vec<&Candidate> = candidates
        .values()
        .filter(|candidate| !known.contains(&candidate.identity) && addresses.contains_key(&candidate.identity))
        .copied()
        .collect();
    new.sort_by(|a, b| natural_order(a.identity.as_str(), b.identity.as_str()));
    for candidate in new {
        let room = members.len() < algorithm.max_members();
        let Some(number) = numbers.take().filter(|_| room) else {
            outlook.complaints.push(format!(
                "the ring is full, and {} is left out; `{algorithm}` has room for {} members",
                candidate.identity,
                algorithm.max_members()
            ));
            continue;
        };
        let after =
            |member: &Member| natural_order(member.identity.as_str(), candidate.identity.as_str()) == Ordering::Greater;
        let place = members.iter().position(after).unwrap_or(members.len());
        let Candidate { identity, address, state } = candidate.clone();
        members.insert(place, Member { number, identity, address, state });
    }
    keep_one_active(&mut members, old, candidates);
    let gone = old
        .iter()
        .filter(|member| !addresses.contains_key(&member.identity) && !candidates.contains_key(&member.identity))
        .map(|member| member.identity.clone())
        .collect();
    Next { members, next_number: numbers.next, gone }
}

/// Somebody must own the users: where all are about to leave, those who were active stay so, and where none of them is
/// there any more, all who are.
fn keep_one_active(members: &mut [Member], old: &[Member], candidates: &BTreeMap<&Identity, &Candidate>) {
    let nobody = |members: &[Member]| members.iter().all(|member| member.state == MemberState::Draining);
    if !nobody(members) {
        return;
    }
    let before: HashMap<&Identity, MemberState> = old.iter().map(|member| (&member.identity, member.state)).collect();
    for member in &mut *members {
        member.state = before.get(&member.identity).copied().unwrap_or(member.state);
    }
    if !nobody(members) {
        return;
    }
    for member in members {
        if candidates.contains_key(&member.identity) {
            member.state = MemberState::Active;
        }
    }
}

/// The numbers that are free.
struct Numbers {
    taken: BTreeSet<MemberNumber>,
    next: MemberNumber,
}

impl Numbers {
    /// The next free one, if there is any.
    fn take(&mut self) -> Option<MemberNumber> {
        for _ in 1..MAX_NODES {
            let number = self.next;
            self.next = MemberNumber::new(number.get() + 1).or_else(|_| MemberNumber::new(1)).ok()?;
            if self.taken.insert(number) {
                return Some(number);
            }
        }
        None
    }
}

/// Names as people order them: numbers within them by their value. Equal only if they are the same to the byte.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        match (digits(rest_a), digits(rest_b)) {
            (0, _) | (_, 0) => match (rest_a.split_first(), rest_b.split_first()) {
                (Some((x, after_a)), Some((y, after_b))) if x == y => (rest_a, rest_b) = (after_a, after_b),
                // Runs into the end of one, or a difference; or the same value in two spellings before.
                (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)).then_with(|| a.cmp(b)),
            },
            (length_a, length_b) => {
                let value = |text: &'_ [u8], length: usize| {
                    let zeros = text[..length].iter().take_while(|&&byte| byte == b'0').count();
                    text[zeros..length].to_vec()
                };
                let (x, y) = (value(rest_a, length_a), value(rest_b, length_b));
                match x.len().cmp(&y.len()).then_with(|| x.cmp(&y)) {
                    Ordering::Equal => (rest_a, rest_b) = (&rest_a[length_a..], &rest_b[length_b..]),
                    other => return other,
                }
            }
        }
    }
}
