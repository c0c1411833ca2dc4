//! The book of all conversations: what is written down when a message is taken, and what is read when a client asks.
//!
//! Pure: it sees the storage as sorted tables of bytes ([`View`]) and leaves behind what is to be written
//! ([`Pending`]). Time and names of messages come in as arguments. What it promises:
//!
//! * the messages of a conversation are numbered 1, 2, 3 …, each number once;
//! * a message that is sent again gets the answer it got before, and no second number;
//! * whoever reads sees what is in their own conversations, from the first to the last message they may see.
//!
//! | file | subject |
//! |---|---|
//! | `key` | the tables and how their keys are made |
//! | `record` | what stands in them |
//! | `pending` | writes that are not stored yet, over what is |
//! | `send` | taking a message |
//! | `reading` | how far users have read, and what they may see |
//! | `members` | who is in a group |
//! | `read` | the questions that clients ask |
//! | `refusal` | why something is not done |

pub mod key;
mod members;
mod pending;
mod read;
mod reading;
mod record;
mod refusal;
mod send;
#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};

use bytes::Bytes;

pub use self::{
    key::Table,
    members::Change,
    pending::{Pending, Write},
    read::Reader,
    record::{Conversation, Seat, Sent},
    refusal::{Refusal, StorageError},
    send::{Accepted, Audience, Push},
};

/// The tables as they are at one moment.
pub trait View {
    /// What stands under a key.
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Shows what stands in a range of keys, in their order or backwards, until the visitor has enough.
    ///
    /// # Errors
    /// If the storage cannot be read.
    fn scan(
        &self,
        table: Table,
        range: Range<Vec<u8>>,
        backwards: bool,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StorageError>;
}

/// What is taken and what is told, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message, in bytes as protobuf.
    pub message_bytes: usize,
    /// Messages in one answer, for each conversation asked about.
    pub page_messages: usize,
    /// Messages in one answer in all, in bytes as protobuf.
    pub page_bytes: usize,
    /// Conversations in one question, and in one answer.
    pub conversations: usize,
    /// Members of a group.
    pub members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 128 << 10,
            page_messages: 500,
            // Below the 4 MiB that gRPC's clients take unless told otherwise.
            page_bytes: 3 << 20,
            conversations: 20_000,
            members: 100_000,
        }
    }
}
