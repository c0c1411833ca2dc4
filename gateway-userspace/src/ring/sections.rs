//! Cutting the hash space into sections in which nobody's owner changes, so that shares can be added up.

use ringsteer_ebpf::ring::fmix32;

use super::{MemberNumber, Precision, Ring};

/// How many hashes stand for all of them where shares are measured, as a power of two.
const SAMPLES_LOG2: u32 = 20;

/// Where the samples start. Any number would do; a fixed one makes every run and every node say the same.
const SEED: u32 = 0x5bd1_e995;

/// A part of the hash space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// A hash in it, which has the owner that all of it has.
    pub(super) hash: u32,
    /// How many hashes it stands for.
    pub(super) width: u64,
}

/// Sections that together are the whole hash space, and in each of which no owner changes in any of `rings`; or, if one
/// of them can only be measured, hashes that each stand for equally many.
pub(super) fn sections(rings: &[&Ring]) -> Vec<Section> {
    if rings.iter().all(|ring| ring.algorithm().precision() == Precision::Exact) {
        between_points(rings)
    } else {
        samples()
    }
}

/// What each member of `ring` owns, in ring order, if it is `owned` hashes.
pub(super) fn shares(ring: &Ring, owned: &[u64]) -> Vec<(MemberNumber, f64)> {
    ring.members().iter().zip(owned).map(|(member, &owned)| (member.number, share(owned))).collect()
}

/// The share, from 0 to 1, that `width` hashes are of all.
pub(super) fn share(width: u64) -> f64 {
    // At most 2^32, and divided by a power of two: exact.
    width as f64 / (1u64 << 32) as f64
}

/// Between two neighbouring points of any ring, the first included: a key at a point belongs to the next one.
fn between_points(rings: &[&Ring]) -> Vec<Section> {
    let mut borders: Vec<u32> = rings.iter().flat_map(|ring| ring.points()).map(|point| point.hash).collect();
    borders.push(0);
    borders.sort_unstable();
    borders.dedup();
    let ends = borders.iter().skip(1).map(|&end| u64::from(end)).chain([1 << 32]);
    borders.iter().zip(ends).map(|(&hash, end)| Section { hash, width: end - u64::from(hash) }).collect()
}

fn samples() -> Vec<Section> {
    // Consecutive numbers through a bijection: no hash twice.
    (0..1 << SAMPLES_LOG2).map(|n| Section { hash: fmix32(n ^ SEED), width: 1 << (32 - SAMPLES_LOG2) }).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[test]
    fn sections_are_the_whole_hash_space() {
        let (openim, bare) = (fixtures::openim(5, ":88"), fixtures::openim(5, ""));
        let mixed = fixtures::multiprobe(&["gw-0:88", "gw-1:88"]);
        let cases = [
            (vec![&openim], 101),
            (vec![&openim, &bare], 201),
            (vec![&openim, &mixed], 1 << 20),
            (vec![&mixed], 1 << 20),
        ];
        for (rings, count) in cases {
            let sections = sections(&rings);
            assert_eq!(sections.len(), count);
            assert_eq!(share(sections.iter().map(|section| section.width).sum()), 1.0);
        }
    }

    #[test]
    fn samples_are_distinct_and_even() {
        let mut hashes: Vec<u32> = samples().iter().map(|section| section.hash).collect();
        // In each 256th of the space as many as chance would put there: 4096 expected, 64 the standard deviation.
        let mut buckets = [0i32; 256];
        hashes.iter().for_each(|hash| buckets[(hash >> 24) as usize] += 1);
        assert!(buckets.iter().all(|count| (count - 4096).abs() < 5 * 64), "{buckets:?}");
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1 << 20);
    }
}
