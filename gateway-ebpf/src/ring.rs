//! From a key to its owner: the one lookup that the kernel, the gateway and the CLI share (promise 1).
//!
//! A ring is a sorted list of points on a circle of 2³² positions, and a key stands at its hash. What lies next on the
//! circle is the first point *strictly greater*; past the last point the circle begins again. Which point owns the key
//! is up to the ring's [`algorithm`]:
//!
//! * `openim`: the next one. This is how `stathat/consistent` searches, down to the strictness, so an unmodified OpenIM
//!   pusher agrees with us.
//! * `multiprobe`: the key stands at [`PROBES`] positions instead of one, and of their next points the one nearest to
//!   its position owns the key (after B. Appleton and M. O'Reilly, *Multi-probe consistent hashing*, 2015). A wide gap in
//!   front of a point no longer fills one member: a probe that falls into it is mostly beaten by another one that came
//!   to lie closer to its point. A new member's points can only come closer to a probe than what was there, and of equal
//!   ones the lower probe goes first; so a key either moves to the new member or does not move.

use crate::layout::ring::{MAX_POINTS, Point, Ring};

/// How a ring is searched: the field `algorithm` of [`Ring`].
pub mod algorithm {
    /// As `stathat/consistent`.
    pub const OPENIM: u32 = 1;
    /// Many probes a key.
    pub const MULTIPROBE: u32 = 2;
}

/// How many positions a key has in `multiprobe`.
pub const PROBES: u32 = 21;

/// What tells one probe of a key from the next: 2³² divided by the golden ratio.
const STRIDE: u32 = 0x9e37_79b9;

/// How many halvings find a position among [`MAX_POINTS`] points.
const STEPS: u32 = MAX_POINTS.trailing_zeros();

