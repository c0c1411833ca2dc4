//! The tables and how their keys are made.
//!
//! Keys are names with a zero byte between them. A name never holds one ([`check`]), so two different lists of names are
//! two different keys, and all keys that begin alike stand together.

use std::ops::Range;

use super::Refusal;

/// Longest name of a user, a group or a message, in bytes.
pub const MAX_NAME: usize = 256;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Messages, by conversation and number.
    Messages,
    /// [`super::Conversation`], by conversation.
    Conversations,
    /// [`super::Seat`], by user and conversation.
    Seats,
    /// [`super::Sent`], by sender and the sender's name for the message.
    Sent,
    /// Nothing, by group and user: the members.
    Members,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Messages, Self::Conversations, Self::Seats, Self::Sent, Self::Members];

    /// What it is called where it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::Seats => "seats",
            Self::Sent => "sent",
            Self::Members => "members",
        }
    }
}

/// Refuses what can be no name.
pub(super) fn check(what: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Arguments(format!("{what} is empty")));
    }
    // A conversation's name has two others in it.
    if name.len() > 2 * MAX_NAME + 8 || what != "conversationID" && name.len() > MAX_NAME {
        return Err(Refusal::Arguments(format!("{what} is longer than {MAX_NAME} bytes")));
    }
    if name.contains(|c: char| c.is_control()) {
        return Err(Refusal::Arguments(format!("{what} has a control character")));
    }
    Ok(())
}

/// The key of a message.
pub(super) fn message(conversation: &str, seq: u64) -> Vec<u8> {
    let mut key = beginning(conversation);
    key.extend(seq.to_be_bytes());
    key
}

/// The number in a message's key.
pub(super) fn seq(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The keys of the messages `first` to `last`.
pub(super) fn messages(conversation: &str, first: u64, last: u64) -> Range<Vec<u8>> {
    message(conversation, first)..message(conversation, last.saturating_add(1))
}

/// A key of two names.
pub(super) fn pair(first: &str, second: &str) -> Vec<u8> {
    let mut key = beginning(first);
    key.extend(second.as_bytes());
    key
}

/// All keys whose first name this is.
pub(super) fn all_of(first: &str) -> Range<Vec<u8>> {
    let low = beginning(first);
    let mut high = low.clone();
    if let Some(zero) = high.last_mut() {
        *zero = 1;
    }
    low..high
}

/// The second name of a key of two.
pub(super) fn second(key: &[u8]) -> Option<&str> {
    let zero = key.iter().position(|byte| *byte == 0)?;
    str::from_utf8(&key[zero + 1..]).ok()
}

fn beginning(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 9);
    key.extend(name.as_bytes());
    key.push(0);
    key
}
