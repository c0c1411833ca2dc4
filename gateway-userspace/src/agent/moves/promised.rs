//! For whom connections are held: so that a hold can end at once when the gateway that held has ended, and the one that was
//! to have the connection does not have it. Pure.
//!
//! It is not in the pinned maps. What an agent before this one was told is not known, and such holds end by their time.

use std::collections::HashMap;

use ringsteer_ebpf::layout::flow::FlowKey;

use crate::control::Promise;

/// The key of a flow, as bytes.
type Key = [u8; size_of::<FlowKey>()];

/// The promises, each with the count of its move.
#[derive(Debug, Default)]
pub(super) struct Promised(HashMap<Key, (u16, Promise)>);

// === impl Promised ===

impl Promised {
    /// A connection is held for somebody, by its so manieth move.
    pub(super) fn note(&mut self, key: &FlowKey, count: u16, promise: Promise) {
        self.0.insert(bytemuck::cast(*key), (count, promise));
    }

    /// It is not held any more.
    pub(super) fn forget(&mut self, key: &FlowKey) {
        self.0.remove(&bytemuck::cast::<_, Key>(*key));
    }

    /// Those that are held by that life for that member, which are forgotten with this.
    pub(super) fn take(&mut self, promise: Promise) -> Vec<(FlowKey, u16)> {
        let taken = self.0.extract_if(|_, (_, one)| *one == promise);
        taken.map(|(key, (count, _))| (bytemuck::cast(key), count)).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::MemberNumber;

    #[test]
    fn what_is_held_is_given_out_once_and_to_the_right_one() {
        let key = |port| FlowKey { client_port: port, ..bytemuck::Zeroable::zeroed() };
        let promise = |to, by| Promise { to: MemberNumber::new(to).unwrap(), by };
        let mut promised = Promised::default();
        for (port, count, to, by) in [(1, 1, 2, 7), (2, 1, 3, 7), (3, 5, 2, 8), (4, 1, 2, 7), (5, 1, 2, 7)] {
            promised.note(&key(port), count, promise(to, by));
        }
        // Held once more, for somebody else; and moved.
        promised.note(&key(4), 2, promise(3, 7));
        promised.forget(&key(5));
        let ports = |taken: Vec<(FlowKey, u16)>| {
            let mut taken: Vec<_> = taken.into_iter().map(|(key, count)| (key.client_port, count)).collect();
            taken.sort_unstable();
            taken
        };
        assert_eq!(ports(promised.take(promise(2, 7))), [(1, 1)]);
        assert_eq!(ports(promised.take(promise(2, 7))), []);
        assert_eq!(ports(promised.take(promise(3, 7))), [(2, 1), (4, 2)]);
        assert_eq!(ports(promised.take(promise(2, 8))), [(3, 5)]);
    }
}
