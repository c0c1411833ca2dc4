//! What must hold for every ring, and what is no ring.

use std::mem::size_of;

use proptest::prelude::*;

use super::{
    fixtures::{member, openim, ring_of},
    *,
};

fn new(members: Vec<Member>) -> Result<Ring, RingError> {
    Ring::new(Epoch(7), Algorithm::OpenIm, members)
}

/// Members with distinct numbers, identities and addresses, in any order.
fn any_members(max: usize) -> impl Strategy<Value = Vec<Member>> {
    let numbers = prop::collection::btree_set(1u16..4096, 1..=max);
    (numbers, any::<u32>())
        .prop_map(|(numbers, seed)| {
            numbers.into_iter().map(|number| member(number, &format!("gw-{seed}-{number}:88"))).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

/// The owner, word for word as the library defines it: a map from position to member, in which later members overwrite
/// earlier ones, and of it the first position strictly greater than the key's, else the first of all.
fn by_definition(members: &[Member], key: &[u8]) -> MemberNumber {
    let mut circle = std::collections::BTreeMap::new();
    for member in members {
        for index in 0..20 {
            let point = format!("{index}{}", member.identity);
            circle.insert(ringsteer_ebpf::crc32::checksum(point.as_bytes()), member.number);
        }
    }
    let hash = ringsteer_ebpf::crc32::checksum(key);
    *circle.range(hash.saturating_add(1)..).next().filter(|_| hash < u32::MAX).or(circle.iter().next()).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_owner_is_the_one_defined(members in any_members(60), keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 20)) {
        let ring = new(members.clone()).unwrap();
        for key in keys {
            let owner = ring.owner(&key);
            prop_assert_eq!(owner.number, by_definition(&members, &key));
            prop_assert_eq!(ring.member(owner.number), Some(owner));
            prop_assert!(members.contains(owner));
        }
    }

    #[test]
    fn points_are_sorted_unique_and_of_members(members in any_members(60)) {
        let ring = new(members.clone()).unwrap();
        prop_assert!(ring.points().is_sorted_by(|a, b| a.hash < b.hash));
        prop_assert!(ring.points().len() <= 20 * members.len());
        for point in ring.points() {
            prop_assert!(members.iter().any(|member| u32::from(member.number.get()) == point.node));
        }
    }

    #[test]
    fn shares_add_up_to_the_whole(members in any_members(60), hash: u32) {
        let ring = new(members.clone()).unwrap();
        let shares = ring.shares();
        prop_assert_eq!(shares.len(), members.len());
        // Multiples of 2^-32 below 1 add without rounding.
        prop_assert_eq!(shares.iter().map(|(_, share)| share).sum::<f64>(), 1.0);
        // Whoever owns some hash owns some share.
        let owner = ring.owner_of_hash(hash).number;
        prop_assert!(shares.iter().any(|&(number, share)| number == owner && share > 0.0));
    }

    /// Order matters on collisions only: where the points of two orders are at the same positions with no position
    /// claimed twice, every key keeps its owner.
    #[test]
    fn order_matters_on_collisions_only(members in any_members(40), key: [u8; 8]) {
        let mut reversed = members.clone();
        reversed.reverse();
        let (ring, reversed) = (new(members.clone()).unwrap(), new(reversed).unwrap());
        prop_assume!(ring.points().len() == 20 * members.len());
        prop_assert_eq!(ring.points(), reversed.points());
        prop_assert_eq!(ring.owner(&key), reversed.owner(&key));
        // Still two rings: the order is part of what a ring is.
        prop_assert_eq!(ring.digest() == reversed.digest(), members.len() == 1);
    }

    /// Growing a ring takes keys only to the new member.
    #[test]
    fn growth_moves_keys_to_the_new_member_only(members in any_members(40), key: [u8; 8]) {
        prop_assume!(members.len() > 1);
        let (newest, older) = members.split_last().unwrap();
        let (before, after) = (new(older.to_vec()).unwrap(), new(members.clone()).unwrap());
        let (was, is) = (before.owner(&key), after.owner(&key));
        prop_assert!(is == was || is == newest);
    }
}

#[test]
fn shares_are_exact() {
    let mut beyond_the_last_for_another = 0;
    for members in 2..=16 {
        let ring = openim(members, ":88");
        let points = ring.points();
        let mut owned = vec![0u64; members];
        // Walks the circle backwards from each point to the one before it, the definition turned round.
        for (index, point) in points.iter().enumerate() {
            let before = points[(index + points.len() - 1) % points.len()].hash;
            owned[point.node as usize - 1] += u64::from(point.hash.wrapping_sub(before));
        }
        let shares: Vec<u64> = ring.shares().iter().map(|(_, share)| (share * 2f64.powi(32)) as u64).collect();
        assert_eq!(shares, owned, "{members} members");
        beyond_the_last_for_another += u32::from(points[0].node != points[points.len() - 1].node);
    }
    assert!(beyond_the_last_for_another > 0, "no ring here shows who owns what lies beyond the last point");
}

#[test]
fn the_only_member_owns_everything() {
    let ring = ring_of(&["gw-0:88"]);
    assert_eq!(ring.shares(), [(MemberNumber::new(1).unwrap(), 1.0)]);
    for hash in [0, 1, u32::MAX] {
        assert_eq!(ring.owner_of_hash(hash).number.get(), 1);
    }
}

#[test]
fn the_kernel_image_says_what_the_ring_is() {
    let ring = new(vec![member(3, "gw-0:88"), member(2, "gw-1:88")]).unwrap();
    let image = ring.kernel_image();
    assert_eq!((image.epoch, image.algorithm, image.point_count), (7, 1, 40));
    assert_eq!(format!("{:016x}", image.digest), ring.digest().to_string()[..16]);
    assert_eq!(ring.digest().short().to_string(), ring.digest().to_string()[..16]);
    assert_eq!(&image.points[..40], ring.points());
    assert!(image.points[40..].iter().all(|point| *point == Point { hash: 0, node: 0 }));
    assert_eq!(bytemuck::bytes_of(image).len(), size_of::<image::Ring>());

    let mixed = Ring::new(Epoch(7), Algorithm::Multiprobe, ring.members().to_vec()).unwrap();
    assert_eq!((mixed.kernel_image().algorithm, mixed.kernel_image().point_count), (2, 40));
    assert_ne!(mixed.digest(), ring.digest());
}

#[test]
fn balance_is_measured_against_the_active_members() {
    let mut members = openim(5, ":88").members().to_vec();
    let shares = new(members.clone()).unwrap().shares();
    let fullest = shares.iter().map(|&(_, share)| share).fold(0.0, f64::max);
    assert_eq!(new(members.clone()).unwrap().balance(&shares), fullest * 5.0);
    members[1..].iter_mut().for_each(|member| member.state = MemberState::Draining);
    let one = new(members).unwrap();
    assert_eq!(one.balance(&one.shares()), 1.0);
}

#[test]
fn a_digest_can_be_checked_by_hand() {
    let ring = new(vec![member(1, "gateway-0.example:88"), member(2, "gateway-1.example:88")]).unwrap();
    // printf 'ringsteer ring 1\nalgorithm openim\nmember 1 active 198.51.100.1 gateway-0.example:88\n
    // member 2 active 198.51.100.2 gateway-1.example:88\n' | sha256sum
    assert_eq!(ring.digest().to_string(), "1f7668408ee47360c8d1fc36ee822a760dd5680e995abba6780e98d0bb7f7e39");
    let json = serde_json::to_string(&ring.digest()).unwrap();
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), ring.digest());
    for wrong in ["", "xyz", &"A".repeat(64), &"é".repeat(32)] {
        let error = wrong.parse::<Digest>().unwrap_err().to_string();
        assert_eq!(error, format!("{wrong:?} is no ring digest, which has 64 lower-case hexadecimal digits"));
    }
}

