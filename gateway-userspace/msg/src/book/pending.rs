//! Writes that are not stored yet, over what is.
//!
//! Many messages are stored together, with one call to the disk. Each has to see what those before it will leave behind,
//! and readers must not see any of it until it is on disk.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
};

use bytes::Bytes;
use prost::Message;

use super::{StorageError, Table, View, key, record};

/// What is to stand under a key; `None` for nothing.
pub type Write = (Table, Vec<u8>, Option<Bytes>);

/// The tables as they will be.
#[derive(Debug)]
pub struct Pending<V> {
    stored: V,
    writes: BTreeMap<(Table, Vec<u8>), Option<Bytes>>,
    bytes: usize,
}

// === impl Pending ===

impl<V: View> Pending<V> {
    /// Nothing to write yet.
    pub fn over(stored: V) -> Self {
        Self { stored, writes: BTreeMap::new(), bytes: 0 }
    }

    /// All that is to be written.
    pub fn into_writes(self) -> impl Iterator<Item = Write> {
        self.writes.into_iter().map(|((table, key), value)| (table, key, value))
    }

    /// How much that is, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, record: &impl Message) {
        self.write(table, key, Some(record.encode_to_vec().into()));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.write(table, key, None);
    }

    fn write(&mut self, table: Table, key: Vec<u8>, value: Option<Bytes>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.writes.insert((table, key), value);
    }
}

impl<V: View> View for Pending<V> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        // The map's keys are owned, so one has to be made to look.
        match self.writes.get(&(table, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.stored.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Vec<u8>>,
        backwards: bool,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        // Only groups are looked through before they are stored, and seldom: one list of both is good enough.
        let mut all = BTreeMap::new();
        self.stored.scan(table, range.clone(), false, &mut |key, value| {
            all.insert(key.to_vec(), Some(value));
            ControlFlow::Continue(())
        })?;
        let ours = self.writes.range((table, range.start)..(table, range.end));
        all.extend(ours.map(|((_, key), value)| (key.clone(), value.clone())));
        let mut show = |(key, value): (&Vec<u8>, &Option<Bytes>)| match value {
            Some(value) => visit(key, value.clone()),
            None => ControlFlow::Continue(()),
        };
        let _ = if backwards { all.iter().rev().try_for_each(&mut show) } else { all.iter().try_for_each(&mut show) };
        Ok(())
    }
}

/// The record under a key, if there is one.
pub(super) fn record<M: Message + Default>(
    view: &impl View,
    table: Table,
    key: &[u8],
) -> Result<Option<M>, StorageError> {
    view.get(table, key)?.map(record::decode).transpose()
}

/// The conversation of that name, if anything was ever said in it.
pub(super) fn conversation(view: &impl View, name: &str) -> Result<Option<super::Conversation>, StorageError> {
    record(view, Table::Conversations, name.as_bytes())
}

/// The user's seat in a conversation.
pub(super) fn seat(view: &impl View, user: &str, conversation: &str) -> Result<Option<super::Seat>, StorageError> {
    record(view, Table::Seats, &key::pair(user, conversation))
}
