//! The ring against golden vectors made with `stathat/consistent` itself.

use super::{
    Algorithm, Ring, fixtures,
    golden::{Boundary, Edges, Owners, SPELLINGS, points},
};

/// Where the owner of `user` stands among the members.
fn place(ring: &Ring, user: &str) -> usize {
    let owner = ring.owner(user.as_bytes());
    ring.members().iter().position(|member| member == owner).unwrap()
}

#[test]
fn every_user_has_the_owner_openim_gives_it() {
    let Owners { users, owners } = Owners::read();
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
    let by_spelling = points();
    for (spelling, suffix) in SPELLINGS {
        assert_eq!(by_spelling[spelling].len(), 6);
        for (&members, expected) in &by_spelling[spelling] {
            let ring = fixtures::openim(members, suffix);
            // The fixture numbers its members from 1 in ring order.
            let points: Vec<_> = ring.points().iter().map(|point| (point.hash, point.node as usize - 1)).collect();
            assert_eq!(&points, expected, "{members} members, {spelling}");
        }
    }
}

#[test]
fn at_on_and_beyond_the_points() {
    let boundary = Edges::read().boundary;
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
    let collisions = Edges::read().collisions;
    assert_eq!(collisions.len(), 4);
    for collision in collisions {
        for (members, expected) in collision.rings() {
            let ring = fixtures::ring_of(&members);
            let owner = &ring.owner(collision.user.as_bytes()).identity;
            assert_eq!(owner.as_str(), expected, "{} in {members:?}", collision.user);
            let common: Vec<_> = ring.points().iter().filter(|point| point.hash == collision.colliding_hash).collect();
            let [point] = common[..] else { panic!("{} points at {}", common.len(), collision.colliding_hash) };
            assert_eq!(Some(members[point.node as usize - 1]), collision.winner(&members));
        }
    }
}
