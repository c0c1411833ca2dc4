//! From a key to its owner: the one lookup that the kernel, the gateway and the CLI share (promise 1).
//!
//! A ring is a sorted list of points on a circle of 2³² positions. A key stands at its hash; its owner holds the first
//! point *strictly greater* than that, and past the last point the circle begins again. This is how
//! `stathat/consistent` searches, down to the strictness, so an unmodified OpenIM pusher agrees with us.

use crate::layout::ring::{MAX_POINTS, Point};

/// How many halvings find a position among [`MAX_POINTS`] points.
const STEPS: u32 = MAX_POINTS.trailing_zeros();

/// The index of the point that owns `hash` among the first `count` of `points`, which are sorted by hash without
/// repeats. `None` if there are no points, or more than the array holds.
///
/// The search is a lower bound with a fixed number of steps. `zero` is 0; the kernel program passes one that the
/// verifier cannot see to be 0, because with a known start it would walk every path to every point, 2¹⁵ of them, where
/// from an unknown one all paths look alike.
#[inline(always)]
pub fn owner_index(points: &[Point; MAX_POINTS], count: u32, hash: u32, zero: u32) -> Option<usize> {
    /// Cuts positions, to the same range on every path; changes none, since all are at most MAX_POINTS.
    const RANGE: u32 = 2 * MAX_POINTS as u32 - 1;
    // How many points are at or below `hash`.
    let mut below = zero & RANGE;
    let mut step = MAX_POINTS as u32;
    // One step more than halvings: the first covers the case that all MAX_POINTS points are at or below.
    for _ in 0..=STEPS {
        let probe = below + step;
        // The mask lets compiler and verifier see what `probe <= count` implies.
        if probe <= count && points[(probe - 1) as usize & (MAX_POINTS - 1)].hash <= hash {
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

/// [`owner_index`], compiled in this library, once. For userspace: the workspace optimises this package in debug builds
/// too, because measuring a ring takes millions of lookups.
#[inline(never)]
pub fn next_point(points: &[Point; MAX_POINTS], count: u32, hash: u32) -> Option<usize> {
    owner_index(points, count, hash, 0)
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::layout::ring::Ring;

    fn ring_of(hashes: &[u32]) -> Box<Ring> {
        let mut ring: Box<Ring> = bytemuck::zeroed_box();
        for (index, &hash) in hashes.iter().enumerate() {
            ring.points[index] = Point { hash, node: index as u32 };
        }
        ring.point_count = hashes.len() as u32;
        ring
    }

    /// The definition, word for word: the first point strictly greater, else the first of all.
    fn by_definition(hashes: &[u32], hash: u32) -> Option<usize> {
        hashes.iter().position(|&point| point > hash).or((!hashes.is_empty()).then_some(0))
    }

    proptest! {
        #[test]
        fn finds_the_first_point_strictly_greater(mut hashes in prop::collection::btree_set(any::<u32>(), 0..300), hash: u32, pick: prop::sample::Index) {
            // Half of the value of this test is in hashes that equal a point.
            if !hashes.is_empty() && hash.is_multiple_of(2) {
                let exact = *hashes.iter().nth(pick.index(hashes.len())).unwrap();
                hashes.insert(exact.saturating_add(1));
                let sorted: Vec<u32> = hashes.iter().copied().collect();
                prop_assert_eq!(owner_index(&ring_of(&sorted).points, sorted.len() as u32, exact, 0), by_definition(&sorted, exact));
            }
            let sorted: Vec<u32> = hashes.into_iter().collect();
            prop_assert_eq!(owner_index(&ring_of(&sorted).points, sorted.len() as u32, hash, 0), by_definition(&sorted, hash));
        }
    }

    #[test]
    fn a_full_ring_is_searched_to_its_last_point() {
        let hashes: Vec<u32> = (0..MAX_POINTS as u32).map(|i| i * 3).collect();
        let ring = ring_of(&hashes);
        for hash in [0, 1, 2, 3, 49_151, 3 * (MAX_POINTS as u32 - 1) - 1, 3 * (MAX_POINTS as u32 - 1), u32::MAX] {
            assert_eq!(
                owner_index(&ring.points, ring.point_count, hash, 0),
                by_definition(&hashes, hash),
                "hash {hash}"
            );
        }
    }

    #[test]
    fn a_count_the_array_cannot_hold_is_no_ring() {
        let ring = ring_of(&[]);
        assert_eq!(owner_index(&ring.points, 0, 7, 0), None);
        assert_eq!(owner_index(&ring.points, MAX_POINTS as u32 + 1, 7, 0), None);
    }
}
