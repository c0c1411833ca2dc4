//! Nodes that want to hear of users here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, hash_map::Entry};

use super::{AT_ONCE, Name};
use crate::{peer::gateways::Incarnation, ring::NodeAddress};

/// How long a process is told that does not say any more that it wants to hear, in milliseconds.
pub const LEASE_MS: u64 = 60_000;

/// Most users times processes that want to hear of them.
const MOST: usize = 1 << 20;

/// One process of a node.
pub type Process = (NodeAddress, Incarnation);

/// Who wants to hear of whom.
#[derive(Debug)]
pub struct Readers {
    most: usize,
    readers: BTreeMap<Process, Reader>,
    /// By user, who wants to hear.
    of: HashMap<Name, Vec<Process>>,
    /// Users of all readers.
    count: usize,
}

#[derive(Debug)]
struct Reader {
    stream: u64,
    users: HashSet<Name>,
    /// Those of whom there is something to tell.
    changed: BTreeSet<Name>,
    heard_ms: u64,
}

// === impl Readers ===

impl Default for Readers {
    fn default() -> Self {
        Self::at_most(MOST)
    }
}

impl Readers {
    /// Nobody, and never more than that.
    pub fn at_most(most: usize) -> Self {
        Self { most, readers: BTreeMap::new(), of: HashMap::new(), count: 0 }
    }

    /// A process wants to hear of more users, or of fewer; says of which of the more ones it will. None if the question
    /// belongs to a stream that is not known: the process has to begin a new one.
    pub fn asked(
        &mut self,
        process: Process,
        (stream, begins): (u64, bool),
        (more, fewer): (&[Name], &[Name]),
        now_ms: u64,
    ) -> Option<Vec<bool>> {
        let known = self.readers.get(&process).map(|reader| reader.stream);
        match begins {
            true if known.is_none_or(|known| known < stream) => {
                self.forget(process);
                let new = Reader { stream, users: HashSet::new(), changed: BTreeSet::new(), heard_ms: now_ms };
                self.readers.insert(process, new);
            }
            false if known == Some(stream) => {}
            _ => return None,
        }
        let reader = self.readers.get_mut(&process)?;
        reader.heard_ms = now_ms;
        for user in fewer {
            if reader.users.remove(user) {
                reader.changed.remove(user);
                leave(&mut self.of, user, process);
                self.count -= 1;
            }
        }
        let accepted = more.iter().map(|user| {
            if reader.users.contains(user) {
                return true;
            }
            if self.count >= self.most {
                return false;
            }
            // The name that is here already, if one is.
            let name = self.of.get_key_value(user).map_or(user, |(name, _)| name).clone();
            reader.users.insert(Name::clone(&name));
            self.of.entry(name).or_default().push(process);
            self.count += 1;
            true
        });
        Some(accepted.collect())
    }

    /// A user has come, gone or moved: who is to be told.
    pub fn changed(&mut self, user: &[u8]) -> Vec<NodeAddress> {
        let Some((name, processes)) = self.of.get_key_value(user) else { return vec![] };
        let mut nodes = Vec::with_capacity(processes.len());
        for process in processes {
            if let Some(reader) = self.readers.get_mut(process) {
                reader.changed.insert(Name::clone(name));
                nodes.push(process.0);
            }
        }
        nodes
    }

    /// Whom to tell a process of next, and in which stream.
    pub fn next(&mut self, process: Process) -> Option<(u64, Vec<Name>)> {
        let reader = self.readers.get_mut(&process)?;
        let mut names = Vec::new();
        while names.len() < AT_ONCE
            && let Some(name) = reader.changed.pop_first()
        {
            names.push(name);
        }
        (!names.is_empty()).then_some((reader.stream, names))
    }

    /// It may not have been told of these.
    pub fn was_not_told(&mut self, process: Process, stream: u64, users: Vec<Name>) {
        if let Some(reader) = self.readers.get_mut(&process).filter(|reader| reader.stream == stream) {
            reader.changed.extend(users.into_iter().filter(|user| reader.users.contains(user)));
        }
    }

    /// It knows nothing of that stream any more.
    pub fn wants_no_more(&mut self, process: Process, stream: u64) {
        if self.readers.get(&process).is_some_and(|reader| reader.stream == stream) {
            self.forget(process);
        }
    }

    /// Forgets those who have not said for long that they want to hear, and those for whom `has_ended` is true.
    pub fn expire(&mut self, now_ms: u64, has_ended: impl Fn(Process) -> bool) {
        let over = |process: &Process, reader: &Reader| {
            now_ms.saturating_sub(reader.heard_ms) >= LEASE_MS || has_ended(*process)
        };
        let over: Vec<_> = self
            .readers
            .iter()
            .filter(|(process, reader)| over(process, reader))
            .map(|(process, _)| *process)
            .collect();
        for process in over {
            self.forget(process);
        }
    }