/// The finaliser of MurmurHash3 (Appleby), a bijection: each bit of `hash` changes about half of the result's.
#[inline(always)]
pub const fn fmix32(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// Position number `index` of the key at `hash`, in `multiprobe`.
#[inline(always)]
pub const fn probe(hash: u32, index: u32) -> u32 {
    fmix32(hash ^ index.wrapping_mul(STRIDE))
}

/// The index of the point that owns `hash` among the first `count` of `points`, which are sorted by hash without
/// repeats. `None` if there are no points, or more than the array holds, or if nobody here knows the algorithm.
///
/// `zero` is 0, see [`next_index`].
#[inline(always)]
pub fn owner_index(algorithm: u32, points: &[Point; MAX_POINTS], count: u32, hash: u32, zero: u32) -> Option<usize> {
    owner_index_by(algorithm, points, hash, |position| next_index(points, count, position, zero))
}

/// [`owner_index`] by another way to the next point: the kernel program makes [`next_index`] a function of its own.
#[inline(always)]
pub fn owner_index_by(
    algorithm: u32,
    points: &[Point; MAX_POINTS],
    hash: u32,
    next_index: impl Fn(u32) -> Option<usize>,
) -> Option<usize> {
    match algorithm {
        algorithm::OPENIM => next_index(hash),
        algorithm::MULTIPROBE => nearest_index(points, hash, next_index),
        _ => None,
    }
}

/// The point of a published ring that owns `hash`: [`owner_index`] for userspace, compiled in this library, once. The
/// workspace optimises this package in debug builds too, because measuring a ring takes millions of lookups.
#[inline(never)]
pub fn owner(ring: &Ring, hash: u32) -> Option<&Point> {
    let index = owner_index(ring.algorithm, &ring.points, ring.point_count, hash, 0)?;
    ring.points.get(index)
}

/// The index of the next point after the nearest of the key's probes; of several as near, that of the first probe.
#[inline(always)]
fn nearest_index(points: &[Point; MAX_POINTS], hash: u32, next_index: impl Fn(u32) -> Option<usize>) -> Option<usize> {
    let mut owner = 0;
    // More than 32 bits of distance.
    let mut least = u64::MAX;
    let mut index = 0;
    while index < PROBES {
        let probe = probe(hash, index);
        let candidate = next_index(probe)? & (MAX_POINTS - 1);
        let distance = points[candidate].hash.wrapping_sub(probe) as u64;
        if distance < least {
            least = distance;
            owner = candidate;
        }
        index += 1;
    }
    Some(owner)
}

/// The index of the next point after `position`; of whom, see [`owner_index`].
///
/// The search is a lower bound with a fixed number of steps. It starts at `zero`, which is 0; the kernel program passes
/// one that the verifier cannot see to be 0, because with a known start it would walk every path to every point, 2¹⁵ of
/// them, where from an unknown one all paths look alike.
#[inline(always)]
pub fn next_index(points: &[Point; MAX_POINTS], count: u32, position: u32, zero: u32) -> Option<usize> {
    /// Cuts positions, to the same range on every path; changes none, since all are at most MAX_POINTS.
    const RANGE: u32 = 2 * MAX_POINTS as u32 - 1;
    // How many points are at or below `position`.
    let mut below = zero & RANGE;
    let mut step = MAX_POINTS as u32;
    // One step more than halvings: the first covers the case that all MAX_POINTS points are at or below.
    for _ in 0..=STEPS {
        let probe = below + step;
        // The mask lets compiler and verifier see what `probe <= count` implies.
        if probe <= count && points[(probe - 1) as usize & (MAX_POINTS - 1)].hash <= position {
            below = probe & RANGE;
        }
        step >>= 1;
    }
    // Checked only now: a compiler that knew the bound above would find the cuts superfluous and leave them out.
    if count == 0 || count > MAX_POINTS as u32 {
        return None;
    }
    Some(if below == count { 0 } else { below as usize & (MAX_POINTS - 1) })
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn ring_of(hashes: &[u32]) -> Box<Ring> {
        let mut ring: Box<Ring> = bytemuck::zeroed_box();
        for (index, &hash) in hashes.iter().enumerate() {
            ring.points[index] = Point { hash, node: index as u32 };
        }
        ring.algorithm = algorithm::OPENIM;
        ring.point_count = hashes.len() as u32;
        ring
    }

    /// Which point the search finds.
    fn searched(ring: &Ring, hash: u32) -> Option<usize> {
        owner_index(ring.algorithm, &ring.points, ring.point_count, hash, 0)
    }

    /// The definition, word for word: the first point strictly greater, else the first of all.
    fn by_definition(hashes: &[u32], hash: u32) -> Option<usize> {
        hashes.iter().position(|&point| point > hash).or((!hashes.is_empty()).then_some(0))
    }

    /// The same for `multiprobe`: of the probes' next points the one at the least distance, of several the first.
    fn nearest_by_definition(hashes: &[u32], hash: u32) -> Option<usize> {
        (0..21u32)
            .map(|index| fmix32(hash ^ index.wrapping_mul(0x9e37_79b9)))
            .filter_map(|probe| by_definition(hashes, probe).map(|at| (hashes[at].wrapping_sub(probe), at)))
            .min_by_key(|&(distance, _)| distance)
            .map(|(_, at)| at)
    }

    #[test]
    fn the_finaliser_is_the_published_one() {
        // From MurmurHash3's reference implementation.
        assert_eq!([0, 1, 0xffff_ffff].map(fmix32), [0, 0x514e_28b7, 0x81f1_6f39]);
    }

    #[test]
    fn a_probe_that_hits_a_point_goes_on_to_the_next() {
        let mut hashes: Vec<u32> = (0..PROBES).map(|index| probe(7, index)).collect();
        hashes.sort_unstable();
        let mut ring = ring_of(&hashes);
        ring.algorithm = algorithm::MULTIPROBE;
        assert_eq!(searched(&ring, 7), nearest_by_definition(&hashes, 7));
        // Of one point alone, each probe is a way around the circle off, or, on it, none.
        let mut alone = ring_of(&[probe(7, 3)]);
        alone.algorithm = algorithm::MULTIPROBE;
        assert_eq!(searched(&alone, 7), Some(0));
    }

    #[test]
    fn an_algorithm_nobody_knows_has_no_owners() {
        let mut ring = ring_of(&[1, 2, 3]);
        ring.algorithm = 3;
        assert_eq!((searched(&ring, 7), owner(&ring, 7)), (None, None));
    }

    proptest! {
        #[test]
        fn finds_the_nearest_of_all_probes(hashes in prop::collection::btree_set(any::<u32>(), 0..300), keys: [u32; 16]) {
            let sorted: Vec<u32> = hashes.into_iter().collect();
            let mut ring = ring_of(&sorted);
            ring.algorithm = algorithm::MULTIPROBE;
            for key in keys {
                prop_assert_eq!(searched(&ring, key), nearest_by_definition(&sorted, key));
                prop_assert_eq!(owner(&ring, key).map(|point| point.hash), searched(&ring, key).map(|at| sorted[at]));
            }
        }

        #[test]
        fn finds_the_first_point_strictly_greater(mut hashes in prop::collection::btree_set(any::<u32>(), 0..300), hash: u32, pick: prop::sample::Index) {
            // Half of the value of this test is in hashes that equal a point.
            if !hashes.is_empty() && hash.is_multiple_of(2) {
                let exact = *hashes.iter().nth(pick.index(hashes.len())).unwrap();
                hashes.insert(exact.saturating_add(1));
                let sorted: Vec<u32> = hashes.iter().copied().collect();
                prop_assert_eq!(searched(&ring_of(&sorted), exact), by_definition(&sorted, exact));
            }
            let sorted: Vec<u32> = hashes.into_iter().collect();
            prop_assert_eq!(searched(&ring_of(&sorted), hash), by_definition(&sorted, hash));
        }
    }

    #[test]
    fn a_full_ring_is_searched_to_its_last_point() {
        let hashes: Vec<u32> = (0..MAX_POINTS as u32).map(|i| i * 3).collect();
        let ring = ring_of(&hashes);
        for hash in [0, 1, 2, 3, 49_151, 3 * (MAX_POINTS as u32 - 1) - 1, 3 * (MAX_POINTS as u32 - 1), u32::MAX] {
            assert_eq!(searched(&ring, hash), by_definition(&hashes, hash), "hash {hash}");
        }
    }

    #[test]
    fn a_count_the_array_cannot_hold_is_no_ring() {
        let ring = ring_of(&[]);
        for algorithm in [algorithm::OPENIM, algorithm::MULTIPROBE] {
            for count in [0, MAX_POINTS as u32 + 1] {
                assert_eq!(owner_index(algorithm, &ring.points, count, 7, 0), None);
            }
        }
    }
}
