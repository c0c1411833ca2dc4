//! The rules of the reconciler one by one, and as properties.

use proptest::prelude::*;

use super::*;
use crate::ring::Algorithm;

const TERMS: NewRing = NewRing { algorithm: Algorithm::OpenIm, allow_identities_without_port: false, grace_s: 10 };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `gw-<index>` at the address of that index.
fn node(index: u8) -> Candidate {
    node_at(index, index)
}

fn node_at(index: u8, address: u8) -> Candidate {
    Candidate {
        identity: Identity::new(format!("gw-{index}:88")).unwrap(),
        address: NodeAddress::new([198, 51, 100, address].into()).unwrap(),
        state: MemberState::Active,
    }
}

fn draining(index: u8) -> Candidate {
    Candidate { state: MemberState::Draining, ..node(index) }
}

/// A reconciler and a store that takes whatever it proposes.
struct Alone {
    reconciler: Reconciler,
    stored: Option<RingObject>,
    outlook: Outlook,
}

impl Alone {
    fn new() -> Self {
        Self { reconciler: Reconciler::new(TERMS), stored: None, outlook: Outlook::default() }
    }

    /// A ring of these nodes.
    fn of(candidates: &[Candidate]) -> Self {
        let mut alone = Self::new();
        alone.look(candidates, 0);
        assert!(alone.outlook.complaints.is_empty() && alone.stored.is_some());
        alone
    }

    fn look(&mut self, candidates: &[Candidate], now_s: u64) -> &mut Self {
        self.outlook = self.reconciler.look(self.stored.as_ref(), candidates, seconds(now_s));
        if let Some(proposal) = &self.outlook.proposal {
            self.stored = Some(proposal.object.clone());
        }
        self
    }

    /// What the ring is now: `3: 1=gw-0@1 2=gw-1@2-` is epoch 3, member 1 at the address ending in 1, member 2
    /// draining.
    fn shown(&self) -> String {
        let ring = self.stored.as_ref().expect("a ring").ring();
        let mut text = format!("{}:", ring.epoch());
        for member in ring.members() {
            let (name, address) = (member.identity.as_str().trim_end_matches(":88"), member.address.to_string());
            let mark = if member.state == MemberState::Draining { "-" } else { "" };
            text += &format!(" {}={name}@{}{mark}", member.number, address.trim_start_matches("198.51.100."));
        }
        text
    }
}

#[test]
fn the_first_ring_is_of_whoever_is_there_in_natural_order() {
    let alone = Alone::of(&[node(10), node(2), node(1)]);
    assert_eq!(alone.shown(), "1: 1=gw-1@1 2=gw-2@2 3=gw-10@10");
    // Nobody is no ring.
    let mut nobody = Alone::new();
    assert!(nobody.look(&[], 0).outlook.proposal.is_none());
}

#[test]
fn members_keep_number_and_place() {
    let mut alone = Alone::of(&[node(1), node(3)]);
    alone.look(&[node(1), node(2), node(3)], 1);
    assert_eq!(alone.shown(), "2: 1=gw-1@1 3=gw-2@2 2=gw-3@3");
    // Nothing new is nothing to propose.
    assert!(alone.look(&[node(3), node(2), node(1)], 2).outlook.proposal.is_none());
}

#[test]
fn the_order_of_an_operator_stays() {
    let ring = Ring::new(
        Epoch(7),
        Algorithm::OpenIm,
        [(5, node(3)), (2, node(1))]
            .map(|(number, node)| Member {
                number: MemberNumber::new(number).unwrap(),
                identity: node.identity,
                address: node.address,
                state: node.state,
            })
            .to_vec(),
    );
    let mut alone = Alone::new();
    alone.stored = Some(ring.unwrap().into());
    alone.look(&[node(1), node(2), node(3), node(4)], 0);
    assert_eq!(alone.shown(), "8: 6=gw-2@2 5=gw-3@3 2=gw-1@1 7=gw-4@4");
}

