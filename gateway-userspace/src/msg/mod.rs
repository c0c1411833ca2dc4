//! `ringsteer msg`: the embedded message service, on a host of its own or beside a gateway.
//!
//! | file | subject |
//! |---|---|
//! | `groups` | who is in which group, asked and told over the service's own interface |
//! | `figures` | what monitoring sees |
//!
//! This is the shell: configuration, signals, figures. The service itself is ringsteer-msg.
#![forbid(unsafe_code)]

mod figures;
mod groups;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Subcommand;
use ringsteer_msg::{
    book::{Limits, Reader, Refusal, StorageError},
    counters::Counters,
    push::{GrpcPusher, Lanes, Members, Patience},
    service::Service,
    store::Store,
    writer::{Deliver, Fsync, Writer},
};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, FsyncPolicy, Msg, read_token},
    telemetry,
    told_to_stop::told_to_stop,
};

/// How long the calls that have begun may keep the service from stopping.
const CALLS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the messages that still have to be pushed may keep the service from stopping.
const PUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Number messages, keep them, and tell clients what they have missed
///
/// OpenIM's message service (gRPC, openim.msg.msg, and its name until 3.6), embedded: for
/// fleets that do not run OpenIM's own. Gateways are pointed at it by its address. From the
/// table [msg] of the configuration:
///
///   listen     where gateways reach it, 127.0.0.1:10130 unless set
///   path       the directory with the messages, /var/lib/ringsteer/msg unless set
///   fsync      "always": a message is on disk before it is acknowledged. "interval": soon
///              after, and much faster. Either way a killed process loses nothing that was
///              acknowledged; with "interval" a machine that loses power may lose the last
///              fsync_interval_ms.
///   push       who pushes new messages to those online, http://HOST:PORT of ringsteer push
///              or of a gateway; without it clients find out when they ask
///
/// The other tables may be missing: the service can have a host of its own. Groups have the
/// members that `ringsteer msg group` gives them. SIGTERM or SIGINT answers the calls that
/// have begun and then stops.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Group(groups::Args),
}

/// The service's address cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for gateways: {error}; choose another `listen` in `[msg]`")]
struct BindError {
    address: SocketAddr,
    error: io::Error,
}

// === impl Args ===

impl Args {
    /// Runs the service until a signal stops it, or asks one that runs.
    ///
    /// # Errors
    /// If the configuration cannot be used, the storage or an address cannot be had, or the storage fails.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Some(Command::Group(args)) => args.run().await,
            None => {
                let (msg, metrics) = config::load_msg(&self.config)?;
                run(&msg, metrics).await
            }
        }
    }
}

/// Runs the service of `config`, until SIGTERM or SIGINT, and serves its figures at `metrics`.
///
/// # Errors
/// If the storage or an address cannot be had, or the storage fails.
pub async fn run(config: &Msg, metrics: Option<SocketAddr>) -> anyhow::Result<()> {
    let token = config.token_file.as_deref().map(read_token).transpose()?;
    let push_token = config.push_token_file.as_deref().map(read_token).transpose()?;
    let listener =
        TcpListener::bind(config.listen).await.map_err(|error| BindError { address: config.listen, error })?;
    let watched = metrics.map(|address| telemetry::listen(address, "msg")).transpose()?;

    let limits = Limits { message_bytes: config.max_message_bytes, ..Limits::default() };
    let path = config.path.clone();
    let store = spawn_blocking(move || Store::open(&path)).await.context("the storage was not opened")??;
    let counters = Arc::new(Counters::default());
    let lanes = lanes(config, push_token.as_deref(), &store, limits, &counters)?;
    let deliver: Deliver = match &lanes {
        Some(lanes) => Box::new(lanes.deliver()),
        None => Box::new(drop),
    };
    let fsync = match config.fsync {
        FsyncPolicy::Always => Fsync::Always,
        FsyncPolicy::Interval => Fsync::Interval(Duration::from_millis(config.fsync_interval_ms.into())),
    };
    let (writer, thread) = Writer::start(store.clone(), limits, fsync, Arc::clone(&counters), deliver)
        .context("cannot start the thread that writes")?;

    let subject = figures::Figures { counters, writer: writer.clone(), store: store.clone() };
    let watched = watched.map(|listener| tokio::spawn(telemetry::serve(listener, Arc::new(subject))));
    let address = listener.local_addr()?;
    tracing::info!("messages in {}, for gateways at {address}", config.path.display());

    let stop = CancellationToken::new();
    let service = Service::new(store, writer.clone(), limits, token.as_deref());
    let served = tokio::spawn(service.serve(listener, stop.clone().cancelled_owned()));
    let told = told_to_stop()?;
    let failure = tokio::select! {
        () = told => None,
        failure = writer.failure() => Some(failure),
    };

    tracing::info!("stopping");
    stop.cancel();
    watched.inspect(JoinHandle::abort);
    // Also after a failure: who waits for a message that could not be stored is told so.
    match timeout(CALLS_TIMEOUT, served).await {
        Ok(served) if failure.is_none() => served.context("the server has panicked")?.context("the server failed")?,
        Ok(_) => {}
        Err(_) => tracing::warn!("some calls did not end in time and are cut"),
    }
    drop(writer);
    spawn_blocking(move || thread.join()).await.context("the writer did not end")?;
    if let Some(lanes) = lanes {
        lanes.finish(PUSH_TIMEOUT).await;
    }
    match failure {
        None => Ok(()),
        Some(error) => Err(anyhow::anyhow!(
            "the storage in {} has failed: {error}; nothing more can be taken. See whether its disk is full or broken, \
             then start again: what was acknowledged is kept",
            config.path.display()
        )),
    }
}

/// What pushes, if anybody does.
fn lanes(
    config: &Msg,
    token: Option<&str>,
    store: &Store,
    limits: Limits,
    counters: &Arc<Counters>,
) -> anyhow::Result<Option<Lanes>> {
    let Some(url) = &config.push else {
        tracing::warn!("there is no `push` in [msg]: clients learn of new messages only when they ask");
        return Ok(None);
    };
    let pusher = GrpcPusher::new(url, token).map_err(|error| anyhow::anyhow!("`push` in [msg]: {error}"))?;
    let store = store.clone();
    let members: Members = Arc::new(move |group| match Reader::new(store.now(), limits).members(group) {
        Ok(members) => Ok(members.into_iter().collect()),
        Err(Refusal::Storage(error)) => Err(error),
        Err(other) => Err(StorageError::new(other)),
    });
    Ok(Some(Lanes::start(Arc::new(pusher), members, Patience::default(), Arc::clone(counters))))
}
