//! What stands in the tables. Protobuf, so that a later version can read what an earlier one wrote.

use bytes::Bytes;
use prost::Message;

use super::StorageError;

/// A conversation.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Conversation {
    /// The number of its newest message; 0 while there is none.
    #[prost(uint64, tag = "1")]
    pub max_seq: u64,
    /// When that was taken, in milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub max_time_ms: i64,
    /// Whose it is: two users, sorted, or a group and nothing. Names of conversations do not say it for sure, as the users
    /// `a` and `b_c` have the one that `a_b` and `c` would have.
    #[prost(string, tag = "3")]
    pub first: String,
    /// The second user, or nothing.
    #[prost(string, tag = "4")]
    pub second: String,
}

/// A user in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Seat {
    /// Up to where the user has read.
    #[prost(uint64, tag = "1")]
    pub has_read: u64,
    /// The first message the user may see; 0 for no limit.
    #[prost(uint64, tag = "2")]
    pub min_seq: u64,
    /// The last message the user may see; 0 for no limit.
    #[prost(uint64, tag = "3")]
    pub max_seq: u64,
    /// Whether the user may see nothing at all: left the group before anybody spoke.
    #[prost(bool, tag = "4")]
    pub blind: bool,
}

/// A message that was taken, as its sender may ask for it again.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Sent {
    /// Its conversation.
    #[prost(string, tag = "1")]
    pub conversation: String,
    /// Its number.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// Our name for it.
    #[prost(string, tag = "3")]
    pub server_msg_id: String,
    /// When it was taken, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    pub send_time_ms: i64,
}

/// Reads a record.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, StorageError> {
    M::decode(bytes).map_err(StorageError::new)
}

impl Seat {
    /// The first and the last message of a conversation that the user may see; the last lies below the first if there is
    /// none.
    pub(super) fn sees(&self, conversation: &Conversation) -> (u64, u64) {
        let last = match self {
            Self { blind: true, .. } => 0,
            Self { max_seq: 0, .. } => conversation.max_seq,
            Self { max_seq, .. } => conversation.max_seq.min(*max_seq),
        };
        (self.min_seq.max(1), last)
    }
}
