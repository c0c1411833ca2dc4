//! Single cases, and a fleet in which sessions move while a push goes round.

use proptest::prelude::*;

use super::*;
use crate::ring::fixtures;

fn node(number: u16) -> NodeAddress {
    fixtures::member(number, "x:1").address
}

/// A connection that is called as its platform.
fn reached(platform: i32) -> Reached {
    Reached { connection: format!("c{platform}").into(), platform, background: false }
}

fn wanted() -> [Wanted; 1] {
    [Wanted { user: b"u".to_vec(), except: vec![] }]
}

fn took(platforms: &[i32]) -> Local {
    Local::Took(platforms.iter().copied().map(reached).collect())
}

fn one(here: u16, via: &[u16], hops: u8) -> Round {
    Round::new(wanted(), Some(node(here)), via.iter().copied().map(node).collect(), hops)
}

fn owned_by(owner: u16, former: &[u16]) -> impl Fn(&[u8]) -> Places {
    let places = Places { owner: Some(node(owner)), former: former.iter().copied().map(node).collect() };
    move |_| places.clone()
}

fn owned_here(former: &[u16]) -> impl Fn(&[u8]) -> Places {
    let places = Places { owner: None, former: former.iter().copied().map(node).collect() };
    move |_| places.clone()
}

fn local() -> Steps {
    Steps { local: vec![0], asks: vec![] }
}

/// The only ask among the steps.
fn ask(steps: Steps) -> Ask {
    assert!(steps.local.is_empty() && steps.asks.len() == 1, "{steps:?}");
    steps.asks.into_iter().next().unwrap()
}

#[test]
fn a_user_of_ours_in_a_quiet_ring_costs_one_look() {
    for (platforms, outcome) in [(&[5][..], Outcome::Delivered(vec![reached(5)])), (&[][..], Outcome::Offline)] {
        let mut round = one(1, &[], MAX_HOPS);
        assert_eq!(round.steps(owned_here(&[])), local());
        round.local(0, took(platforms));
        assert!(round.steps(owned_here(&[])).is_empty());
        assert_eq!(round.finish(), [outcome]);
    }
}

#[test]
fn where_a_push_comes_in_the_owner_is_asked_and_no_one_else() {
    let mut round = one(1, &[], MAX_HOPS);
    assert_eq!(round.steps(owned_by(2, &[3])), local());
    round.local(0, took(&[]));
    let ask = ask(round.steps(owned_by(2, &[3])));
    assert_eq!((ask.node, ask.hops, ask.via), (node(2), MAX_HOPS - 1, vec![node(1), node(2)]));
    // It does not answer: it is asked again.
    assert_eq!(round.steps(owned_by(2, &[3])).asks.len(), 1);
    round.answered(node(2), 0, Outcome::Delivered(vec![reached(1)]));
    assert_eq!(round.steps(owned_by(2, &[3])), local());
    round.local(0, took(&[]));
    assert!(round.steps(owned_by(2, &[3])).is_empty());
    assert_eq!(round.finish(), [Outcome::Delivered(vec![reached(1)])]);
}

#[test]
fn the_owner_asks_the_one_before_and_looks_once_more() {
    let mut round = one(2, &[1], 2);
    assert_eq!(round.steps(owned_here(&[3])), local());
    round.local(0, took(&[]));
    let ask = ask(round.steps(owned_here(&[3])));
    assert_eq!((ask.node, ask.hops, ask.via), (node(3), 1, vec![node(1), node(2), node(3)]));
    round.answered(node(3), 0, Outcome::Offline);
    // It has come here meanwhile.
    assert_eq!(round.steps(owned_here(&[3])), local());
    round.local(0, took(&[2]));
    assert!(round.steps(owned_here(&[3])).is_empty());
    assert_eq!(round.finish(), [Outcome::Delivered(vec![reached(2)])]);
}

