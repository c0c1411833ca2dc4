//! Promise 1, *one ring*: whom the kernel binds a user to is whom OpenIM's own ring names.

use std::{collections::BTreeMap, fs, path::Path};

use ringsteer_ebpf::{crc32, key::MAX_KEY, layout::secret::Secrets};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    node::{ISN, Node, SECRET, client, first, request_of, ring_of, syn},
    packet::receive,
};

const SECRETS: Secrets = Secrets { current: SECRET, previous: SECRET };

fn vectors<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The number of the member that the kernel binds `user` to.
#[track_caller]
fn owner(node: &mut Node, user: &str) -> u32 {
    let from = client(40_000);
    let (_, answer) = node.run_uncounted(&syn(from, ISN, &[]).frame());
    let cookie = receive(&answer).sequence;
    node.run_uncounted(&first(from, ISN, cookie, &request_of(user)).frame());
    let flow = node.take_flow(from);
    assert_eq!(flow.key_hash, crc32::checksum(user.as_bytes()), "{user:?}");
    flow.node
}

#[derive(Deserialize)]
struct Owners {
    users: Vec<String>,
    owners: BTreeMap<String, BTreeMap<usize, Vec<usize>>>,
}

#[test]
fn every_user_is_bound_to_the_owner_openim_gives_it() {
    let Owners { users, owners } = vectors("ring_owners.json");
    let mut node = Node::among(1);
    let mut compared = 0;
    for (spelling, suffix) in [("port88", ":88"), ("noport", "")] {
        for (&members, expected) in &owners[spelling] {
            let headless = "openim-openim-msggateway-headless.default.svc.cluster.local";
            let identities: Vec<_> =
                (0..members).map(|index| format!("openim-openim-msggateway-{index}.{headless}{suffix}")).collect();
            node.publish(&ring_of(&identities), SECRETS);
            for (user, &expected) in users.iter().zip(expected) {
                // What cannot be a key for the kernel goes by the 4-tuple; the tests of the key see to that.
                if (1..=MAX_KEY).contains(&user.len()) {
                    let number = owner(&mut node, user);
                    assert_eq!(number as usize, expected + 1, "{user:?} among {members} members, {spelling}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 2 * 6 * COMPARABLE, "the vectors hold other users than they used to");
}

/// Users of the vectors that can be a key for the kernel; one is empty, the others are longer than a key may be.
const COMPARABLE: usize = 1633;

#[derive(Deserialize)]
struct Edges {
    boundary: Vec<Boundary>,
    collisions: Vec<Collision>,
}

#[derive(Deserialize)]
struct Boundary {
    members: Vec<String>,
    user: String,
    owner: String,
    why: String,
}

#[derive(Deserialize)]
struct Collision {
    a: String,
    b: String,
    c: String,
    user: String,
    #[serde(rename = "owner_add_A_B_C")]
    owner_a_b_c: String,
    #[serde(rename = "owner_add_B_A_C")]
    owner_b_a_c: String,
    #[serde(rename = "owner_fresh_A_C")]
    owner_a_c: String,
}

#[test]
fn at_on_and_beyond_the_points() {
    let Edges { boundary, .. } = vectors("ring_edges.json");
    assert_eq!(boundary.len(), 28);
    let mut node = Node::among(1);
    for Boundary { members, user, owner: expected, why } in boundary {
        node.publish(&ring_of(&members), SECRETS);
        let number = owner(&mut node, &user) as usize;
        assert_eq!(members[number - 1], expected, "{user:?}: {why}");
    }
}

#[test]
fn on_a_collision_the_member_added_last_wins() {
    let Edges { collisions, .. } = vectors("ring_edges.json");
    assert_eq!(collisions.len(), 4);
    let mut node = Node::among(1);
    for Collision { a, b, c, user, owner_a_b_c, owner_b_a_c, owner_a_c } in &collisions {
        for (members, expected) in [(vec![a, b, c], owner_a_b_c), (vec![b, a, c], owner_b_a_c), (vec![a, c], owner_a_c)]
        {
            node.publish(&ring_of(&members), SECRETS);
            let number = owner(&mut node, user) as usize;
            assert_eq!(members[number - 1], expected, "{user} in {members:?}");
        }
    }
}
