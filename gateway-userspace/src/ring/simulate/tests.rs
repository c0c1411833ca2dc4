use super::{
    super::{Precision, fixtures},
    *,
};

fn add(identity: &str) -> Change {
    Change::Add { identity: identity.parse().unwrap(), address: None }
}

#[test]
fn a_member_more_takes_its_share_and_nothing_else_moves() {
    let ring = fixtures::ring_of(&["gw-0:88", "gw-1:88", "gw-2:88"]);
    let simulation = simulate(&ring, &[add("gw-3:88")]).unwrap();
    let [.., new] = &simulation.members[..] else { panic!("no members") };
    assert_eq!((new.identity.as_str(), new.before), ("gw-3:88", None));
    assert_eq!(new.after.unwrap().share, simulation.diff.share);
    for kept in &simulation.members[..3] {
        assert!(kept.after.unwrap().share <= kept.before.unwrap().share);
    }
    let sum = |side: fn(&Shift) -> Option<Holding>| {
        simulation.members.iter().filter_map(side).map(|holding| holding.share).sum::<f64>()
    };
    assert_eq!((sum(|shift| shift.before), sum(|shift| shift.after)), (1.0, 1.0));
}

#[test]
fn a_drained_member_gives_away_what_a_removed_one_does() {
    let ring = fixtures::openim(5, ":88");
    let name = ring.members()[2].identity.as_str().to_owned();
    let removed = simulate(&ring, &[Change::Remove(name.clone())]).unwrap();
    let drained = simulate(&ring, &[Change::Drain(name)]).unwrap();
    assert_eq!(removed.diff.share, ring.shares()[2].1);
    assert_eq!(removed.diff.moves, drained.diff.moves);
    assert_eq!(removed.balance, drained.balance);
    assert_eq!(removed.members[2].after, None);
    assert_eq!(drained.members[2].after, Some(Holding { state: MemberState::Draining, share: 0.0 }));
}

#[test]
fn changes_are_made_in_turn() {
    let ring = fixtures::ring_of(&["gw-0:88", "gw-1:88"]);
    let after = apply(
        &ring,
        &[
            Change::Remove("gw-1".into()),
            Change::Add { identity: "gw-1:89".parse().unwrap(), address: Some("203.0.113.9".parse().unwrap()) },
            add("gw-2:88"),
            Change::Drain("gw-0:88".into()),
            Change::Algorithm(Algorithm::Multiprobe),
        ],
    )
    .unwrap();
    let members: Vec<_> = after
        .members()
        .iter()
        .map(|member| (member.number.get(), member.identity.as_str(), member.address.to_string(), member.state))
        .collect();
    assert_eq!(
        members,
        [
            (1, "gw-0:88", "198.51.100.1".into(), MemberState::Draining),
            (2, "gw-1:89", "203.0.113.9".into(), MemberState::Active),
            (3, "gw-2:88", "2001:db8:ffff:ffff::3".into(), MemberState::Active),
        ]
    );
    assert_eq!((after.epoch(), after.algorithm()), (Epoch(2), Algorithm::Multiprobe));
}

#[test]
fn another_algorithm_mends_the_balance() {
    let simulation = simulate(&fixtures::openim(5, ":88"), &[Change::Algorithm(Algorithm::Multiprobe)]).unwrap();
    let [before, after] = simulation.balance;
    assert!(before > 1.6 && after < 1.1, "{before} {after}");
    assert_eq!(simulation.diff.precision, Precision::Measured);
}

#[test]
fn what_cannot_be_done_is_said() {
    let ring = fixtures::ring_of(&["host:1", "host:2"]);
    let cases = [
        (
            vec![Change::Remove("gw-9:88".into())],
            "the ring has no member gw-9:88; `ringsteer ring show` lists them as they are spelled",
        ),
        (
            vec![Change::Drain("host".into())],
            "the ring has several members host, told apart by their ports; name one with its port",
        ),
        (vec![add("host:1")], "host:1 is a member of the ring already; leave it out, or remove it first"),
        (
            vec![Change::Drain("host:1".into()), Change::Drain("host:2".into())],
            "the ring after that could not be: every member of the ring is draining, so nobody could own anything; keep \
             at least one active",
        ),
        (
            vec![Change::Remove("host:1".into()), Change::Remove("host:2".into())],
            "the ring after that could not be: the ring has no members; list at least this node",
        ),
    ];
    for (changes, message) in cases {
        assert_eq!(simulate(&ring, &changes).unwrap_err().to_string(), message);
    }
}

#[test]
fn numbers_run_out_last() {
    let mut members = fixtures::members(&["a:1", "b:1"]);
    members[1].number = MemberNumber::new(4095).unwrap();
    assert_eq!(free_number(&members).unwrap().get(), 2);
    let full: Vec<_> = (1..=4095).map(|number| fixtures::member(number, "a:1")).collect();
    assert_eq!(free_number(&full), Err(ChangeError::NoNumber));
    assert_eq!(free_number(&full[1..]).unwrap().get(), 1);
}