#[test]
fn sessions_on_two_nodes_are_both_reached() {
    let mut round = one(2, &[], MAX_HOPS);
    round.steps(owned_here(&[3]));
    round.local(0, took(&[5]));
    let ask = ask(round.steps(owned_here(&[3])));
    // It need not give it to the one that has it.
    assert_eq!(round.wanted(0).except, ["c5".into()]);
    round.answered(ask.node, 0, Outcome::Delivered(vec![reached(1)]));
    // The other one may move here meanwhile: it is not to get it twice.
    assert_eq!(round.steps(owned_here(&[3])), local());
    assert!(round.has_it(0, "c5") && round.has_it(0, "c1") && !round.has_it(0, "c2") && !round.has_it(0, ""));
    round.local(0, took(&[2]));
    assert!(round.steps(owned_here(&[3])).is_empty());
    assert_eq!(round.finish(), [Outcome::Delivered(vec![reached(5), reached(1), reached(2)])]);
}

#[test]
fn silence_is_not_offline() {
    let mut round = one(2, &[], MAX_HOPS);
    round.steps(owned_here(&[3]));
    round.local(0, took(&[]));
    assert_eq!(ask(round.steps(owned_here(&[3]))).node, node(3));
    assert_eq!(round.clone().finish(), [Outcome::Unknown]);
    // Nor is it if the other one does not know.
    round.answered(node(3), 0, Outcome::Unknown);
    assert_eq!(round.steps(owned_here(&[3])), local());
    round.local(0, took(&[]));
    assert!(round.steps(owned_here(&[3])).is_empty());
    assert_eq!(round.finish(), [Outcome::Unknown]);

    let mut busy = one(2, &[], MAX_HOPS);
    assert_eq!(busy.steps(owned_here(&[])), local());
    busy.local(0, Local::Busy);
    assert_eq!(busy.steps(owned_here(&[])), local());
    assert_eq!(busy.finish(), [Outcome::Unknown]);
}

#[test]
fn a_push_does_not_go_round() {
    // Two nodes that take each other for the owner.
    let mut round = one(2, &[1], 2);
    round.steps(owned_by(1, &[]));
    round.local(0, took(&[]));
    assert!(round.steps(owned_by(1, &[])).is_empty());
    assert_eq!(round.finish(), [Outcome::Offline]);
    // And no hops left.
    let mut round = one(2, &[1], 0);
    round.steps(owned_by(3, &[4]));
    round.local(0, took(&[]));
    assert!(round.steps(owned_by(3, &[4])).is_empty());
}

/// A fleet in which the ring has changed from node 2 to node 3 for one user. Nodes learn of it when the script says, and
/// each session moves when the script says.
struct Fleet {
    /// Whether nodes 1, 2 and 3 have heard.
    heard: [bool; 3],
    /// The sessions, each at node 2 or 3, and how often the push has reached it.
    sessions: Vec<(u16, u32)>,
    script: std::vec::IntoIter<u8>,
}

impl Fleet {
    fn places(&self, at: u16) -> Places {
        let new = self.heard[usize::from(at) - 1];
        let (owner, former) = if new { (3, vec![2]) } else { (2, vec![]) };
        Places {
            owner: (owner != at).then(|| node(owner)),
            former: former.iter().copied().filter(|&other| other != at).map(node).collect(),
        }
    }

