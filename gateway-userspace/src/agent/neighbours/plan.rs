//! Which neighbour entries to have the kernel keep, and which to let go. Pure.

use std::{collections::BTreeSet, net::IpAddr};

/// A neighbour as the kernel's table names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The interface it is reached through.
    pub interface: u32,
    /// Its address on that link.
    pub address: IpAddr,
}

/// An entry of the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of whom.
    pub neighbour: Neighbour,
    /// Whether the kernel keeps it resolved (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// Whether we asked it to.
    pub ours: bool,
    /// Whether somebody has written its link-layer address down for good: nothing is left to keep.
    pub permanent: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have the kernel keep it.
    Keep(Neighbour),
    /// Let the kernel forget it again.
    Release(Neighbour),
}

/// How to get from the `present` entries to those `wanted`. Entries that others manage or made permanent are left alone.
pub fn steps(wanted: &BTreeSet<Neighbour>, present: &[Entry]) -> Vec<Step> {
    let kept: BTreeSet<_> =
        present.iter().filter(|entry| entry.managed || entry.permanent).map(|entry| entry.neighbour).collect();
    let release = present
        .iter()
        .filter(|entry| entry.ours && entry.managed && !wanted.contains(&entry.neighbour))
        .map(|entry| Step::Release(entry.neighbour));
    wanted.difference(&kept).copied().map(Step::Keep).chain(release).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(last: u8) -> Neighbour {
        Neighbour { interface: 2, address: [198, 51, 100, last].into() }
    }

    fn entry(last: u8, managed: bool, ours: bool, permanent: bool) -> Entry {
        Entry { neighbour: neighbour(last), managed, ours, permanent }
    }

    #[test]
    fn only_what_is_ours_is_touched() {
        let wanted = [1, 2, 3, 4, 5].map(neighbour).into();
        let present = [
            // 1 is unknown; 2 was learnt; 3 is kept for us; 4 is written down; 5 is kept for somebody else.
            entry(2, false, false, false),
            entry(3, true, true, false),
            entry(4, false, false, true),
            entry(5, true, false, false),
            // Nobody of these is wanted any more.
            entry(6, true, true, false),
            entry(7, true, false, false),
            entry(8, false, false, false),
        ];
        let expected = [Step::Keep(neighbour(1)), Step::Keep(neighbour(2)), Step::Release(neighbour(6))];
        assert_eq!(steps(&wanted, &present), expected);
    }

    #[test]
    fn when_all_is_as_wanted_nothing_is_done() {
        let wanted = [1, 2].map(neighbour).into();
        assert_eq!(steps(&wanted, &[entry(1, true, true, false), entry(2, true, true, false)]), []);
    }
}
