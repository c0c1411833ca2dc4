//! `ringsteer push`: takes a message for many users, sends it to the owner of each, and tells a webhook who was offline.
//! It keeps nothing: as many of them as one likes can run.
//!
//! | file | subject |
//! |---|---|
//! | `plan` | a message for many users, owner by owner; pure |
//! | `streams` | connections to the push service, one or more for each owner |
//! | `push` | one message from its arrival to its results |
//! | `intake` | how messages come in: HTTP and OpenIM's `msgGateway` |
//! | `webhook` | telling who was offline |
//! | `figures` | what monitoring sees |
#![forbid(unsafe_code)]

mod figures;
mod intake;
mod plan;
mod push;
mod streams;
mod webhook;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{self, Config},
    control::{Follower, Published},
    push::{
        memory::{Limits, Memory},
        token::Tokens,
    },
    telemetry,
    told_to_stop::told_to_stop,
};

/// Pushes that may be under way at once.
const AT_ONCE: usize = 1024;

/// Users of a message for whom the webhook has been told, that are remembered.
const REMEMBERED: usize = 1 << 18;

/// For the calls of the webhook that are still to be made when this ends.
const WEBHOOK_GOODBYE: Duration = Duration::from_secs(10);

/// Take messages for many users and bring each to its users' nodes
///
/// A stateless front before the gateways. It takes messages over HTTP and as OpenIM's
/// msgGateway service does, so that OpenIM or `ringsteer msg` can point at it; groups the
/// users by owner with the ring that the agent has published; sends each owner one batch
/// through the steered push service; and answers for every user: delivered, offline, or
/// unknown because a node did not answer before the deadline.
///
///   POST /push/batch          {"users": ["alice", "bob"], "text": "hello"}, or "data" in
///                             base64 for "text"; "id" makes a repeat harmless
///   POST /push?recvID=alice   the body, for one user
///   gRPC                      OpenIM's msgGateway, pushes only, under both package names
///
/// Users who are really offline, and only they, are reported to the webhook at `webhook_url`,
/// once a message. A push needs a token of [push], sent as `Authorization: Bearer TOKEN`; the
/// first one there is what this sends to the gateways.
///
/// Settings are in [front] of the configuration. Run it where the virtual address is not on
/// `lo`: on a node that has it there, batches meet that node's own gateway first, which passes
/// them on. SIGTERM or SIGINT lets it finish what it has begun.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration file; of `[node]` it is the agent's socket that matters here
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// A front that has taken its addresses.
pub struct Front {
    http: Option<TcpListener>,
    grpc: Option<TcpListener>,
    webhook: Option<webhook::Caller>,
    shared: Arc<Shared>,
}

/// What all pushes share.
struct Shared {
    config: config::Front,
    /// Which delivery counts as an online push is for the gateways to say; whose tokens these are, too.
    tokens: Tokens,
    published: watch::Receiver<Option<Arc<Published>>>,
    streams: streams::Streams,
    webhook: Mutex<Option<webhook::Webhook>>,
    /// For whom the webhook has been told.
    told: Mutex<Memory<()>>,
    counters: figures::Counters,
    under_way: Semaphore,
    started: Instant,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

// === impl Args ===

impl Args {
    /// Runs the front until a signal stops it.
    ///
    /// # Errors
    /// If the configuration cannot be used or an address cannot be taken.
    pub async fn run(&self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let follower = Follower::start(&config.node.socket);
        let front = Front::bind(&config, follower.published()).await?;
        let watched = config.front.metrics.map(|address| telemetry::listen(address, "front")).transpose()?;
        let watched = watched.map(|listener| tokio::spawn(telemetry::serve(listener, front.subject())));
        let stop = told_to_stop()?;
        front.serve(stop).await;
        watched.inspect(JoinHandle::abort);
        Ok(())
    }
}

// === impl Front ===

impl Front {
    /// Takes the addresses of `[front]`.
    ///
    /// # Errors
    /// If there are none, one cannot be taken, or tokens or the webhook's settings cannot be used.
    pub async fn bind(config: &Config, published: watch::Receiver<Option<Arc<Published>>>) -> anyhow::Result<Self> {
        let front = config.front.clone();
        anyhow::ensure!(
            front.http.is_some() || front.grpc.is_some(),
            "nobody could push: set `http` or `grpc` in `[front]` to an address to listen on"
        );
        let listen = async |address: Option<SocketAddr>, key: &str| match address {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                listener
                    .map(Some)
                    .with_context(|| format!("cannot listen on {address}; is `{key}` in `[front]` right?"))
            }
            None => Ok(None),
        };
        let (http, grpc) = (listen(front.http, "http").await?, listen(front.grpc, "grpc").await?);
        let (webhook, caller) = webhook::webhook(&front.webhook)?.unzip();
        let window = config.push.window;
        let shared = Shared {
            tokens: config.push.tokens()?,
            published,
            streams: streams::Streams::default(),
            webhook: Mutex::new(webhook),
            told: Mutex::new(Memory::new(Limits { window, entries: REMEMBERED })),
            counters: figures::Counters::default(),
            under_way: Semaphore::new(AT_ONCE),
            started: Instant::now(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            config: front,
        };
        Ok(Self { http, grpc, webhook: caller, shared: Arc::new(shared) })
    }

    /// The addresses taken: for HTTP, and for gRPC.
    pub fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        (address(&self.http), address(&self.grpc))
    }

    /// What monitoring sees.
    pub fn subject(&self) -> Arc<dyn telemetry::Subject> {
        Arc::clone(&self.shared) as Arc<dyn telemetry::Subject>
    }

    /// Takes messages until `stop` completes; then finishes what has begun, and makes the webhook's calls for a while.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { http, grpc, webhook, shared } = self;
        let calls = webhook.map(|caller| tokio::spawn(caller.run()));
        for (listener, what) in [(&http, "HTTP"), (&grpc, "gRPC")] {
            if let Some(address) = listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
                tracing::info!("taking pushes over {what} on {address}");
            }
        }
        if let Some(listener) = http {
            shared.tasks.spawn(intake::http::serve(listener, Arc::clone(&shared)));
        }
        if let Some(listener) = grpc {
            shared.tasks.spawn(intake::rpc::serve(listener, Arc::clone(&shared)));
        }
        tokio::select! {
            () = stop => {}
            () = follow(&shared) => {}
        }
        tracing::info!("stopping; pushes that have begun are finished");
        shared.stopping.cancel();
        shared.tasks.close();
        if timeout(shared.config.deadline + Duration::from_secs(1), shared.tasks.wait()).await.is_err() {
            tracing::warn!("{} connections did not end in time and are cut", shared.tasks.len());
        }
        // Nothing more is queued; what is queued is still told.
        drop(shared.webhook.lock().map(|mut webhook| webhook.take()));
        if let Some(mut calls) = calls
            && timeout(WEBHOOK_GOODBYE, &mut calls).await.is_err()
        {
            tracing::warn!("the webhook could not be told of everybody in time");
            calls.abort();
        }
    }
}

/// Forgets the streams with each new ring: they lead where the one before said.
async fn follow(shared: &Shared) {
    let mut published = shared.published.clone();
    let mut ring = None;
    loop {
        let name = published.borrow_and_update().as_ref().map(|published| published.ring.name());
        if name != ring {
            shared.streams.clear();
            ring = name;
        }
        if published.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
