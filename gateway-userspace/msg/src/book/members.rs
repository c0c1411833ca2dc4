//! Who is in a group.

use std::{collections::BTreeSet, ops::ControlFlow};

use bytes::Bytes;

use super::{Limits, Pending, Refusal, Seat, StorageError, Table, View, key, pending};

/// What becomes of a group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Exactly these.
    Set(BTreeSet<String>),
    /// These as well.
    Add(BTreeSet<String>),
    /// Not these.
    Remove(BTreeSet<String>),
}

// === impl Pending ===

impl<V: View> Pending<V> {
    /// Changes who is in a group, and says who is in it then. Whoever comes sees the whole conversation; whoever goes
    /// sees what was said until now.
    ///
    /// # Errors
    /// If the names are none, or there would be too many members; then nothing is written.
    pub fn change_members(
        &mut self,
        group: &str,
        change: Change,
        limits: &Limits,
    ) -> Result<BTreeSet<String>, Refusal> {
        key::check("the group's name", group)?;
        let before = members(self, group)?;
        let after: BTreeSet<String> = match change {
            Change::Set(users) => users,
            Change::Add(users) => &before | &users,
            Change::Remove(users) => &before - &users,
        };
        for user in &after {
            key::check("a user's name", user)?;
        }
        if after.len() > limits.members {
            return Err(Refusal::Arguments(format!(
                "the group would have {} members, and {} are the most",
                after.len(),
                limits.members
            )));
        }
        // Messages and notifications of a group are two conversations.
        let conversations = [format!("sg_{group}"), format!("n_{group}")];
        for user in before.difference(&after) {
            self.remove(Table::Members, key::pair(group, user));
            for conversation in &conversations {
                let last = pending::conversation(self, conversation)?.map_or(0, |known| known.max_seq);
                let seat = pending::seat(self, user, conversation)?.unwrap_or_default();
                let seat = Seat { max_seq: last, blind: last == 0, ..seat };
                self.put(Table::Seats, key::pair(user, conversation), &seat);
            }
        }
        for user in after.difference(&before) {
            self.put(Table::Members, key::pair(group, user), &());
            for conversation in &conversations {
                let seat = pending::seat(self, user, conversation)?.unwrap_or_default();
                let seat = Seat { max_seq: 0, blind: false, ..seat };
                self.put(Table::Seats, key::pair(user, conversation), &seat);
            }
        }
        Ok(after)
    }

    /// Refuses whoever is not in the group.
    pub(super) fn may_speak(&self, group: &str, user: &str) -> Result<(), Refusal> {
        if self.get(Table::Members, &key::pair(group, user))?.is_some() {
            return Ok(());
        }
        Err(if is_empty(self, group)? {
            Refusal::NoGroup(group.to_owned())
        } else {
            Refusal::NotInGroup { user: user.to_owned(), group: group.to_owned() }
        })
    }
}

/// The members of a group.
pub(super) fn members(view: &impl View, group: &str) -> Result<BTreeSet<String>, StorageError> {
    let mut members = BTreeSet::new();
    view.scan(Table::Members, key::all_of(group), false, &mut |key: &[u8], _: Bytes| {
        members.extend(key::second(key).map(str::to_owned));
        ControlFlow::Continue(())
    })?;
    Ok(members)
}

fn is_empty(view: &impl View, group: &str) -> Result<bool, StorageError> {
    let mut empty = true;
    view.scan(Table::Members, key::all_of(group), false, &mut |_: &[u8], _: Bytes| {
        empty = false;
        ControlFlow::Break(())
    })?;
    Ok(empty)
}