#[test]
fn who_comes_back_within_the_grace_period_moves_nobody() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    assert_eq!(alone.look(&[node(1)], 100).outlook.again, Some(seconds(110)));
    assert!(alone.outlook.proposal.is_none());
    assert!(alone.look(&[node(1)], 109).outlook.proposal.is_none());
    assert!(alone.look(&[node(1), node(2)], 109).outlook.proposal.is_none());
    // Each absence counts for itself, also if nobody looked in between.
    alone.look(&[node(1)], 150);
    alone.reconciler.seen(&node(2).identity);
    assert_eq!(alone.look(&[node(1)], 159).outlook.again, Some(seconds(169)));
    alone.look(&[node(1), node(2)], 160);
    assert_eq!(alone.look(&[node(1)], 200).outlook.again, Some(seconds(210)));
    let proposal = alone.look(&[node(1)], 210).outlook.proposal.clone().unwrap();
    assert_eq!(proposal.gone, [node(2).identity]);
    assert_eq!(alone.shown(), "2: 1=gw-1@1");
    // Back after that, it is new.
    alone.look(&[node(1), node(2)], 211);
    assert_eq!(alone.shown(), "3: 1=gw-1@1 3=gw-2@2");
}

#[test]
fn whoever_lost_sight_counts_anew() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    alone.look(&[node(1)], 100);
    alone.reconciler.lost_sight();
    assert_eq!(alone.look(&[node(1)], 300).outlook.again, Some(seconds(310)));
    // Seeing nobody at all is the same.
    assert!(alone.look(&[], 305).outlook.again.is_none());
    assert_eq!(alone.look(&[node(1)], 400).outlook.again, Some(seconds(410)));
}

#[test]
fn addresses_and_states_make_a_new_ring() {
    let mut alone = Alone::of(&[node(1), node(2), node(3)]);
    alone.look(&[node(1), node_at(2, 9), draining(3)], 1);
    assert_eq!(alone.shown(), "2: 1=gw-1@1 2=gw-2@9 3=gw-3@3-");
    // Two that change places.
    alone.look(&[node_at(1, 9), node_at(2, 1), node(3)], 2);
    assert_eq!(alone.shown(), "3: 1=gw-1@9 2=gw-2@1 3=gw-3@3");
    // One that is missing keeps its state.
    alone.look(&[node_at(1, 9), draining(3)], 3);
    assert_eq!(alone.shown(), "4: 1=gw-1@9 2=gw-2@1 3=gw-3@3-");
}

#[test]
fn one_address_is_one_member() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    // A newcomer at somebody else's address is left out, and said so, until it moves.
    let complaints = alone.look(&[node(1), node(2), node_at(3, 1)], 1).outlook.complaints.clone();
    assert_eq!(
        complaints,
        ["gw-1:88 and gw-3:88 both call 198.51.100.1 their own, and gw-3:88 is left out; a node is one member: \
          correct the `address` or the `identity` of one of them"]
    );
    assert!(alone.outlook.proposal.is_none());
    // A member that claims another one's stays where it was.
    let complaints = alone.look(&[node(1), node_at(2, 1)], 2).outlook.complaints.clone();
    assert!(complaints[0].contains("gw-2:88 stays at its old address"), "{complaints:?}");
    assert!(alone.outlook.proposal.is_none());
    // A node under a new name takes the place of the one it was, which is not there any more.
    alone.look(&[node(1), node_at(4, 2)], 3);
    assert_eq!(alone.shown(), "2: 1=gw-1@1 3=gw-4@2");
    assert_eq!(alone.outlook.proposal.as_ref().unwrap().gone, [node(2).identity]);
}

#[test]
fn nobody_left_changes_nothing() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    for now in [10, 100, 1000] {
        let outlook = &alone.look(&[], now).outlook;
        assert!(outlook.proposal.is_none() && outlook.again.is_none());
    }
}

