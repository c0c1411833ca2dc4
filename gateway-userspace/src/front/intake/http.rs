//! `POST /push?recvID=U` and `POST /push/batch`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use ringsteer_batch::{Batch, MAX_BATCH, MAX_MESSAGE, good_id};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use crate::{
    front::{Shared, push::Push},
    push::batch::{message, says_text},
    session::message::Message,
    websocket::{decoder::Kind, request::parameter},
};

/// How long a client may take for the head of a request, and for its body.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to leave a listener alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The query parameter with the user.
const PARAMETER: &[u8] = b"recvID";

/// A request that cannot be carried out.
struct Refusal(StatusCode, String);

/// Answers requests until the front stops.
pub(in crate::front) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            () = shared.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let (answering, stopping) = (Arc::clone(&shared), shared.stopping.clone());
                let service = service_fn(move |request| answer(request, Arc::clone(&answering)));
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                shared.tasks.spawn(async move {
                    let mut connection = std::pin::pin!(connection);
                    let ended = tokio::select! {
                        ended = &mut connection => ended,
                        () = stopping.cancelled() => {
                            // What has begun is finished.
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    if let Err(error) = ended {
                        tracing::debug!("{peer}: {error}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match push(request, &shared).await {
        Ok(body) => (StatusCode::OK, body),
        Err(Refusal(status, error)) => (status, json!({ "error": error })),
    };
    let mut response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    if status == StatusCode::UNAUTHORIZED {
        response = response.header(header::WWW_AUTHENTICATE, "Bearer");
    }
    let response = response.body(Full::new((body.to_string() + "\n").into()));
    Ok(response.expect("status and headers are ours, and valid"))
}

async fn push(request: Request<Incoming>, shared: &Arc<Shared>) -> Result<Value, Refusal> {
    let refused = |status, error: &dyn ToString| Refusal(status, error.to_string());
    let many = match request.uri().path() {
        "/push" => false,
        "/push/batch" => true,
        _ => return Err(refused(StatusCode::NOT_FOUND, &"pushes go to POST /push?recvID=USER or POST /push/batch")),
    };
    if request.method() != Method::POST {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED, &"a push is a POST"));
    }
    let headers = request.headers();
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let shown = authorization.next().filter(|_| authorization.next().is_none());
    shared.tokens.check(shown.map(|value| value.as_bytes())).map_err(|unauthorized| {
        shared.counters.unauthorized();
        refused(StatusCode::UNAUTHORIZED, &unauthorized)
    })?;
    let id = id(headers)?;
    let text = headers.get(header::CONTENT_TYPE).is_some_and(|value| says_text(value.as_bytes()));
    let user = if many {
        None
    } else {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let user = parameter(target.as_bytes(), PARAMETER).unwrap_or_default().into_owned();
        let user = String::from_utf8(user).ok().filter(|user| !user.is_empty());
        let hint = "the query names no user: send ?recvID=USER, percent-encoded UTF-8";
        Some(user.ok_or_else(|| refused(StatusCode::BAD_REQUEST, &hint))?)
    };
    let max = if many { MAX_BATCH } else { MAX_MESSAGE };
    let body = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), max).collect())
        .await
        .map_err(|_| refused(StatusCode::REQUEST_TIMEOUT, &"the body did not arrive in time"))?
        .map_err(|error| refused(StatusCode::PAYLOAD_TOO_LARGE, &error))?
        .to_bytes();
    let push = match user {
        Some(user) => {
            let kind = if text && str::from_utf8(&body).is_ok() { Kind::Text } else { Kind::Binary };
            Push { id, users: vec![user], message: Message::new(kind, body) }
        }
        None => {
            let Batch { id: own, users, content, operation } = Batch::read(&body, MAX_MESSAGE).map_err(|error| {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                refused(status, &error)
            })?;
            Push { id: id.or(own), users, message: message(content, operation) }
        }
    };
    // A task of its own: whoever asked may go away, and who is offline is reported all the same.
    let pushing = Arc::clone(shared);
    let results = shared.tasks.spawn(async move { pushing.push(push).await }).await;
    let results = results.map_err(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, &"the push failed"))?;
    Ok(json!({ "results": results }))
}

/// The name that makes a push one push however often it is sent.
fn id(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(id) = headers.get("Ringsteer-Message-Id").or_else(|| headers.get("Idempotency-Key")) else {
        return Ok(None);
    };
    match id.to_str() {
        Ok(id) if good_id(id) => Ok(Some(id.to_owned())),
        _ => Err(Refusal(StatusCode::BAD_REQUEST, "an id is 1 to 128 characters without spaces".into())),
    }
}
