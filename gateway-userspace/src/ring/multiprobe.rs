//! The algorithm `multiprobe` as its definition has it, and what it is good for. The lookup itself is `ringsteer_ebpf::ring`.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringsteer_ebpf::ring::fmix32;

use super::{Algorithm, Epoch, Member, MemberNumber, Ring, fixtures};

fn ring(members: &[Member]) -> Ring {
    Ring::new(Epoch(1), Algorithm::Multiprobe, members.to_vec()).unwrap()
}

/// The owner as the module's words have it, over a map instead of an array, with distances that cannot wrap.
fn by_definition(members: &[Member], key: &[u8]) -> MemberNumber {
    let mut circle = BTreeMap::new();
    for member in members {
        for index in 0..20 {
            let point = format!("{index}{}", member.identity);
            circle.insert(u64::from(fmix32(ringsteer_ebpf::crc32::checksum(point.as_bytes()))), member.number);
        }
    }
    let hash = ringsteer_ebpf::crc32::checksum(key);
    let candidate = |index: u64| {
        let offset = (index * 0x9e37_79b9) as u32;
        let probe = u64::from(fmix32(hash ^ offset));
        let next = circle.range(probe + 1..).next().map(|(&at, &number)| (at - probe, index, number));
        next.unwrap_or_else(|| {
            let (&at, &number) = circle.first_key_value().unwrap();
            (at + (1 << 32) - probe, index, number)
        })
    };
    (0..21).map(candidate).min().unwrap().2
}

#[test]
fn the_mixer_is_murmurs() {
    // Published: MurmurHash3_x86_32 of no bytes is the finaliser of its seed.
    for (seed, hash) in [(0, 0), (1, 0x514e_28b7), (0xffff_ffff, 0x81f1_6f39)] {
        assert_eq!(fmix32(seed), hash);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_owner_is_the_one_defined(
        count in 1u16..80,
        seed: u32,
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 12),
    ) {
        let members: Vec<_> = (1..=count).map(|number| fixtures::member(number, &format!("gw-{seed}-{number}:88"))).collect();
        let ring = ring(&members);
        for key in keys {
            prop_assert_eq!(ring.owner(&key).number, by_definition(&members, &key));
        }
    }

    /// Wherever in the list a member comes in, keys move to it and nowhere else; and if it goes, only its own move.
    #[test]
    fn a_member_that_comes_or_goes_moves_keys_to_or_from_itself_only(
        count in 2u16..60,
        seed: u32,
        place: prop::sample::Index,
        hashes in prop::collection::vec(any::<u32>(), 200),
    ) {
        let with: Vec<_> = (1..=count).map(|number| fixtures::member(number, &format!("gw-{seed}-{number}:88"))).collect();
        let mut without = with.clone();
        let comes = without.remove(place.index(with.len()));
        let (smaller, larger) = (ring(&without), ring(&with));
        for hash in hashes {
            let (was, is) = (smaller.owner_of_hash(hash), larger.owner_of_hash(hash));
            prop_assert!(is == was || *is == comes, "{} became {}, and {} came", was.identity, is.identity, comes.identity);
        }
    }
}

/// How names of nodes look in the wild: index in the middle, at the end, addresses, few digits and many.
const NAMES: [fn(usize) -> String; 4] = [
    |index| format!("openim-openim-msggateway-{index}.openim-openim-msggateway-headless.default.svc.cluster.local:88"),
    |index| format!("gw-{index}:88"),
    |index| format!("198.51.{}.{}:88", 100 + index / 250, index % 250 + 1),
    |index| format!("gateway-{index:04}.example:10140"),
];

/// Measures rings of so many members under the first names, and refuses what is above `limit` times the mean.
#[track_caller]
fn assert_balance(members: usize, names: usize, limit: f64) {
    for names in &NAMES[..names] {
        let ring = fixtures::multiprobe(&(0..members).map(names).collect::<Vec<_>>());
        let shares = ring.shares();
        let balance = ring.balance(&shares);
        println!("{members} members like {}: max/mean {balance:.3}", names(0));
        assert!((1.0..=limit).contains(&balance), "{members} members like {}: {balance}", names(0));
        assert_eq!(shares.iter().map(|(_, share)| share).sum::<f64>(), 1.0);
    }
}

#[test]
fn few_members_own_about_the_same() {
    for members in [3, 5, 10] {
        assert_balance(members, 2, 1.1);
    }
}

#[test]
fn fifty_members_own_about_the_same() {
    assert_balance(50, 4, 1.1);
}

/// The measurement is good to 2 % of a share of 500, and what is compared is the highest of 500 measured.
#[test]
fn many_members_own_about_the_same() {
    assert_balance(100, 2, 1.1);
    assert_balance(500, 2, 1.15);
}

/// Shares are of hashes evenly mixed; user ids are not, and their CRC-32 less so. Probing mixes them.
#[test]
fn users_with_ids_in_sequence_are_spread_alike() {
    let ring = fixtures::multiprobe(&(0..50).map(NAMES[0]).collect::<Vec<_>>());
    for ids in [(|n| format!("{n}")) as fn(u32) -> String, |n| format!("u{n:08}"), |n| format!("user_{}", n * 1000)] {
        const USERS: u32 = 1 << 17;
        let mut users = BTreeMap::new();
        (0..USERS).for_each(|n| *users.entry(ring.owner(ids(n).as_bytes()).number).or_insert(0u32) += 1);
        let fullest = f64::from(*users.values().max().unwrap()) * 50.0 / f64::from(USERS);
        println!("ids like {}: max/mean {fullest:.3}", ids(7));
        // 2 621 a member, and 51 the standard deviation of chance.
        assert!(fullest <= 1.15, "ids like {}: {fullest}", ids(7));
    }
}
