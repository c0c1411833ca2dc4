//! The socket.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    Figures,
    page::{Page, page},
};

/// Connections at once. Monitoring and probes need a handful.
const MAX_CONNECTIONS: usize = 32;

/// Pages that are made at once: some walk a table.
const PAGES_AT_ONCE: usize = 2;

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last in all: longer than monitoring pauses between two scrapes.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);

/// How long to leave a listener alone that cannot accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whoever is watched.
pub trait Subject: Send + Sync + 'static {
    /// The figures now. May block.
    ///
    /// # Errors
    /// If they cannot be had.
    fn figures(&self) -> anyhow::Result<Figures>;

    /// Why others cannot rely on the subject; nothing if they can.
    fn unready(&self) -> Vec<String>;
}

/// The address cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve metrics on {address}: {error}; choose another address for `{role}` in `[metrics]`, or \"\" for none"
)]
pub struct TelemetryError {
    address: SocketAddr,
    role: &'static str,
    error: io::Error,
}

/// Takes the address that `[metrics]` has under `role`. Must be called within a tokio runtime.
///
/// # Errors
/// If it cannot be taken.
pub fn listen(address: SocketAddr, role: &'static str) -> Result<TcpListener, TelemetryError> {
    let listen = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    listen().map_err(|error| TelemetryError { address, role, error })
}

/// Answers for `subject`, until dropped.
pub async fn serve(listener: TcpListener, subject: Arc<dyn Subject>) {
    let making = Arc::new(Semaphore::new(PAGES_AT_ONCE));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let (subject, making) = (Arc::clone(&subject), Arc::clone(&making));
                    let service = service_fn(move |request| answer(request, Arc::clone(&subject), Arc::clone(&making)));
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIMEOUT)
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        // Whatever ends it is the client's affair.
                        let _ = timeout(CONNECTION_TIMEOUT, connection).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("cannot accept a connection for metrics: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    subject: Arc<dyn Subject>,
    making: Arc<Semaphore>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let named = method.clone();
    let made = async {
        let _permit = making.acquire().await.ok()?;
        spawn_blocking(move || page(named.as_str(), &path, &*subject)).await.ok()
    };
    let failed = || Page { status: 500, content_type: "text/plain", body: "the page could not be made\n".into() };
    let Page { status, content_type, body } = made.await.unwrap_or_else(failed);
    // The head is the same, whether or not the body is wanted; hyper leaves it out for HEAD.
    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    let response =
        if method == Method::GET || method == Method::HEAD { response } else { response.header(ALLOW, "GET") };
    Ok(response.body(Full::new(body.into())).expect("status and headers are ours, and valid"))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    struct Example;

    impl Subject for Example {
        fn figures(&self) -> anyhow::Result<Figures> {
            let mut figures = Figures::default();
            figures.gauge("answer", "The answer", 42u64);
            Ok(figures)
        }

        fn unready(&self) -> Vec<String> {
            vec!["because".into()]
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        timeout(Duration::from_secs(30), exchange).await.expect("still waiting")
    }

    #[tokio::test]
    async fn pages_are_served_and_nonsense_is_not() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), "agent").unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, Arc::new(Example)));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let metrics = ask(address, &get("/metrics")).await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("application/openmetrics-text; version=1.0.0"), "{metrics}");
        assert!(metrics.ends_with("ringsteer_answer 42.0\n# EOF\n"), "{metrics}");
        let ready = ask(address, &get("/readyz")).await;
        assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("[\"because\"]}\n"), "{ready}");
        let head = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let post = ask(address, "POST /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let post = post.await;
        assert!(post.starts_with("HTTP/1.1 405 ") && post.to_lowercase().contains("allow: get"), "{post}");
        let nonsense = ask(address, "\x16\x03\x01\r\n\r\n").await;
        assert!(nonsense.is_empty() || nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");

        let taken = listen(address, "agent").unwrap_err().to_string();
        assert!(taken.starts_with(&format!("cannot serve metrics on {address}: ")), "{taken}");
        server.abort();
    }
}