    fn forget(&mut self, process: Process) {
        let Some(reader) = self.readers.remove(&process) else { return };
        self.count -= reader.users.len();
        for user in reader.users {
            leave(&mut self.of, &user, process);
        }
    }

    /// Users times processes that want to hear of them.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nobody wants to hear of anybody.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Panics if something does not fit together.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.count, self.readers.values().map(|reader| reader.users.len()).sum::<usize>());
        assert_eq!(self.count, self.of.values().map(Vec::len).sum::<usize>());
        assert!(self.of.values().all(|processes| !processes.is_empty()) && self.count <= self.most);
        for (process, reader) in &self.readers {
            assert!(reader.users.iter().all(|user| self.of[user].contains(process)));
            assert!(reader.changed.is_subset(&reader.users.iter().cloned().collect()));
        }
    }
}

fn leave(of: &mut HashMap<Name, Vec<Process>>, user: &Name, process: Process) {
    if let Entry::Occupied(mut entry) = of.entry(Name::clone(user)) {
        entry.get_mut().retain(|other| *other != process);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    fn process(number: u16, started_ms: i64) -> Process {
        (fixtures::member(number, "x:1").address, Incarnation { started_ms, number: 7 })
    }

    fn names(users: &[&str]) -> Vec<Name> {
        users.iter().map(|user| user.as_bytes().into()).collect()
    }

    #[test]
    fn who_asked_is_told_once_however_often_something_changes() {
        let (mut readers, reader) = (Readers::default(), process(1, 1));
        assert_eq!(readers.asked(reader, (1, true), (&names(&["a", "b"]), &[]), 0), Some(vec![true, true]));
        assert_eq!(readers.next(reader), None);
        assert_eq!(readers.changed(b"c"), []);
        for _ in 0..3 {
            assert_eq!(readers.changed(b"a"), [reader.0]);
        }
        assert_eq!(readers.next(reader), Some((1, names(&["a"]))));
        assert_eq!(readers.next(reader), None);
        readers.was_not_told(reader, 1, names(&["a"]));
        assert_eq!(readers.asked(reader, (1, false), (&[], &names(&["b"])), 0), Some(vec![]));
        assert_eq!(readers.changed(b"b"), []);
        assert_eq!(readers.next(reader), Some((1, names(&["a"]))));
        readers.check();
    }

    #[test]
    fn what_belongs_to_another_stream_means_nothing() {
        let (mut readers, reader) = (Readers::default(), process(1, 1));
        assert_eq!(readers.asked(reader, (1, false), (&names(&["a"]), &[]), 0), None, "it has not begun");
        readers.asked(reader, (2, true), (&names(&["a"]), &[]), 0).unwrap();
        assert_eq!(readers.asked(reader, (1, true), (&names(&["b"]), &[]), 0), None);
        assert_eq!(readers.asked(reader, (1, false), (&[], &names(&["a"])), 0), None);
        readers.changed(b"a");
        readers.wants_no_more(reader, 1);
        let (stream, told) = readers.next(reader).unwrap();
        readers.asked(reader, (3, true), (&names(&["c"]), &[]), 0).unwrap();
        readers.was_not_told(reader, stream, told);
        assert_eq!(readers.next(reader), None);
        assert_eq!((readers.changed(b"a"), readers.changed(b"c")), (vec![], vec![reader.0]));
        readers.wants_no_more(reader, 3);
        assert!(readers.is_empty());
        readers.check();
    }

    #[test]
    fn who_says_nothing_any_more_or_has_ended_is_forgotten() {
        let (mut readers, [a, b, c]) = (Readers::default(), [process(1, 1), process(1, 2), process(2, 1)]);
        for reader in [a, b, c] {
            readers.asked(reader, (1, true), (&names(&["a"]), &[]), 0).unwrap();
        }
        readers.asked(b, (1, false), (&[], &[]), 1).unwrap();
        readers.expire(LEASE_MS - 1, |process| process == c);
        assert_eq!(readers.len(), 2);
        readers.expire(LEASE_MS, |_| false);
        assert_eq!((readers.len(), readers.changed(b"a")), (1, vec![b.0]));
        readers.check();
    }

    #[test]
    fn there_are_never_more_than_allowed() {
        let (mut readers, reader) = (Readers::at_most(2), process(1, 1));
        let all = names(&["a", "b", "a", "c"]);
        assert_eq!(readers.asked(reader, (1, true), (&all, &[]), 0), Some(vec![true, true, true, false]));
        assert_eq!(readers.asked(reader, (1, false), (&names(&["c"]), &names(&["a"])), 0), Some(vec![true]));
        readers.check();
    }
}
