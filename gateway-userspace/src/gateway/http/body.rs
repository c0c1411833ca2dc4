//! The body of a request.

pub(in crate::gateway) use crate::websocket::body::{Body, BodyError};
