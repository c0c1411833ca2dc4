//! The lookup of `multiprobe`: many probes a key instead of many points a member.
//!
//! After B. Appleton and M. O'Reilly, *Multi-probe consistent hashing* (2015). A key is sent to 21 positions; at each,
//! the next point is found as in `openim`, and of these the one nearest to its probe owns the key. A wide gap before a
//! point no longer fills one member: a probe that falls into it is mostly beaten by another one that came to lie closer
//! to its point.
//!
//! A new member's points can only come closer to a probe than what was there, and of equal ones the lower probe goes
//! first; so a key either moves to the new member or does not move.

use ringsteer_ebpf::{
    layout::ring::{MAX_POINTS, Point},
    ring::next_point,
};

/// Probes of a key.
const PROBES: u32 = 21;

/// How the probes of a key differ: 2³² divided by the golden ratio, whose multiples differ in many bits.
const STRIDE: u32 = 0x9e37_79b9;

/// The finaliser of MurmurHash3: mixes 32 bits so that each bit of the input changes half of the output. A bijection.
pub(super) fn fmix32(mut hash: u32) -> u32 {
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

/// The index of the point that owns `hash` among the first `count` of `points`. `None` if there are no points, or more
/// than the array holds.
pub(super) fn owner_index(points: &[Point; MAX_POINTS], count: u32, hash: u32) -> Option<usize> {
    let mut nearest: Option<(u32, usize)> = None;
    for index in 0..PROBES {
        let probe = fmix32(hash ^ index.wrapping_mul(STRIDE));
        let point = next_point(points, count, probe)?;
        let distance = points[point].hash.wrapping_sub(probe);
        if nearest.is_none_or(|(least, _)| distance < least) {
            nearest = Some((distance, point));
        }
    }
    nearest.map(|(_, point)| point)
}

#[cfg(test)]
mod tests;
