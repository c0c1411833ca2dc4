//! How messages come in.
//!
//! | file | subject |
//! |---|---|
//! | `http` | `POST /push` and `POST /push/batch` |
//! | `rpc` | OpenIM's `msgGateway` service |

pub(super) mod http;
pub(super) mod rpc;
