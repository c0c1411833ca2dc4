//! OpenIM's gRPC interfaces, as its own services call and offer them, and the one of ours that stands beside them.
//!
//! | module | subject |
//! |---|---|
//! | [`msg`] | the message service: `openim.msg.msg` |
//! | [`msggateway`] | a gateway as seen from behind: `openim.msggateway.msgGateway` |
//! | [`groups`] | who is in which group, for the embedded message service; ours |
//! | [`caller`] | who calls, in the metadata |
//! | [`error`] | errors with OpenIM's numbers: how they stand in a status, and the layer that puts them on the wire |
//! | [`server`] | what their servers have in common |
//! | [`former`] | the same services under the names they had until OpenIM 3.6 |
//!
//! Messages that clients know as well are those of `ringsteer_openim::message`: one type from a client's frame to the
//! storage.
#![forbid(unsafe_code)]

pub mod caller;
pub mod error;
pub mod former;
pub mod server;

/// The message service: `openim.msg.msg`.
#[allow(missing_docs, clippy::all, reason = "made from proto/openim/msg_service.proto, where everything is explained")]
pub mod msg {
    pub use ringsteer_openim::message::msg::*;
    tonic::include_proto!("openim.msg");
}

/// A gateway as the services behind it see it: `openim.msggateway.msgGateway`.
#[allow(missing_docs, clippy::all, reason = "made from proto/openim/msggateway.proto, where everything is explained")]
pub mod msggateway {
    tonic::include_proto!("openim.msggateway");
}

/// Who is in which group, for the embedded message service.
#[allow(missing_docs, clippy::all, reason = "made from proto/ringsteer/groups.proto, where everything is explained")]
pub mod groups {
    tonic::include_proto!("ringsteer.groups");
}

pub use caller::Caller;
pub use error::{ErrorCodes, RpcError};
pub use former::{Former, FormerClient};
pub use ringsteer_openim::message::sdkws;
