//! An API server for tests: the part of Kubernetes' API that ringsteer uses, over HTTP on a real socket, with the
//! semantics that matter to a client.
//!
//! * one order of all changes: every write gets the next `resourceVersion`, a list tells the one it is of;
//! * optimistic concurrency: a write with an old `resourceVersion` is answered with 409;
//! * watches from any revision that is remembered, with selectors, bookmarks and timeouts; from one that is not, 410
//!   Gone;
//! * lists in pages;
//! * RBAC rules, as a Role has them, enforced as the real one does.
//!
//! And what a real one does only when one would rather not have it: connections cut, revisions compacted, the whole
//! server gone and back.
//!
//! | file | subject |
//! |---|---|
//! | `store` | objects, revisions, history; pure |
//! | `selector` | which objects a request means; pure |
//! | `access` | who may do what; pure |
//! | `request` | from a request line to what is asked; pure |
//! | `answer` | lists, statuses, events as JSON; pure |
//! | `serve` | the sockets |
//!
//! After the API's conventions, <https://kubernetes.io/docs/reference/using-api/api-concepts/>. What is left out is
//! refused and never half done: other resources, patches, server-side apply, streaming lists, tables, protobuf.

#![forbid(unsafe_code)]

mod access;
mod answer;
mod request;
mod selector;
mod serve;
mod store;

pub use serve::ApiServer;
pub use store::{Resource, StoreError};