#[test]
fn a_digest_is_of_the_content_alone() {
    let members = vec![member(1, "gw-0:88"), member(2, "gw-1:88")];
    let digest = new(members.clone()).unwrap().digest();
    assert_eq!(Ring::new(Epoch(8), Algorithm::OpenIm, members.clone()).unwrap().digest(), digest);
    let changes: [fn(&mut Vec<Member>); 4] = [
        |members| members.reverse(),
        |members| members[1].number = MemberNumber::new(3).unwrap(),
        |members| members[1].address = "203.0.113.9".parse().unwrap(),
        |members| members[1].identity = "gw-2:88".parse().unwrap(),
    ];
    for change in changes {
        let mut changed = members.clone();
        change(&mut changed);
        assert_ne!(new(changed.clone()).unwrap().digest(), digest, "{changed:?}");
    }
}

#[test]
fn a_ring_has_members() {
    let error = new(vec![]).unwrap_err();
    assert_eq!(error, RingError::Empty);
    assert_eq!(error.to_string(), "the ring has no members; list at least this node");
}

#[test]
fn a_ring_fits_the_kernel_map() {
    let members = |count: u16| (1..=count).map(|number| member(number, &format!("gw-{number}:88"))).collect::<Vec<_>>();
    let largest = new(members(1638)).unwrap();
    assert_eq!(largest.members().len(), 1638);
    for key in 0u32..2000 {
        assert_eq!(largest.owner(&key.to_be_bytes()).number, by_largest_definition(&largest, &key.to_be_bytes()));
    }
    assert_eq!(
        new(members(1639)).unwrap_err().to_string(),
        "the ring has 1639 members, and `openim` has room for 1638; remove some"
    );
}

