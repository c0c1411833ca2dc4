//! The ring against golden vectors made with `stathat/consistent` itself.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, de::DeserializeOwned};

use super::{Algorithm, Ring, fixtures};

/// Spellings of the vectors, and what they append to a name.
const SPELLINGS: [(&str, &str); 2] = [("port88", ":88"), ("noport", "")];

fn vectors<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where the owner of `user` stands among the members.
fn place(ring: &Ring, user: &str) -> usize {
    let owner = ring.owner(user.as_bytes());
    ring.members().iter().position(|member| member == owner).unwrap()
}

#[derive(Deserialize)]
struct Owners {
    users: Vec<String>,
    owners: BTreeMap<String, BTreeMap<usize, Vec<usize>>>,
}

#[test]
fn every_user_has_the_owner_openim_gives_it() {
    let Owners { users, owners } = vectors("ring_owners.json");
    let mut compared = 0;
    for (spelling, suffix) in SPELLINGS {
        for (&members, expected) in &owners[spelling] {
            let ring = fixtures::openim(members, suffix);
            assert_eq!(expected.len(), users.len());
            for (user, &expected) in users.iter().zip(expected) {
                assert_eq!(place(&ring, user), expected, "{user:?} among {members} members, {spelling}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 2 * 6 * 1637, "the vectors hold other rings than they used to");
}

#[test]
fn every_point_stands_where_openim_puts_it() {
    let mut points: BTreeMap<String, serde_json::Value> = vectors("ring_points.json");
    for (spelling, suffix) in SPELLINGS {
        let by_size: BTreeMap<usize, Vec<(u32, usize)>> =
            serde_json::from_value(points.remove(spelling).unwrap()).unwrap();
        assert_eq!(by_size.len(), 6);
        for (members, expected) in by_size {
            let ring = fixtures::openim(members, suffix);
            // The fixture numbers its members from 1 in ring order.
            let points: Vec<_> = ring.points().iter().map(|point| (point.hash, point.node as usize - 1)).collect();
            assert_eq!(points, expected, "{members} members, {spelling}");
        }
    }
}

#[derive(Deserialize)]
struct Edges {
    boundary: Vec<Boundary>,
    collisions: Vec<Collision>,
}

#[derive(Deserialize)]
struct Boundary {
    members: Vec<String>,
    user: String,
    crc: u32,
    owner: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Collision {
    a: String,
    b: String,
    c: String,
    colliding_hash: u32,
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
    for Boundary { members, user, crc, owner, why } in boundary {
        let ring = fixtures::ring_of(&members);
        assert_eq!(Algorithm::OpenIm.hash_key(user.as_bytes()), crc, "{user:?}");
        assert_eq!(ring.owner(user.as_bytes()).identity.as_str(), owner, "{user:?}: {why}");
        assert_eq!(ring.owner_of_hash(crc).identity.as_str(), owner, "{user:?}: {why}");
    }
}

#[test]
fn on_a_collision_the_member_added_last_wins() {
    let Edges { collisions, .. } = vectors("ring_edges.json");
    assert_eq!(collisions.len(), 4);
    for Collision { a, b, c, colliding_hash, user, owner_a_b_c, owner_b_a_c, owner_a_c } in collisions {
        for (members, expected) in
            [(vec![&a, &b, &c], owner_a_b_c), (vec![&b, &a, &c], owner_b_a_c), (vec![&a, &c], owner_a_c)]
        {
            let ring = fixtures::ring_of(&members);
            assert_eq!(ring.owner(user.as_bytes()).identity.as_str(), expected, "{user} in {members:?}");
            let at_collision: Vec<_> = ring.points().iter().filter(|point| point.hash == colliding_hash).collect();
            let [point] = at_collision[..] else { panic!("{} points at {colliding_hash}", at_collision.len()) };
            let winner = members.iter().rfind(|&&member| *member == a || *member == b).unwrap();
            assert_eq!(members[point.node as usize - 1], *winner);
        }
    }
}
