//! Who may have sessions of a user, by the rings of the last while. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::round::Places;
use crate::ring::{NodeAddress, Ring, RingName};

/// Rings remembered beside the one in force and the one that was published as the one before it: sessions move after a
/// change, and another change may come before they have.
const REMEMBERED: usize = 4;

/// How long a ring is remembered after it was replaced.
const FOR: Duration = Duration::from_secs(600);

/// The rings, and who has said that it is settled. Times count from whenever the caller says.
#[derive(Debug, Default)]
pub struct Rings {
    /// Where this node is.
    here: Option<NodeAddress>,
    present: Option<Ring>,
    previous: Option<Ring>,
    /// Those before, and when they were replaced; the latest first.
    older: VecDeque<(Duration, Ring)>,
    /// When a ring came before which there were some that we have not seen: whoever owned by those may have sessions, and so
    /// everybody may.
    missed: Option<Duration>,
    /// Nodes that have no sessions that are not theirs, by which ring.
    settled: BTreeMap<NodeAddress, RingName>,
}

// === impl Rings ===

impl Rings {
    /// What is in force now.
    pub fn follow(&mut self, here: Option<NodeAddress>, present: &Ring, previous: Option<&Ring>, now: Duration) {
        self.here = here;
        self.previous = previous.cloned();
        let changed = self.present.as_ref().is_some_and(|known| known.name() != present.name());
        // That the one before is another than the one we know means that there were some between them. A gateway that has
        // just begun knows none, and goes by the one before.
        let known = self.present.as_ref().map(Ring::name);
        if changed && known != previous.map(Ring::name) {
            self.missed = Some(now);
        }
        self.missed = self.missed.filter(|since| now.saturating_sub(*since) < FOR);
        if let Some(before) = self.present.replace(present.clone()).filter(|_| changed) {
            self.older.push_front((now, before));
            self.older.truncate(REMEMBERED);
        }
        self.older.retain(|(replaced, _)| now.saturating_sub(*replaced) < FOR);
    }

    /// A node says that it is settled by that ring. Whether that is news.
    pub fn settled(&mut self, node: NodeAddress, ring: RingName) -> bool {
        let is_news = self.settled.insert(node, ring) != Some(ring);
        // There are no more nodes than the rings have.
        let known = |node: &NodeAddress| self.all().any(|ring| ring.members().iter().any(|one| one.address == *node));
        let unknown: Vec<_> = self.settled.keys().filter(|node| !known(node)).copied().collect();
        for node in unknown {
            self.settled.remove(&node);
        }
        is_news
    }

    /// Who may have sessions of `user`; none without a ring. Those who are `ahead` follow a later ring than we know, and
    /// that may give them anybody.
    pub fn places(&self, user: &[u8], ahead: &[NodeAddress]) -> Option<Places> {
        let present = self.present.as_ref()?;
        let name = present.name();
        let owner = present.owner(user).address;
        let mut former: Vec<NodeAddress> = Vec::new();
        let owners = self.all().skip(1).map(|ring| ring.owner(user).address);
        let everybody = self.missed.iter().flat_map(|_| present.members().iter().map(|member| member.address));
        for other in owners.chain(everybody).chain(ahead.iter().copied()) {
            let settled = self.settled.get(&other) == Some(&name) && !ahead.contains(&other);
            if other != owner && Some(other) != self.here && !settled && !former.contains(&other) {
                former.push(other);
            }
        }
        Some(Places { owner: (Some(owner) != self.here).then_some(owner), former })
    }

    /// Whether a node is in the ring in force.
    pub fn is_member(&self, node: NodeAddress) -> bool {
        self.present.iter().any(|ring| ring.members().iter().any(|member| member.address == node))
    }

    fn all(&self) -> impl Iterator<Item = &Ring> {
        self.present.iter().chain(&self.previous).chain(self.older.iter().map(|(_, ring)| ring))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Algorithm, Epoch, fixtures};

    fn node(number: u16) -> NodeAddress {
        fixtures::member(number, "x:1").address
    }

