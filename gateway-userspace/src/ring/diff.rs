//! How far two rings differ: what a fleet loses when two of its parts each compute a ring of their own, and what a
//! change of one ring moves.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use super::{Algorithm, Identity, Member, MemberNumber, Precision, Ring, sections};

/// What tells two rings apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// The share of all users, from 0 to 1, whose owner in the one ring is another node than in the other.
    pub share: f64,
    /// How the shares were found.
    pub precision: Precision,
    /// By what the members of one ring were known again in the other.
    pub pairing: Pairing,
    /// The two algorithms.
    pub algorithms: [Algorithm; 2],
    /// Members of the second ring only, in its order.
    pub added: Vec<Member>,
    /// Members of the first ring only, in its order.
    pub removed: Vec<Member>,
    /// Members of both that are not alike in both, in the order of the first.
    pub changed: Vec<Changed>,
    /// Whether the members of both stand in another order, which decides who owns a point that two of them claim.
    pub reordered: bool,
    /// From whom the users go to whom, the largest share first.
    pub moves: Vec<Move>,
}

/// By what a member of one ring is known again in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// By the identity.
    Identity,
    /// By the identity without its port: the rings spell the same nodes differently.
    Name,
    /// By the place in the list, since nothing in one list is like anything in the other.
    Place,
}

/// A member that both rings have, and what it is in each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Changed {
    /// In the first.
    pub before: Member,
    /// In the second.
    pub after: Member,
}

/// Users who are one member's in the first ring and another's in the second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Move {
    /// Their owner in the first.
    pub from: Identity,
    /// Their owner in the second.
    pub to: Identity,
    /// The share of all users, from 0 to 1, that they are.
    pub share: f64,
}

// === impl Diff ===

impl Diff {
    /// What leads from ring `a` to ring `b`. Takes up to a few seconds if one of them can only be measured.
    pub fn between(a: &Ring, b: &Ring) -> Self {
        Self::of(a, b, &Tally::of(a, b))
    }

    /// [`Self::between`], with the users counted already.
    pub(super) fn of(a: &Ring, b: &Ring, tally: &Tally) -> Self {
        let Pairs { pairing, of_a } = Pairs::between(a.members(), b.members());
        let paired: HashSet<usize> = of_a.iter().flatten().copied().collect();
        let both: Vec<(usize, usize)> = of_a.iter().enumerate().filter_map(|(a, b)| Some((a, (*b)?))).collect();

        let mut moved = tally.0.clone();
        moved.retain(|&(from, to), _| of_a[from] != Some(to));
        let share = sections::share(moved.values().sum());
        let mut moves: Vec<_> = moved
            .into_iter()
            .map(|((from, to), width)| Move {
                from: a.members()[from].identity.clone(),
                to: b.members()[to].identity.clone(),
                share: sections::share(width),
            })
            .collect();
        // Stable: equal ones stay in ring order.
        moves.sort_by(|one, other| other.share.total_cmp(&one.share));

        let alone = |members: &[Member], known: &dyn Fn(usize) -> bool| {
            let alone = members.iter().enumerate().filter(|(place, _)| !known(*place));
            alone.map(|(_, member)| member.clone()).collect()
        };
        Self {
            share,
            precision: a.algorithm().precision().max(b.algorithm().precision()),
            pairing,
            algorithms: [a.algorithm(), b.algorithm()],
            added: alone(b.members(), &|place| paired.contains(&place)),
            removed: alone(a.members(), &|place| of_a[place].is_some()),
            changed: both
                .iter()
                .map(|&(before, after)| (&a.members()[before], &b.members()[after]))
                .filter(|(before, after)| before != after)
                .map(|(before, after)| Changed { before: before.clone(), after: after.clone() })
                .collect(),
            reordered: !both.is_sorted_by_key(|&(_, after)| after),
            moves,
        }
    }

    /// Whether nothing tells the rings apart, their epochs perhaps excepted.
    pub fn is_empty(&self) -> bool {
        let [a, b] = self.algorithms;
        let members = self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && !self.reordered;
        members && a == b && self.share == 0.0
    }
}

/// How many hashes, of 2³², have the owner at this place of one ring and at that place of another.
pub(super) struct Tally(BTreeMap<(usize, usize), u64>);

// === impl Tally ===

impl Tally {
    pub(super) fn of(a: &Ring, b: &Ring) -> Self {
        let mut tally = BTreeMap::new();
        for section in sections::sections(&[a, b]) {
            let places = (a.place_of_hash(section.hash), b.place_of_hash(section.hash));
            *tally.entry(places).or_default() += section.width;
        }
        Self(tally)
    }

    /// The shares of the members of both rings, each in ring order.
    pub(super) fn shares(&self, a: &Ring, b: &Ring) -> [Vec<(MemberNumber, f64)>; 2] {
        let mut owned = [vec![0; a.members().len()], vec![0; b.members().len()]];
        for (&(from, to), width) in &self.0 {
            owned[0][from] += width;
            owned[1][to] += width;
        }
        let [of_a, of_b] = owned;
        [sections::shares(a, &of_a), sections::shares(b, &of_b)]
    }
}

/// Which members of two rings are the same nodes.
struct Pairs {
    pairing: Pairing,
    /// For each place in the first list the one in the second.
    of_a: Vec<Option<usize>>,
}

// === impl Pairs ===

impl Pairs {
    fn between(a: &[Member], b: &[Member]) -> Self {
        let by_identity = matching(a, b, |member| member.identity.as_str());
        // Two gateways on one host, told apart by their ports, cannot be known by the host's name.
        if names_are_unique(a) && names_are_unique(b) {
            let by_name = matching(a, b, |member| member.identity.name());
            if by_name != by_identity {
                return Self { pairing: Pairing::Name, of_a: by_name };
            }
        }
        if by_identity.iter().any(Option::is_some) {
            return Self { pairing: Pairing::Identity, of_a: by_identity };
        }
        Self { pairing: Pairing::Place, of_a: (0..a.len()).map(|place| (place < b.len()).then_some(place)).collect() }
    }
}

/// Where in `b` the member of `a` stands that has the same `trait_of`, which no two members of one list share.
fn matching<'a>(a: &'a [Member], b: &'a [Member], trait_of: impl Fn(&'a Member) -> &'a str) -> Vec<Option<usize>> {
    let places: HashMap<&str, usize> = b.iter().enumerate().map(|(place, member)| (trait_of(member), place)).collect();
    a.iter().map(|member| places.get(trait_of(member)).copied()).collect()
}

fn names_are_unique(members: &[Member]) -> bool {
    let mut seen = HashSet::new();
    members.iter().all(|member| seen.insert(member.identity.name()))
}

#[cfg(test)]
mod tests;
