use proptest::prelude::*;

use super::{
    super::{Epoch, MemberNumber, MemberState, fixtures},
    *,
};

fn ring(members: Vec<Member>) -> Ring {
    Ring::new(Epoch(1), Algorithm::OpenIm, members).unwrap()
}

#[track_caller]
fn assert_percent(a: &Ring, b: &Ring, pairing: Pairing, expected: &str) -> Diff {
    let diff = Diff::between(a, b);
    assert_eq!((diff.pairing, format!("{:.1}", diff.share * 100.0).as_str()), (pairing, expected));
    assert_eq!(diff.precision, Precision::Exact);
    let back = Diff::between(b, a);
    assert_eq!((back.share, back.pairing, back.added), (diff.share, diff.pairing, diff.removed.clone()));
    diff
}

#[test]
fn names_without_a_port_are_another_ring() {
    let published = [(2, "55.3"), (3, "71.3"), (5, "76.2"), (8, "90.9"), (16, "94.7"), (50, "98.2")];
    for (members, percent) in published {
        let (ported, bare) = (fixtures::openim(members, ":88"), fixtures::openim(members, ""));
        let diff = assert_percent(&ported, &bare, Pairing::Name, percent);
        assert_eq!(diff.changed.len(), members);
        assert!(diff.added.is_empty() && diff.removed.is_empty() && !diff.reordered);
    }
}

#[test]
fn a_resize_moves_only_what_it_must() {
    for (from, to, percent) in [(1, 2, "52.4"), (2, 3, "37.1"), (3, 4, "31.3"), (5, 6, "16.2"), (8, 9, "33.6")] {
        let (smaller, larger) = (fixtures::openim(from, ":88"), fixtures::openim(to, ":88"));
        let diff = assert_percent(&smaller, &larger, Pairing::Identity, percent);
        assert_eq!(diff.added, larger.members()[from..]);
        assert!(diff.removed.is_empty() && diff.changed.is_empty() && !diff.reordered && !diff.is_empty());
        assert!(diff.moves.iter().all(|one| one.to == larger.members()[from].identity));
        assert_eq!(diff.moves.iter().map(|one| one.share).sum::<f64>(), diff.share);
        assert!(diff.moves.is_sorted_by(|one, next| one.share >= next.share));
        assert_eq!(diff.share, larger.shares()[from].1);
    }
}

#[test]
fn a_ring_agrees_with_itself() {
    for ring in [fixtures::openim(5, ":88"), fixtures::multiprobe(&["a:1", "b:1", "c:1"])] {
        let diff = Diff::between(&ring, &ring);
        assert!(diff.is_empty(), "{diff:?}");
        assert!(diff.moves.is_empty());
    }
}

/// Compares `added`, `removed` and `reordered`.
#[track_caller]
fn assert_known(a: &[&str], b: &[&str], pairing: Pairing, expected: (usize, usize, bool)) {
    let diff = Diff::between(&fixtures::ring_of(a), &fixtures::ring_of(b));
    assert_eq!(diff.pairing, pairing);
    assert_eq!((diff.added.len(), diff.removed.len(), diff.reordered), expected);
}

#[test]
fn nodes_are_known_again_by_what_tells_most() {
    assert_known(&["a:88", "b:88"], &["a:88", "c:88"], Pairing::Identity, (1, 1, false));
    assert_known(&["a:88", "b:88"], &["b:88", "a:88"], Pairing::Identity, (0, 0, true));
    // One of them forgot a port: still the same three nodes.
    assert_known(&["a:88", "b:88", "c:88"], &["a:88", "b", "c:88"], Pairing::Name, (0, 0, false));
    assert_known(&["a:88", "b:88"], &["b", "a"], Pairing::Name, (0, 0, true));
    assert_known(&["a:88", "b:88"], &["b:89"], Pairing::Name, (0, 1, false));
    // The port is all that tells these apart.
    assert_known(&["host:1", "host:2"], &["host:2", "host:3"], Pairing::Identity, (1, 1, false));
    assert_known(&["host:1", "host:2"], &["host:3", "host:4"], Pairing::Place, (0, 0, false));
    assert_known(&["a:88", "b:88"], &["x", "y", "z"], Pairing::Place, (1, 0, false));
}

#[test]
fn every_change_of_a_member_is_seen() {
    let members = fixtures::members(&["a:88", "b:88", "c:88"]);
    let changes: [fn(&mut Member); 4] = [
        |member| member.number = MemberNumber::new(9).unwrap(),
        |member| member.address = "203.0.113.9".parse().unwrap(),
        |member| member.identity = "b:89".parse().unwrap(),
        |member| member.state = MemberState::Draining,
    ];
    let before = ring(members.clone());
    for (index, change) in changes.into_iter().enumerate() {
        let mut changed = members.clone();
        change(&mut changed[1]);
        let diff = Diff::between(&before, &ring(changed.clone()));
        assert_eq!(diff.changed, [Changed { before: members[1].clone(), after: changed[1].clone() }]);
        // Number and address place nobody.
        assert_eq!(diff.share > 0.0, index >= 2, "change {index}");
        assert!(!diff.is_empty());
    }
}

#[test]
fn another_algorithm_is_another_ring() {
    let names = ["a:88", "b:88", "c:88"];
    let diff = Diff::between(&fixtures::ring_of(&names), &fixtures::multiprobe(&names));
    assert_eq!((diff.precision, diff.pairing), (Precision::Measured, Pairing::Identity));
    // Two ways of placing users that have nothing to do with each other agree on about one in three.
    assert!((0.5..0.8).contains(&diff.share), "{}", diff.share);
    assert!(!diff.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// What a member gains and loses is what its share changes by.
    #[test]
    fn moves_balance_the_shares(
        a in prop::sample::subsequence((0..12).collect::<Vec<u8>>(), 1..12),
        b in prop::sample::subsequence((0..12).collect::<Vec<u8>>(), 1..12),
    ) {
        let of = |kept: &[u8]| {
            fixtures::ring_of(&kept.iter().map(|index| format!("gw-{index}.example:88")).collect::<Vec<_>>())
        };
        let (before, after) = (of(&a), of(&b));
        prop_assume!(a.iter().any(|one| b.contains(one)));
        let diff = Diff::between(&before, &after);
        let share_in = |ring: &Ring, identity: &Identity| {
            let place = ring.members().iter().position(|member| member.identity == *identity);
            place.map_or(0.0, |place| ring.shares()[place].1)
        };
        for identity in before.members().iter().chain(after.members()).map(|member| &member.identity) {
            let gained: f64 = diff.moves.iter().filter(|one| one.to == *identity).map(|one| one.share).sum();
            let lost: f64 = diff.moves.iter().filter(|one| one.from == *identity).map(|one| one.share).sum();
            // Multiples of 2^-32: no rounding.
            prop_assert_eq!(share_in(&before, identity) + gained - lost, share_in(&after, identity));
        }
    }
}
