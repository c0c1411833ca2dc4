//! Which number a service has. Pure.
//!
//! Flows name their service by its number, so a number stays with a service for as long as that exists, and is not
//! given to another while a flow can still name it: the flows of the one would become the other's.

use std::collections::{BTreeMap, BTreeSet};

use ringsteer_ebpf::layout::{Address, service::MAX_SERVICES};

/// A virtual address and port.
pub type Place = (Address, u32);

/// Highest number; flows have 16 bits for it.
const HIGHEST: u32 = u16::MAX as u32;

/// Gives out numbers.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The number given last. The search for the next one starts here, so that one just given back stays unused for a
    /// long time: the programs believe for a moment longer what they have read.
    last: u32,
}

impl Numbers {
    /// The number of each of the services `wanted`: of those `present` the one they have, for the others one that is
    /// neither among the present ones, removed or not, nor named by a flow.
    pub fn assign(
        &mut self,
        present: &BTreeMap<Place, u32>,
        wanted: &BTreeSet<Place>,
        in_flows: &BTreeSet<u32>,
    ) -> BTreeMap<Place, u32> {
        let taken: BTreeSet<u32> = present.values().chain(in_flows).copied().collect();
        self.last = self.last.max(taken.last().copied().unwrap_or(0));
        let last = self.last;
        let mut free = (0..HIGHEST).map(|step| (last + step) % HIGHEST + 1).filter(|number| !taken.contains(number));
        let mut given = None;
        let assigned = wanted
            .iter()
            .map(|place| {
                let number = present.get(place).copied().unwrap_or_else(|| {
                    // Were every number in flows, one would have to be used again.
                    let number = free.next().unwrap_or(1);
                    given = Some(number);
                    number
                });
                (*place, number)
            })
            .collect();
        self.last = given.unwrap_or(self.last);
        assigned
    }
}

// What makes the fallback above a matter of principle: services alone cannot use up the numbers.
const _: () = assert!(2 * MAX_SERVICES < HIGHEST as usize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(port: u32) -> Place {
        ([0; 16], port)
    }

    #[test]
    fn a_number_given_back_is_not_used_again_at_once() {
        let mut numbers = Numbers::default();
        let none = BTreeSet::new();
        let first = numbers.assign(&BTreeMap::new(), &[place(1), place(2)].into(), &none);
        assert_eq!(first.values().copied().collect::<Vec<_>>(), [1, 2]);
        // The second goes, a third comes: the number of the second is still in flows, or just was.
        let second = numbers.assign(&first, &[place(1), place(3)].into(), &[2].into());
        assert_eq!(second[&place(3)], 3);
        let third = numbers.assign(&second, &[place(1), place(4)].into(), &none);
        assert_eq!((third[&place(1)], third[&place(4)]), (1, 4));
    }

    #[test]
    fn an_agent_that_knows_nothing_avoids_what_flows_name() {
        // Restarted: the highest number is in a flow only, its service is gone.
        let mut numbers = Numbers::default();
        let present = [(place(1), 1)].into();
        let assigned = numbers.assign(&present, &[place(1), place(9)].into(), &[7].into());
        assert_eq!(assigned[&place(9)], 8);
        // At the end of the numbers it begins again.
        let mut numbers = Numbers { last: HIGHEST };
        let assigned = numbers.assign(&present, &[place(2)].into(), &[2, 3].into());
        assert_eq!(assigned[&place(2)], 4);
    }

    proptest! {
        #[test]
        fn no_number_twice_and_none_that_is_taken(
            steps in prop::collection::vec((prop::collection::btree_set(0..12u32, 0..8), prop::collection::btree_set(1..20u32, 0..8)), 1..20),
            last in 0..=HIGHEST,
        ) {
            let mut numbers = Numbers { last };
            let mut present = BTreeMap::new();
            for (ports, in_flows) in steps {
                let wanted: BTreeSet<Place> = ports.into_iter().map(place).collect();
                let assigned = numbers.assign(&present, &wanted, &in_flows);
                prop_assert_eq!(assigned.keys().copied().collect::<BTreeSet<_>>(), wanted);
                prop_assert_eq!(assigned.values().collect::<BTreeSet<_>>().len(), assigned.len());
                for (place, number) in &assigned {
                    prop_assert!((1..=HIGHEST).contains(number));
                    match present.get(place) {
                        Some(before) => prop_assert_eq!(before, number),
                        None => prop_assert!(!in_flows.contains(number) && !present.values().any(|n| n == number)),
                    }
                }
                present = assigned;
            }
        }
    }
}
