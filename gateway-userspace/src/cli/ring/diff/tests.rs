use super::*;
use crate::ring::{MemberState, Ring, fixtures};

fn given(ring: Ring, origin: Origin, name: &str) -> Given {
    Given { ring, origin, name: name.into() }
}

fn hosts(identities: &[&str], name: &str) -> Given {
    given(fixtures::ring_of(identities), Origin::Hosts, name)
}

#[test]
fn both_sides_of_an_openim_fleet() {
    let a = given(fixtures::openim(5, ":88"), Origin::Hosts, "connections.txt");
    let b = given(fixtures::openim(5, ""), Origin::Hosts, "pushes.txt");
    let compared = Compared::of(&a, &b, NonZeroU64::new(100_000));
    assert!(compared.differ);
    assert_eq!(compared.users, Some(76_157));
    let text = compared.text(&a, &b, 1);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "a           connections.txt: a list of 5 hosts",
            "b           pushes.txt: a list of 5 hosts",
            "",
            "76.2 % of all users, 76157 of them have another owner in b than in a (exact, nodes known by their names \
             without port)."
        ]
    );
    let host = "openim-openim-msggateway-0.openim-openim-msggateway-headless.default.svc.cluster.local";
    assert_eq!(
        lines[4..],
        [
            "",
            "Spelled differently: 5 members, such as",
            &format!("  {host}:88 in a"),
            &format!("  {host} in b"),
            "",
            "from                        to                          users",
            "openim-openim-msggateway-2  openim-openim-msggateway-0  7.7 %",
            "19 more, 68.5 % together; --limit shows them",
        ]
    );
}

#[test]
fn a_list_says_nothing_of_numbers_and_addresses() {
    let mut members = fixtures::members(&["a:1", "b:1"]);
    members.iter_mut().for_each(|one| one.address = "203.0.113.9".parse().unwrap());
    members[1].address = "203.0.113.10".parse().unwrap();
    members[1].number = crate::ring::MemberNumber::new(77).unwrap();
    let file = Ring::new(crate::ring::Epoch(9), crate::ring::Algorithm::OpenIm, members).unwrap();
    let (a, b) = (given(file.clone(), Origin::File, "a"), hosts(&["a:1", "b:1"], "b"));
    let compared = Compared::of(&a, &b, None);
    assert!(!compared.differ);
    assert!(compared.text(&a, &b, 20).ends_with("\nThe rings are the same.\n"));
    // Of two files every difference counts.
    let b = given(b.ring, Origin::File, "b");
    assert!(Compared::of(&a, &b, None).differ);
}

#[test]
fn every_difference_is_named() {
    let before = fixtures::ring_of(&["gw-0:88", "gw-1:88", "gw-2:88"]);
    let mut members = before.members().to_vec();
    members.remove(2);
    members[0].state = MemberState::Draining;
    members.push(fixtures::member(4, "gw-3:88"));
    let after = Ring::new(crate::ring::Epoch(2), crate::ring::Algorithm::Multiprobe, members).unwrap();
    let (a, b) = (given(before, Origin::File, "a.toml"), given(after, Origin::Agent, "current"));
    let compared = Compared::of(&a, &b, None);
    let text = compared.text(&a, &b, 0);
    let tables: Vec<_> = text.split("\n\n").skip(2).collect();
    assert_eq!(
        tables,
        [
            "where      member\nonly in a  gw-2:88\nonly in b  gw-3:88",
            "member   what       in a    in b\nall      algorithm  openim  multiprobe\ngw-0:88  state      active  draining\n",
        ]
    );
    let json = serde_json::to_value(&compared).unwrap();
    assert_eq!(
        json["changed"][1],
        serde_json::json!({
            "member": "gw-0:88", "what": "state", "before": "active", "after": "draining"
        })
    );
    assert_eq!((&json["added"][0], &json["precision"]), (&"gw-3:88".into(), &"measured".into()));
    assert_eq!(json.get("users"), None);
}

#[test]
fn another_order_is_a_difference() {
    let compared = Compared::of(&hosts(&["a:1", "b:1"], "a"), &hosts(&["b:1", "a:1"], "b"), None);
    assert!(compared.differ && compared.reordered);
    assert_eq!(compared.share, 0.0);
}
