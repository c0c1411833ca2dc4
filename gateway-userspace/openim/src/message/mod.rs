//! The protobuf messages inside frames, and what the gateway has to know about them.
//!
//! | file | subject |
//! |---|---|
//! | `msg_data` | one message, with what is unknown of it |
//! | `conversation` | which conversation a message belongs to |
//!
//! The other types are made from `proto/`. Other packages that define services over them name them by path
//! (`extern_path(".openim.sdkws", "::ringsteer_openim::message::sdkws")` and `.openim.msg` likewise), so that a message
//! is one type from the client's frame to the storage. Contents are [`bytes::Bytes`], and maps are sorted.

mod conversation;
mod msg_data;

/// Messages as clients, gateways and services have them in common.
pub mod sdkws {
    pub use super::msg_data::MsgData;

    include!(concat!(env!("OUT_DIR"), "/openim.sdkws.rs"));
}

/// What a gateway asks the message service for a client.
pub mod msg {
    include!(concat!(env!("OUT_DIR"), "/openim.msg.rs"));
}

pub use conversation::{content, is_notification, pushed};

/// Kinds of sessions, `MsgData.sessionType`.
pub mod session_type {
    /// Between two users.
    pub const SINGLE: i32 = 1;
    /// A group, in the old storage scheme.
    pub const WRITE_GROUP: i32 = 2;
    /// A group.
    pub const READ_GROUP: i32 = 3;
    /// A notification account and a user.
    pub const NOTIFICATION: i32 = 4;
}

/// `MsgData.contentType` of a plain text; its content is `{"content":"…"}`.
pub const CONTENT_TEXT: i32 = 101;

/// `MsgData.msgFrom` of what a user says.
pub const FROM_USER: i32 = 100;
