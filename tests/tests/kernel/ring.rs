//! Promise 1, *one ring*: whom the kernel binds a user to is whom OpenIM's own ring names.

use std::thread;

use proptest::prelude::*;
use ringsteer::ring::{Algorithm, Point};
use ringsteer_ebpf::{crc32, key::MAX_KEY};
use ringsteer_tests::{
    kernel::ring_of,
    lab::Family,
    on_each_family,
    vectors::{Boundary, Edges, Owners, SPELLINGS, openim_identities},
};

use crate::node::{ISN, Node, SECRETS, client, first, frame, property, request_of, segment_in, syn};

on_each_family!(
    every_user_is_bound_to_the_owner_openim_gives_it,
    at_on_and_beyond_the_points,
    on_a_collision_the_member_added_last_wins,
    kernel_and_userspace_agree_on_any_ring,
    a_lookup_during_a_swap_gives_the_old_owner_or_the_new,
);

/// The number of the member that the kernel binds `user` to.
#[track_caller]
fn owner(node: &mut Node, family: Family, user: &str) -> u32 {
    let from = client(family, 40_000);
    let mut run = |packet: &[u8]| node.steer_uncounted(&frame(packet), Default::default()).unwrap().1;
    let cookie = segment_in(&run(&syn(from, ISN).to_bytes())).sequence;
    run(&first(from, ISN, cookie, &request_of(user)).to_bytes());
    let flow = node.take_flow(from);
    assert_eq!(flow.key_hash, crc32::checksum(user.as_bytes()), "{user:?}");
    flow.node
}

/// Puts a ring of these identities in force.
fn publish<S: AsRef<str>>(node: &mut Node, family: Family, identities: &[S]) {
    node.publish(&ring_of(Algorithm::OpenIm, identities, family).unwrap(), SECRETS);
}

fn every_user_is_bound_to_the_owner_openim_gives_it(family: Family) {
    let Owners { users, owners } = Owners::read();
    let mut node = Node::among(family, 1);
    let mut compared = 0;
    for (spelling, suffix) in SPELLINGS {
        for (&members, expected) in &owners[spelling] {
            publish(&mut node, family, &openim_identities(members, suffix));
            for (user, &expected) in users.iter().zip(expected) {
                // What cannot be a key for the kernel goes by the 4-tuple; the tests of the key see to that.
                if (1..=MAX_KEY).contains(&user.len()) {
                    let number = owner(&mut node, family, user);
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

fn at_on_and_beyond_the_points(family: Family) {
    let boundary = Edges::read().boundary;
    assert_eq!(boundary.len(), 28);
    let mut node = Node::among(family, 1);
    for Boundary { members, user, owner: expected, why, .. } in boundary {
        publish(&mut node, family, &members);
        let number = owner(&mut node, family, &user) as usize;
        assert_eq!(members[number - 1], expected, "{user:?}: {why}");
    }
}

fn on_a_collision_the_member_added_last_wins(family: Family) {
    let collisions = Edges::read().collisions;
    assert_eq!(collisions.len(), 4);
    let mut node = Node::among(family, 1);
    for collision in &collisions {
        for (members, expected) in collision.rings() {
            publish(&mut node, family, &members);
            let number = owner(&mut node, family, &collision.user) as usize;
            assert_eq!(members[number - 1], expected, "{} in {members:?}", collision.user);
        }
    }
}

/// The definition of `multiprobe`, from the ring's points and the key's hash on, and that of `openim`.
fn by_definition(algorithm: Algorithm, points: &[Point], hash: u32) -> u32 {
    let next = |position: u32| points.iter().find(|point| point.hash > position).unwrap_or(&points[0]);
    let mix = |hash: u32| {
        let hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
        let hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    };
    match algorithm {
        Algorithm::OpenIm => next(hash).node,
        Algorithm::Multiprobe => {
            let probes = (0..21u32).map(|index| mix(hash ^ index.wrapping_mul(0x9e37_79b9)));
            // Of several as near, the first.
            let nearest = probes.min_by_key(|&probe| next(probe).hash.wrapping_sub(probe));
            next(nearest.expect("there are 21")).node
        }
    }
}

/// A hundred random rings, one after the other, and random keys on each.
fn kernel_and_userspace_agree_on_any_ring(family: Family) {
    let identity = "[a-z]{1,12}(-[0-9]{1,3})?:[0-9]{2,5}";
    let identities = prop::collection::btree_set(identity, 1..60);
    let users = prop::collection::vec("\\PC{1,20}", 10);
    let algorithm = prop::sample::select(Algorithm::ALL.as_slice());
    property(Node::among(family, 1), 100, (algorithm, identities, users), |node, (algorithm, identities, users)| {
        let ring = ring_of(algorithm, &identities.into_iter().collect::<Vec<_>>(), family).unwrap();
        node.publish(&ring, SECRETS);
        for user in users {
            let number = owner(node, family, &user);
            assert_eq!(number, u32::from(ring.owner(user.as_bytes()).number.get()), "{user:?} by {algorithm}");
            let hash = crc32::checksum(user.as_bytes());
            assert_eq!(number, by_definition(algorithm, ring.points(), hash), "{user:?} by {algorithm}");
        }
    });
}

/// One thread swaps two rings of different algorithms as fast as it goes, another looks users up all the while.
fn a_lookup_during_a_swap_gives_the_old_owner_or_the_new(family: Family) {
    let rings = Algorithm::ALL.map(|algorithm| ring_of(algorithm, &openim_identities(40, ":88"), family).unwrap());
    let mut node = Node::in_ring(&rings[0]);
    // The same maps a second time: as an agent that has been restarted has them.
    let mut other = node.again().unwrap();
    let seen = thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for round in 0..200 {
                other.maps.set_ring(rings[(round + 1) % 2].kernel_image()).unwrap();
            }
        });
        let mut seen = [0, 0];
        for index in 0.. {
            let user = format!("user{index}");
            let [old, new] = [0, 1].map(|ring| u32::from(rings[ring].owner(user.as_bytes()).number.get()));
            let number = owner(&mut node, family, &user);
            assert!(number == old || number == new, "{user} is at {number}, its owners are {old} and {new}");
            if old != new {
                seen[usize::from(number == new)] += 1;
            }
            if swapping.is_finished() {
                break;
            }
        }
        seen
    });
    assert!(seen.iter().all(|&count| count > 0), "only one of the rings was seen: {seen:?}");
}