    /// Something happens somewhere.
    fn happen(&mut self) {
        match self.script.next() {
            Some(what @ 0..3) => self.heard[usize::from(what)] = true,
            // Who has heard, moves. The other side takes what comes.
            Some(3) if self.heard[1] => {
                if let Some(session) = self.sessions.iter_mut().find(|(at, _)| *at == 2) {
                    session.0 = 3;
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, at: u16, wanted: Wanted, via: Vec<NodeAddress>, hops: u8) -> Outcome {
        let mut round = Round::new([wanted], Some(node(at)), via, hops);
        for _ in 0..100 {
            let places = self.places(at);
            let steps = round.steps(|_| places.clone());
            if steps.is_empty() {
                return round.finish().remove(0);
            }
            self.happen();
            for index in steps.local {
                let here = self.sessions.iter_mut().enumerate().filter(|(_, (place, _))| *place == at);
                let named = here.map(|(number, session)| (reached(number as i32), session));
                let without = named.filter(|(session, _)| !round.has_it(index, &session.connection));
                let took = without.map(|(session, (_, times))| {
                    *times += 1;
                    session
                });
                let took = took.collect();
                round.local(index, Local::Took(took));
            }
            for ask in steps.asks {
                self.happen();
                let number = [1, 2, 3].into_iter().find(|&number| node(number) == ask.node).unwrap();
                let outcome = self.push(number, round.wanted(0), ask.via, ask.hops);
                self.happen();
                ask.users.iter().for_each(|&index| round.answered(ask.node, index, outcome.clone()));
            }
        }
        panic!("it goes on for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// A user with one session is never called offline and never pushed to twice, wherever the push comes in and whatever
    /// happens meanwhile.
    #[test]
    fn an_online_user_is_reached_once_while_the_ring_changes(
        entry in 1..4u16,
        script in prop::collection::vec(0..6u8, 0..24),
    ) {
        let mut fleet = Fleet { heard: [false; 3], sessions: vec![(2, 0)], script: script.into_iter() };
        let outcome = fleet.push(entry, wanted().into_iter().next().unwrap(), vec![], MAX_HOPS);
        prop_assert_eq!(outcome, Outcome::Delivered(vec![reached(0)]));
        prop_assert_eq!(fleet.sessions[0].1, 1);
    }

    /// With two sessions each is reached, and none twice, however they move.
    #[test]
    fn both_of_two_sessions_are_reached_once(entry in 1..4u16, script in prop::collection::vec(0..6u8, 0..24)) {
        let mut fleet = Fleet { heard: [false; 3], sessions: vec![(2, 0), (2, 0)], script: script.into_iter() };
        let outcome = fleet.push(entry, wanted().into_iter().next().unwrap(), vec![], MAX_HOPS);
        let times: Vec<u32> = fleet.sessions.iter().map(|session| session.1).collect();
        prop_assert_eq!(times, [1, 1]);
        prop_assert_eq!(outcome.reached().len(), 2);
    }
}

#[test]
fn a_session_that_crosses_the_questions_is_found() {
    let mut round = one(2, &[1], 2);
    assert_eq!(round.steps(owned_here(&[3, 4])), local());
    round.local(0, took(&[]));
    // 3 is asked before it has it, 4 when it is there already, and says so.
    assert_eq!(ask(round.steps(owned_here(&[3, 4]))).node, node(3));
    round.answered(node(3), 0, Outcome::Offline);
    assert_eq!(ask(round.steps(owned_here(&[3, 4]))).node, node(4));
    let went = |to| vec![Went { connection: "c7".into(), time: 1, to: node(to) }];
    round.answered(node(4), 0, Outcome::Offline);
    round.went(0, went(3));
    let ask = ask(round.steps(owned_here(&[3, 4])));
    assert_eq!((ask.node, ask.hops), (node(3), 1));
    round.answered(node(3), 0, Outcome::Delivered(vec![reached(7)]));
    // That is known by now.
    round.went(0, went(3));
    assert_eq!(round.steps(owned_here(&[3, 4])), local());
    round.local(0, took(&[]));
    assert!(round.steps(owned_here(&[3, 4])).is_empty());
    assert_eq!(round.passed_back(), [vec![]]);
    assert_eq!(round.finish(), [Outcome::Delivered(vec![reached(7)])]);
}

#[test]
fn what_went_to_who_waits_for_us_is_their_business() {
    let mut round = one(2, &[1], 2);
    assert_eq!(round.steps(owned_here(&[])), local());
    round.local(0, took(&[]));
    let went = Went { connection: "c7".into(), time: 3, to: node(1) };
    round.went(0, vec![went.clone()]);
    assert!(round.steps(owned_here(&[])).is_empty());
    assert_eq!(round.passed_back(), [[went]]);
    // And without a hop left nobody is called offline on the strength of it.
    let mut last = one(2, &[1], 0);
    last.steps(owned_here(&[]));
    last.local(0, took(&[]));
    last.went(0, vec![Went { connection: "c7".into(), time: 3, to: node(3) }]);
    assert!(last.steps(owned_here(&[])).is_empty());
    assert_eq!(last.finish(), [Outcome::Unknown]);
}

/// The owners of one user, ring by ring.
const OWNERS: [u16; 5] = [1, 2, 3, 1, 4];

/// A fleet of four whose ring changes again and again. Every node hears of each ring in its own time; a session goes from a
/// node to the owner by the ring of that node, if that one follows the same ring; nobody is ever settled.
struct Restless {
    /// By node: the ring it follows, and what went from there.
    nodes: [(usize, Vec<Went>); 4],
    /// The session's node, how often it has moved, and how often the push has reached it.
    session: (u16, u32, u32),
    script: std::vec::IntoIter<u8>,
}

impl Restless {
    fn places(&self, at: u16) -> Places {
        let ring = self.nodes[usize::from(at) - 1].0;
        let owner = OWNERS[ring];
        let mut former: Vec<u16> =
            OWNERS[..ring].iter().copied().filter(|&other| other != at && other != owner).collect();
        former.sort_unstable();
        former.dedup();
        Places { owner: (owner != at).then(|| node(owner)), former: former.into_iter().map(node).collect() }
    }

    fn happen(&mut self) {
        match self.script.next() {
            Some(what @ 0..4) => {
                let ring = &mut self.nodes[usize::from(what)].0;
                *ring = (*ring + 1).min(OWNERS.len() - 1);
            }
            Some(4..) => {
                let (at, time, _) = &mut self.session;
                let ring = self.nodes[usize::from(*at) - 1].0;
                let to = OWNERS[ring];
                if to != *at && self.nodes[usize::from(to) - 1].0 == ring {
                    *time += 1;
                    let went = Went { connection: reached(0).connection, time: *time, to: node(to) };
                    self.nodes[usize::from(*at) - 1].1.push(went);
                    *at = to;
                }
            }
            None => {}
        }
    }

    fn push(&mut self, at: u16, wanted: Wanted, via: Vec<NodeAddress>, hops: u8) -> (Outcome, Vec<Went>) {
        let mut round = Round::new([wanted], Some(node(at)), via, hops);
        for _ in 0..100 {
            let places = self.places(at);
            let steps = round.steps(|_| places.clone());
            if steps.is_empty() {
                return (round.clone().finish().remove(0), round.passed_back().remove(0));
            }
            self.happen();
            if !steps.local.is_empty() {
                let is_here = self.session.0 == at && !round.has_it(0, &reached(0).connection);
                self.session.2 += u32::from(is_here);
                round.local(0, if is_here { took(&[0]) } else { took(&[]) });
                round.went(0, self.nodes[usize::from(at) - 1].1.clone());
            }
            for ask in steps.asks {
                self.happen();
                let number = (1..5).find(|&number| node(number) == ask.node).unwrap();
                let (outcome, went) = self.push(number, round.wanted(0), ask.via, ask.hops);
                self.happen();
                round.answered(ask.node, 0, outcome);
                round.went(0, went);
            }
        }
        panic!("it goes on for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    /// However often the ring changes and the session moves meanwhile: the user is never called offline, and the push
    /// arrives once; at most nobody knows.
    #[test]
    fn an_online_user_is_never_called_offline_in_a_restless_fleet(
        entry in 1..5u16,
        before in prop::collection::vec(0..8u8, 0..24),
        script in prop::collection::vec(0..8u8, 0..40),
    ) {
        let nodes = std::array::from_fn(|_| (0, vec![]));
        let mut fleet = Restless { nodes, session: (1, 0, 0), script: before.clone().into_iter() };
        before.iter().for_each(|_| fleet.happen());
        fleet.script = script.into_iter();
        let (outcome, _) = fleet.push(entry, wanted().into_iter().next().unwrap(), vec![], MAX_HOPS);
        match outcome {
            Outcome::Delivered(reached_by) => {
                prop_assert_eq!(reached_by, vec![reached(0)]);
                prop_assert_eq!(fleet.session.2, 1);
            }
            Outcome::Unknown => {}
            Outcome::Offline => prop_assert!(false, "called offline while at node {}", fleet.session.0),
        }
    }
}
