//! What all servers of these interfaces have in common.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request,
    transport::{self, Server},
};
use tower_layer::{Identity, Stack};

use crate::{
    error::ErrorCodes,
    former::Former,
    msggateway::msg_gateway_server::{MsgGateway, MsgGatewayServer},
};

/// Calls of `msgGateway` that one connection may have open.
const GATEWAY_STREAMS_MAX: u32 = 1024;

/// Largest call of `msgGateway`, in bytes: a message and the names of many users.
const GATEWAY_CALL_MAX: usize = 4 << 20;

/// Answers calls of `msgGateway`, under both names that it has had, until it is to stop.
///
/// # Errors
/// If the listener fails.
pub async fn serve_gateway(
    listener: TcpListener,
    service: impl MsgGateway,
    stopping: impl Future<Output = ()>,
) -> Result<(), transport::Error> {
    let service = MsgGatewayServer::new(service).max_decoding_message_size(GATEWAY_CALL_MAX);
    server(GATEWAY_STREAMS_MAX)
        .add_service(Former(service.clone()))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopping)
        .await
}

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
