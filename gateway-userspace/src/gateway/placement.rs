//! Whose request it is, and whether that is us (promise 2).

use serde_json::json;

use super::http::Response;
use crate::{
    control::Published,
    ring::{Identity, Member},
    websocket::request,
};

/// A request for a user of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ours {
    /// The user.
    pub(super) user: Vec<u8>,
    /// This node, by the ring that made it the owner.
    pub(super) owner: Identity,
}

/// Why a request cannot be served here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotOurs {
    /// It names no user.
    NoKey,
    /// No ring says who owns the user.
    NoRing,
    /// The ring says that another node does.
    Foreign {
        /// The user.
        user: Vec<u8>,
        /// That node.
        owner: Member,
    },
}

/// The user that a request names, by its target and the name of the service's `parameter`; empty if none.
pub(super) fn key(target: &[u8], parameter: &str) -> Vec<u8> {
    request::parameter(target, parameter.as_bytes()).unwrap_or_default().into_owned()
}

/// Judges by what is in force whether a request for `user` is served here.
pub(super) fn place(user: Vec<u8>, published: Option<&Published>) -> Result<Ours, NotOurs> {
    if user.is_empty() {
        return Err(NotOurs::NoKey);
    }
    let published = published.ok_or(NotOurs::NoRing)?;
    let owner = published.owner(&user);
    if Some(owner.number) == published.node {
        Ok(Ours { user, owner: owner.identity.clone() })
    } else {
        Err(NotOurs::Foreign { user, owner: owner.clone() })
    }
}

impl NotOurs {
    /// What to tell the client. `parameter` is the one that [`key`] looked for.
    pub(super) fn response(&self, parameter: &str) -> Response {
        match self {
            Self::NoKey => {
                Response::error(400, format!("the query names no user: send ?{parameter}=USER, percent-encoded"))
            }
            Self::NoRing => Response::error(503, "this node has no ring yet, its agent has not been heard; try again")
                .header("Retry-After", "1"),
            Self::Foreign { user, owner } => {
                let (user, owner) = (String::from_utf8_lossy(user), owner.identity.to_string());
                let body = json!({
                    "error": format!("user {user} belongs to {owner}"),
                    "user": user,
                    "owner": owner,
                });
                Response::new(421, body).header("Ringsteer-Owner", owner)
            }
        }
    }
}