#[test]
fn somebody_stays_active() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    alone.look(&[draining(1), node(2)], 1);
    assert_eq!(alone.shown(), "2: 1=gw-1@1- 2=gw-2@2");
    // The last one stays, until there is somebody else.
    assert!(alone.look(&[draining(1), draining(2)], 2).outlook.proposal.is_none());
    alone.look(&[draining(1), draining(2), node(3)], 3);
    assert_eq!(alone.shown(), "3: 1=gw-1@1- 2=gw-2@2- 3=gw-3@3");
    // Where no active one is there any more, those who are about to leave own the users until then.
    alone.look(&[draining(1), draining(2)], 4);
    alone.look(&[draining(1), draining(2)], 14);
    assert_eq!(alone.shown(), "4: 1=gw-1@1 2=gw-2@2");
    assert!(alone.look(&[draining(1), draining(2)], 15).outlook.proposal.is_none());
}

#[test]
fn bare_names_are_left_out_unless_the_ring_has_them() {
    let bare = Candidate { identity: Identity::port_optional("gw-7").unwrap(), ..node(7) };
    let mut alone = Alone::of(&[node(1)]);
    let complaints = alone.look(&[node(1), bare.clone()], 1).outlook.complaints.clone();
    assert!(complaints[0].contains("gw-7, without a port, and is left out"), "{complaints:?}");
    assert!(alone.outlook.proposal.is_none());

    let mut others = Alone::new();
    others.reconciler = Reconciler::new(NewRing { allow_identities_without_port: true, ..TERMS });
    others.look(&[node(1), bare.clone()], 0);
    // One configured otherwise does not take it apart.
    others.reconciler = Reconciler::new(TERMS);
    others.look(&[node(1), bare], 1);
    assert!(others.outlook.proposal.is_none() && others.outlook.complaints.is_empty());
}

#[test]
fn numbers_rest_before_they_are_given_again() {
    let mut alone = Alone::of(&[node(1)]);
    let mut last_given = BTreeMap::new();
    let mut now = 0;
    for round in 0..10_000_u32 {
        // A node that comes, under one of many names, and is gone when the next one comes.
        let guest = node((round % 200) as u8 + 2);
        now += 100;
        alone.look(&[node(1), guest.clone()], now);
        alone.look(&[node(1), guest.clone()], now + 100);
        let ring = alone.stored.as_ref().unwrap().ring();
        let given = ring.members().iter().find(|member| member.identity == guest.identity).unwrap().number;
        assert_eq!(ring.members().len(), 2);
        if let Some(last) = last_given.insert(given, round) {
            assert!(round - last >= 4090, "number {given} was given again after {} members", round - last);
        }
        now += 100;
    }
    assert_eq!(
        alone.stored.as_ref().unwrap().ring().member(MemberNumber::new(1).unwrap()).unwrap().identity,
        node(1).identity
    );
}

#[test]
fn a_full_ring_says_who_is_left_out() {
    let many: Vec<_> = (0..1639_u16)
        .map(|index| {
            let [high, low] = index.to_be_bytes();
            Candidate {
                identity: Identity::new(format!("gw-{index}:88")).unwrap(),
                address: NodeAddress::new([198, 18, high, low].into()).unwrap(),
                state: MemberState::Active,
            }
        })
        .collect();
    let mut alone = Alone::new();
    alone.look(&many, 0);
    assert_eq!(
        alone.outlook.complaints,
        ["the ring is full, and gw-1638:88 is left out; `openim` has room for 1638 members"]
    );
    assert_eq!(alone.stored.as_ref().unwrap().ring().members().len(), 1638);
}

