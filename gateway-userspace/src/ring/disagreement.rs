//! How far two rings disagree: what a fleet loses when two of its parts each compute a ring of their own.

use super::Ring;

/// The share of the hash space, from 0 to 1, whose owner stands at another place in the member list of `a` than in
/// that of `b`.
///
/// Places are compared rather than identities, because the rings worth comparing spell the same nodes differently
/// (with a port and without), or one has more members at the end than the other. Exact: every position of the hash
/// space counts once.
pub fn by_place(a: &Ring, b: &Ring) -> f64 {
    // Between two neighbouring points of either ring nothing changes hands, so one key speaks for all of them.
    let mut borders: Vec<u32> = a.points().iter().chain(b.points()).map(|point| point.hash).collect();
    borders.push(0);
    borders.sort_unstable();
    borders.dedup();
    let ends = borders.iter().skip(1).map(|&end| u64::from(end)).chain([1 << 32]);
    let disagreed: u64 = borders
        .iter()
        .zip(ends)
        .filter(|&(&start, _)| a.place_of_hash(start) != b.place_of_hash(start))
        .map(|(&start, end)| end - u64::from(start))
        .sum();
    // Both are below 2^53: the division is exact.
    disagreed as f64 / (1u64 << 32) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[track_caller]
    fn assert_percent(a: &Ring, b: &Ring, expected: &str) {
        assert_eq!(format!("{:.1}", by_place(a, b) * 100.0), expected);
        assert_eq!(by_place(a, b), by_place(b, a));
    }

    #[test]
    fn names_without_a_port_are_another_ring() {
        let published = [(2, "55.3"), (3, "71.3"), (5, "76.2"), (8, "90.9"), (16, "94.7"), (50, "98.2")];
        for (members, percent) in published {
            assert_percent(&fixtures::openim(members, ":88"), &fixtures::openim(members, ""), percent);
        }
    }

    #[test]
    fn a_resize_moves_only_what_it_must() {
        for (from, to, percent) in [(1, 2, "52.4"), (2, 3, "37.1"), (3, 4, "31.3"), (5, 6, "16.2"), (8, 9, "33.6")] {
            assert_percent(&fixtures::openim(from, ":88"), &fixtures::openim(to, ":88"), percent);
        }
    }

    #[test]
    fn a_ring_agrees_with_itself() {
        let ring = fixtures::openim(5, ":88");
        assert_eq!(by_place(&ring, &ring), 0.0);
    }
}