    fn ring(epoch: u64, numbers: &[u16]) -> Ring {
        let members = numbers.iter().map(|&number| fixtures::member(number, &format!("gw-{number}:88"))).collect();
        Ring::new(Epoch(epoch), Algorithm::OpenIm, members).unwrap()
    }

    #[test]
    fn owners_of_the_last_while_may_have_sessions_until_they_are_settled() {
        let mut rings = Rings::default();
        assert_eq!(rings.places(b"u", &[]), None);
        let (one, two, three) = (ring(1, &[1]), ring(2, &[2]), ring(3, &[3]));
        let second = Duration::from_secs;
        rings.follow(Some(node(3)), &one, None, second(0));
        assert_eq!(rings.places(b"u", &[]), Some(Places { owner: Some(node(1)), former: vec![] }));
        rings.follow(Some(node(3)), &two, Some(&one), second(1));
        rings.follow(Some(node(3)), &three, Some(&two), second(2));
        let former = |rings: &Rings| {
            let places = rings.places(b"u", &[]).unwrap();
            assert_eq!(places.owner, None);
            places.former
        };
        assert_eq!(former(&rings), [node(2), node(1)]);
        // By an older ring is not enough.
        rings.settled(node(2), two.name());
        assert_eq!(former(&rings), [node(2), node(1)]);
        rings.settled(node(2), three.name());
        assert_eq!(former(&rings), [node(1)]);
        // The last one but one is forgotten in time; the last one is not.
        rings.follow(Some(node(3)), &three, Some(&two), second(700));
        rings.settled(node(2), two.name());
        assert_eq!(former(&rings), [node(2)]);
        assert!(rings.is_member(node(3)) && !rings.is_member(node(2)));
        // Strangers are not remembered.
        rings.settled(node(9), three.name());
        assert!(!rings.settled.contains_key(&node(9)));
    }

    #[test]
    fn who_follows_a_later_ring_may_have_anybody() {
        let mut rings = Rings::default();
        let (one, known) = (ring(1, &[1]), Duration::ZERO);
        rings.follow(Some(node(1)), &one, None, known);
        rings.settled(node(1), one.name());
        let former = |ahead: &[NodeAddress]| rings.places(b"u", ahead).unwrap().former;
        assert_eq!(former(&[]), []);
        assert_eq!(former(&[node(2), node(1)]), [node(2)]);
        // That it has said of our ring that it was settled by it does not count any more.
        let mut rings = Rings::default();
        rings.follow(Some(node(1)), &ring(2, &[1]), Some(&ring(1, &[2])), known);
        rings.settled(node(2), ring(2, &[1]).name());
        assert_eq!(rings.places(b"u", &[]).unwrap().former, []);
        assert_eq!(rings.places(b"u", &[node(2)]).unwrap().former, [node(2)]);
    }

    #[test]
    fn after_rings_that_were_missed_everybody_may_have_sessions_until_they_are_settled() {
        let mut rings = Rings::default();
        let second = Duration::from_secs;
        let all = |epoch| ring(epoch, &[1, 2, 3, 4]);
        rings.follow(Some(node(1)), &all(1), None, second(0));
        rings.follow(Some(node(1)), &all(2), Some(&all(1)), second(1));
        // Nobody else owned the user.
        let others = |rings: &Rings| rings.places(b"u", &[]).unwrap().former.len();
        let here = rings.places(b"u", &[]).unwrap().owner.is_none();
        assert_eq!(others(&rings), 0);
        let latest = all(5);
        rings.follow(Some(node(1)), &latest, Some(&all(4)), second(2));
        assert_eq!(others(&rings), if here { 3 } else { 2 });
        assert!((1..=4).all(|number| rings.settled(node(number), latest.name())));
        assert!(!rings.settled(node(1), latest.name()), "once is news");
        assert_eq!(others(&rings), 0);
        // It is not for ever, should one never say so.
        rings.follow(Some(node(1)), &all(6), Some(&latest), second(3));
        assert_eq!(others(&rings), if here { 3 } else { 2 });
        rings.follow(Some(node(1)), &all(6), Some(&latest), second(700));
        assert_eq!(others(&rings), 0);
    }
}
