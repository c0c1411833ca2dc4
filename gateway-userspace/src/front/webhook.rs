//! Telling a server of the operator's who was offline, so that it can notify them in another way: once a message, tried
//! again until it is heard, and never holding up a push.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, header};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Serialize;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{config, peer::key::hmac, push::token::Token, random::Spread};

/// Calls that are made at once.
const AT_ONCE: usize = 32;

/// The first wait before a call is made again; twice as long each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Who was offline when a message came for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Offline {
    /// The push, if it has an id.
    pub(super) id: Option<String>,
    /// The users.
    pub(super) users: Vec<String>,
    /// The pusher's name for the operation.
    pub(super) operation: String,
    /// The message, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    /// The message in base64, if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<String>,
}

/// Counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Calls that were heard.
    pub(super) delivered: AtomicU64,
    /// Attempts that came to nothing and were or will be made again.
    pub(super) failed: AtomicU64,
    /// Calls that the server does not want.
    pub(super) refused: AtomicU64,
    /// Calls given up: too many attempts, or the program ended.
    pub(super) lost: AtomicU64,
    /// Calls for which there was no room.
    pub(super) dropped: AtomicU64,
}

/// The way to the webhook.
#[derive(Debug)]
pub(super) struct Webhook {
    queue: mpsc::Sender<Offline>,
    pub(super) counters: Arc<Counters>,
}

/// Who makes the calls.
pub(super) struct Caller {
    queue: mpsc::Receiver<Offline>,
    calling: Arc<Calling>,
}

/// What every call takes.
struct Calling {
    url: hyper::Uri,
    token: Option<Token>,
    secret: Option<Vec<u8>>,
    attempts: u32,
    timeout: Duration,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    counters: Arc<Counters>,
}

/// What an attempt came to.
enum Attempt {
    Heard,
    /// It does not help to try again.
    Refused(String),
    Failed(String),
}

/// The webhook of that configuration, if it has one, and who makes its calls.
///
/// # Errors
/// If its token or its secret cannot be read, or the system has no certificates to trust.
pub(super) fn webhook(config: &config::Webhook) -> anyhow::Result<Option<(Webhook, Caller)>> {
    let Some(url) = &config.url else { return Ok(None) };
    let counters = Arc::new(Counters::default());
    let (queue, queued) = mpsc::channel(config.queue);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    let calling = Calling {
        url: url.clone(),
        token: config.token()?,
        secret: config.secret()?,
        attempts: config.attempts,
        timeout: config.timeout,
        client: Client::builder(TokioExecutor::new()).build(connector),
        counters: Arc::clone(&counters),
    };
    Ok(Some((Webhook { queue, counters }, Caller { queue: queued, calling: Arc::new(calling) })))
}

// === impl Webhook ===

impl Webhook {
    /// Has the server told. If there is no room nobody tells it, and that is counted.
    pub(super) fn tell(&self, offline: Offline) {
        if self.queue.try_send(offline).is_err() {
            let before = self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            if before.is_power_of_two() || before == 0 {
                tracing::warn!("the webhook is behind, and its queue is full: {} calls dropped so far", before + 1);
            }
        }
    }

    /// Calls that wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

// === impl Caller ===

impl Caller {
    /// Makes the calls until the [`Webhook`] is dropped and all that was queued is done.
    pub(super) async fn run(self) {
        let Self { mut queue, calling } = self;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut calls = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let offline = tokio::select! {
                offline = queue.recv() => offline,
                Some(_) = calls.join_next() => continue,
            };
            let Some(offline) = offline else { break };
            let calling = Arc::clone(&calling);
            calls.spawn(async move {
                calling.call(offline).await;
                drop(place);
            });
        }
        while calls.join_next().await.is_some() {}
    }
}

// === impl Calling ===

impl Calling {
    async fn call(&self, offline: Offline) {
        let body = Bytes::from(serde_json::to_vec(&offline).expect("plain data has a JSON form"));
        // The same for every attempt: the server can tell that it has heard it before.
        let key = format!("{:016x}{:016x}", Spread::seed(), Spread::seed());
        let mut spread = Spread::new(Spread::seed());
        let mut wait = FIRST_WAIT;
        // Lost if the program ends before it is done.
        let mut unheard = Unheard(Some(&self.counters.lost));
        for attempt in 1.. {
            let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
            match self.attempt(&body, &key).await {
                Attempt::Heard => {
                    unheard.0 = None;
                    count(&self.counters.delivered);
                    return;
                }
                Attempt::Refused(why) => {
                    unheard.0 = None;
                    count(&self.counters.refused);
                    tracing::warn!("the webhook does not want to hear of {} users: {why}", offline.users.len());
                    return;
                }
                Attempt::Failed(why) => {
                    count(&self.counters.failed);
                    if attempt >= self.attempts {
                        tracing::warn!("the webhook was not told of {} users: {why}", offline.users.len());
                        return;
                    }
                    tracing::debug!("the webhook will be tried again: {why}");
                    // Many wait for one server that is back: not all at the same moment.
                    sleep(wait / 2 + wait.mul_f64(spread.fraction()) / 2).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    async fn attempt(&self, body: &Bytes, key: &str) -> Attempt {
        let mut request = Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("ringsteer/", env!("CARGO_PKG_VERSION")))
            .header("Idempotency-Key", key);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        if let Some(secret) = &self.secret {
            request = request.header("Ringsteer-Signature", signature(secret, body));
        }
        let request = match request.body(Full::new(body.clone())) {
            Ok(request) => request,
            Err(error) => return Attempt::Refused(error.to_string()),
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            // Read to its end, so that the connection can be used again.
            let _ = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok::<_, String>(status)
        };
        match timeout(self.timeout, exchange).await {
            Ok(Ok(status)) if status.is_success() => Attempt::Heard,
            // Too slow and too many are matters of time.
            Ok(Ok(status)) if status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429) => {
                Attempt::Refused(format!("it answers {status}"))
            }
            Ok(Ok(status)) => Attempt::Failed(format!("it answers {status}")),
            Ok(Err(error)) => Attempt::Failed(error),
            Err(_) => Attempt::Failed("it does not answer in time".into()),
        }
    }
}

/// Counts a call that never came to an end.
struct Unheard<'a>(Option<&'a AtomicU64>);

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if let Some(lost) = self.0 {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What shows the server that we have the secret, and that nobody has changed the body.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let code = hmac(secret, &[body]);
    format!("sha256={}", code.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_body_says_who_and_what() {
        let offline = Offline {
            id: Some("m-1".into()),
            users: vec!["alice".into()],
            operation: "op".into(),
            text: Some("hi".into()),
            data: None,
        };
        assert_eq!(
            serde_json::to_string(&offline).unwrap(),
            r#"{"id":"m-1","users":["alice"],"operation":"op","text":"hi"}"#
        );
    }
}