#[test]
fn what_the_store_has_lost_is_written_again() {
    let mut alone = Alone::of(&[node(1), node(2)]);
    alone.look(&[node(1), node(2), node(3)], 1);
    // It sees there what it has proposed.
    alone.look(&[node(1), node(2), node(3)], 1);
    let (old, whole) = (Alone::of(&[node(1), node(2)]).stored, alone.stored.clone().unwrap());
    // Nothing, or a backup of before.
    for left in [None, old] {
        alone.stored = left;
        alone.look(&[node(1)], 2);
        assert_eq!(alone.stored.as_ref().unwrap().name(), whole.name());
        assert_eq!(alone.stored.as_ref().unwrap().next_number(), whole.next_number());
    }
    // Another ring of the same epoch: a higher one decides, with what stands there.
    let mut other = Alone::of(&[node(1)]);
    other.look(&[node(1), node(4)], 1);
    assert_eq!(other.stored.as_ref().unwrap().ring().epoch(), whole.ring().epoch());
    alone.stored = other.stored.clone();
    alone.look(&[node(1), node(4)], 3);
    assert_eq!(alone.shown(), "3: 1=gw-1@1 2=gw-4@4");
    // An agent that was started anew knows the ring that was in force, and goes on from there.
    let mut anew = Alone::new();
    anew.reconciler.remember(whole.ring().clone());
    anew.look(&[node(1), node(2)], 0);
    assert_eq!(anew.stored.as_ref().unwrap().name(), whole.name());
    anew.look(&[node(1), node(2)], 10);
    assert_eq!(anew.shown(), "3: 1=gw-1@1 2=gw-2@2");
}

#[test]
fn natural_order_is_how_people_count() {
    let ordered = ["", "1", "a", "a-01:88", "a-1:88", "a-2:88", "a-10", "a-10:9", "a-10:88", "a-b", "b"];
    for (i, a) in ordered.iter().enumerate() {
        for (j, b) in ordered.iter().enumerate() {
            assert_eq!(natural_order(a, b), i.cmp(&j), "{a} and {b}");
        }
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::btree_map(0..12_u8, (0..14_u8, prop::bool::weighted(0.2)), 0..10).prop_map(|nodes| {
        let state = |drains| if drains { MemberState::Draining } else { MemberState::Active };
        nodes
            .into_iter()
            .map(|(index, (address, drains))| Candidate { state: state(drains), ..node_at(index, address + 1) })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever comes and goes: rings are good, epochs go up by one, and who stays keeps number and place.
    #[test]
    fn whatever_happens_the_rules_hold(steps in prop::collection::vec((candidates(), 0..15_u64), 1..30)) {
        let mut alone = Alone::new();
        let mut now = 0;
        for (candidates, passed) in steps {
            now += passed;
            let before = alone.stored.clone();
            alone.look(&candidates, now);
            let Some(proposal) = alone.outlook.proposal.clone() else { continue };
            let ring = proposal.object.ring();
            prop_assert!(ring.members().iter().any(|member| member.state == MemberState::Active));
            let Some(before) = before else { continue };
            prop_assert_eq!(ring.epoch().0, before.ring().epoch().0 + 1);
            prop_assert_ne!(ring.digest(), before.ring().digest());
            let stayed = |ring: &Ring, other: &Ring| -> Vec<(MemberNumber, Identity)> {
                let in_other = |identity: &Identity| other.members().iter().any(|member| member.identity == *identity);
                let members = ring.members().iter().filter(|member| in_other(&member.identity));
                members.map(|member| (member.number, member.identity.clone())).collect()
            };
            prop_assert_eq!(stayed(ring, before.ring()), stayed(before.ring(), ring));
            // Nobody gets the number of one who just left.
            for member in ring.members() {
                let had_it = before.ring().member(member.number).map(|old| &old.identity);
                prop_assert!(had_it.is_none_or(|identity| *identity == member.identity));
            }
            // What came out is final: the same nodes change nothing more.
            prop_assert!(alone.look(&candidates, now).outlook.proposal.is_none());
        }
    }

    /// Who proposes does not matter: whoever sees the same comes to the same, one that was there all along and a
    /// newcomer.
    #[test]
    fn who_sees_the_same_proposes_the_same(first in candidates(), second in candidates()) {
        let mut alone = Alone::new();
        alone.look(&first, 0);
        let stored = alone.stored.clone();
        let newcomer = Reconciler::new(TERMS).look(stored.as_ref(), &second, seconds(5_000));
        let [mine, theirs] = [&alone.look(&second, 0).outlook, &newcomer]
            .map(|outlook| outlook.proposal.as_ref().map(|proposal| proposal.object.to_text()));
        prop_assert_eq!(mine, theirs);
    }
}
