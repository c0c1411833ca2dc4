//! The same services under the names they had until OpenIM 3.6: `OpenIMServer.` stood where `openim.` does now. Methods
//! and messages have not changed.

use std::task::{Context, Poll};

use http::{Request, Uri, uri::PathAndQuery};
use tonic::server::NamedService;
use tower_service::Service;

use crate::{msg::msg_server::MsgServer, msggateway::msg_gateway_server::MsgGatewayServer};

const NOW: &str = "/openim.";
const FORMER: &str = "/OpenIMServer.";

/// A service that had another name.
pub trait FormerlyNamed: NamedService {
    /// Which.
    const FORMER_NAME: &'static str;
}

/// A server under its former name.
#[derive(Clone, Debug)]
pub struct Former<S>(pub S);

/// A channel to a server that has the former names only.
#[derive(Clone, Debug)]
pub struct FormerClient<S>(pub S);

impl<T> FormerlyNamed for MsgServer<T> {
    const FORMER_NAME: &'static str = "OpenIMServer.msg.msg";
}

impl<T> FormerlyNamed for MsgGatewayServer<T> {
    const FORMER_NAME: &'static str = "OpenIMServer.msggateway.msgGateway";
}

// === impl Former ===

impl<S: FormerlyNamed> NamedService for Former<S> {
    const NAME: &'static str = S::FORMER_NAME;
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Former<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        rename(request.uri_mut(), FORMER, NOW);
        self.0.call(request)
    }
}

// === impl FormerClient ===

impl<S: Service<Request<B>>, B> Service<Request<B>> for FormerClient<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        rename(request.uri_mut(), NOW, FORMER);
        self.0.call(request)
    }
}

/// Replaces how the path begins. A path that begins otherwise is left alone, and will be answered as unknown.
fn rename(uri: &mut Uri, from: &str, to: &str) {
    let Some(rest) = uri.path().strip_prefix(from) else { return };
    let Ok(path) = PathAndQuery::try_from(format!("{to}{rest}")) else { return };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    if let Ok(renamed) = Uri::from_parts(parts) {
        *uri = renamed;
    }
}