/// [`by_definition`] on points already placed: the largest ring is too large to place again for every key.
fn by_largest_definition(ring: &Ring, key: &[u8]) -> MemberNumber {
    let hash = ringsteer_ebpf::crc32::checksum(key);
    let point = ring.points().iter().find(|point| point.hash > hash).unwrap_or(&ring.points()[0]);
    MemberNumber::new(u16::try_from(point.node).unwrap()).unwrap()
}

#[test]
fn members_are_told_apart() {
    let [a, b] = [member(1, "gw-0:88"), member(2, "gw-1:88")];
    let cases = [
        (
            Member { number: a.number, ..b.clone() },
            "members gw-0:88 and gw-1:88 both have the number 1; give one of them a number that no member has had lately, \
             for flows may still name it",
        ),
        (
            Member { identity: a.identity.clone(), ..b.clone() },
            "members 1 and 2 both have the identity gw-0:88, so one of them would own nothing; correct or remove one",
        ),
        (
            Member { address: a.address, ..b.clone() },
            "members 1 and 2 both have the address 198.51.100.1; a node is one member, and the kernel could not tell \
             their packets apart: correct or remove one",
        ),
    ];
    for (second, message) in cases {
        let error = new(vec![a.clone(), second]).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.index(), Some(1));
    }
}

#[test]
fn a_draining_member_stays_in_the_ring_and_owns_nothing() {
    let active = fixtures::openim(3, ":88");
    let mut members = active.members().to_vec();
    members[1].state = MemberState::Draining;
    let draining = Ring::new(Epoch(2), Algorithm::OpenIm, members.clone()).unwrap();
    assert_ne!(draining.digest(), active.digest());
    assert_eq!(draining.member(members[1].number), Some(&members[1]));
    assert_eq!(draining.shares()[1], (members[1].number, 0.0));

    // Everybody else owns what they would own without it.
    members.remove(1);
    let without = Ring::new(Epoch(3), Algorithm::OpenIm, members.clone()).unwrap();
    assert_eq!(draining.points(), without.points());

    members.iter_mut().for_each(|member| member.state = MemberState::Draining);
    let error = Ring::new(Epoch(4), Algorithm::OpenIm, members).unwrap_err();
    assert_eq!(error, RingError::NoneActive);
    assert_eq!(
        error.to_string(),
        "every member of the ring is draining, so nobody could own anything; keep at least one active"
    );
}
