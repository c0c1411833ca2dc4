//! What all servers of these interfaces have in common.

use std::time::Duration;

use tonic::{Request, transport::Server};
use tower_layer::{Identity, Stack};

use crate::error::ErrorCodes;

/// A server to add services to, whose errors carry OpenIM's numbers. One connection may have `max_streams` calls open; a
/// peer that is gone is found out within forty seconds.
pub fn server(max_streams: u32) -> Server<Stack<ErrorCodes, Identity>> {
    Server::builder()
        .max_concurrent_streams(max_streams)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .tcp_nodelay(true)
        .layer(ErrorCodes)
}

/// What the caller shows to be let in, `Bearer …`. `None` also if it shows several things.
pub fn authorization<T>(request: &Request<T>) -> Option<&[u8]> {
    let mut shown = request.metadata().get_all("authorization").iter();
    let one = shown.next().filter(|_| shown.next().is_none());
    one.map(|value| value.as_bytes())
}
