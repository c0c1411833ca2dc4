//! HTTP/1.1, as much as a gateway needs: one request after the other on a connection, each with a small body.
//!
//! Not a library's server, because the request target must be read as the kernel program and Go read it; see
//! [`crate::websocket::request`].

mod body;
mod connection;
mod response;

pub(super) use self::{
    body::{Body, BodyError},
    connection::{Connection, Unreadable, WholeHead},
    response::Response,
};
