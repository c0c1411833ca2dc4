//! The book, rule by rule; and against a model, by chance.

mod rules;
mod simulation;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::{ControlFlow, Range},
};

use bytes::Bytes;
use ringsteer_openim::message::sdkws::MsgData;

use super::{Accepted, Limits, Pending, Refusal, StorageError, Table, View, Write};

/// Tables in memory.
#[derive(Clone, Debug, Default)]
struct Memory(BTreeMap<(Table, Vec<u8>), Bytes>);

impl Memory {
    fn apply(&mut self, writes: impl Iterator<Item = Write>) {
        for (table, key, value) in writes {
            match value {
                Some(value) => self.0.insert((table, key), value),
                None => self.0.remove(&(table, key)),
            };
        }
    }

    /// Does something and keeps what comes of it.
    fn with<T>(&mut self, work: impl FnOnce(&mut Pending<&Self>) -> T) -> T {
        let mut pending = Pending::over(&*self);
        let done = work(&mut pending);
        let writes: Vec<_> = pending.into_writes().collect();
        self.apply(writes.into_iter());
        done
    }

    /// Sends a message at a time; its name is that of the sender's, with a mark.
    fn send(&mut self, message: MsgData, now_ms: i64) -> Result<Accepted, Refusal> {
        let name = format!("server-{}", message.client_msg_id);
        self.with(|book| book.send(message, false, name, now_ms, &Limits::default()))
    }
}

impl View for &Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Vec<u8>>,
        backwards: bool,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        if range.start < range.end {
            let entries = self.0.range((table, range.start)..(table, range.end));
            let mut show = |((_, key), value): (&(Table, Vec<u8>), &Bytes)| visit(key, value.clone());
            let _ =
                if backwards { entries.rev().try_for_each(&mut show) } else { entries.into_iter().try_for_each(show) };
        }
        Ok(())
    }
}

/// A message of one user to another.
fn single(from: &str, to: &str, client_msg_id: &str) -> MsgData {
    MsgData {
        send_id: from.into(),
        recv_id: to.into(),
        client_msg_id: client_msg_id.into(),
        session_type: 1,
        content: format!("{from} says {client_msg_id}").into(),
        ..MsgData::default()
    }
}

/// A message to a group.
fn to_group(from: &str, group: &str, client_msg_id: &str) -> MsgData {
    MsgData { recv_id: String::new(), group_id: group.into(), session_type: 3, ..single(from, "", client_msg_id) }
}

fn users(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
