//! Why something is not done, and what the caller is told.

use ringsteer_openim_rpc::RpcError;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The request is wrong; the same one will be wrong again.
    #[error("{0}")]
    Arguments(String),
    /// The caller may not.
    #[error("{0}")]
    NoPermission(String),
    /// Nobody is in that group.
    #[error("there is no group {0:?}")]
    NoGroup(String),
    /// The sender is not in the group.
    #[error("{user:?} is not in the group {group:?}")]
    NotInGroup {
        /// Who.
        user: String,
        /// Which.
        group: String,
    },
    /// The storage has failed: nothing more is taken.
    #[error("the storage failed: {0}")]
    Storage(#[from] StorageError),
    /// The service is going down.
    #[error("the service is stopping")]
    Stopping,
}

/// The storage cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(String);

// === impl StorageError ===

impl StorageError {
    /// What an error says, with what is behind it.
    pub fn new(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            source = error.source();
        }
        Self(text)
    }
}

// === impl Refusal ===

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Arguments(_) => Self::arguments(detail),
            Refusal::NoPermission(_) => Self::no_permission(detail),
            Refusal::NoGroup(_) => Self::new(Self::NO_GROUP, "GroupIDNotFoundError", detail),
            Refusal::NotInGroup { .. } => Self::new(Self::NOT_IN_GROUP, "NotInGroupYetError", detail),
            Refusal::Storage(_) | Refusal::Stopping => Self::internal(detail),
        }
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        RpcError::from(refusal).into()
    }
}
