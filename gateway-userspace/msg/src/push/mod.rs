//! Handing messages on to whoever is online.
//!
//! Messages of one conversation go one after the other; conversations share a fixed number of lanes. A message that
//! cannot be handed on is tried again until its time is over. A lane that is full lets the newest go: its users see from
//! the next number that one is missing, and ask for it.
//!
//! | file | subject |
//! |---|---|
//! | `lanes` | order, patience, limits |
//! | `grpc` | a gateway or `ringsteer push`, by OpenIM's interface |

mod grpc;
mod lanes;

use std::sync::Arc;

use tonic::async_trait;

pub use self::{
    grpc::GrpcPusher,
    lanes::{Lanes, Patience},
};
use crate::book::{Push, StorageError};

/// Whoever hands a message on.
#[async_trait]
pub trait Pusher: Send + Sync + 'static {
    /// Hands a message on to these users.
    async fn push(&self, push: &Push, users: &[String]) -> Result<(), PushError>;
}

/// A message was not handed on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PushError {
    /// Why.
    pub reason: String,
    /// Whether trying again may help.
    pub may_pass: bool,
}

/// Who is in a group, when it is about to be told something.
pub type Members = Arc<dyn Fn(&str) -> Result<Vec<String>, StorageError> + Send + Sync>;
