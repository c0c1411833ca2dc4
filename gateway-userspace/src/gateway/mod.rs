//! `ringsteer gateway`: holds the sessions of the users that this node owns, and takes pushes for them.
//!
//! The gateway is the arbiter (promise 2): whatever brought a connection here, it asks the published ring whether the
//! user is ours before it says 101 (promise 5). Who is not goes to the owner, connection and request, before it is
//! answered; where that is not possible it is sent away with the owner's name.
//!
//! | file | subject |
//! |---|---|
//! | `limits` | how much and how long of everything |
//! | `listener` | taking the services' addresses, accepting |
//! | `accepted` | telling the agent of accepted connections, in mode "accept" |
//! | `http` | requests in, responses out |
//! | `placement` | whose request it is, and whether that is us |
//! | `websocket` | a client's connection until it has become a session |
//! | `openim` | what OpenIM's clients need beyond that |
//! | `misplaced` | clients that belong to another node |
//! | `pace` | how many sessions may begin in a second |
//! | `running` | a session's task |
//! | `line` | the way from a push to that task |
//! | `sweeper` | one clock for all sessions |
//! | `moving` | sessions taken apart and put together again |
//! | `push` | pushes, from wherever they come in to the sessions |
//! | `links` | the links to the other gateways |
//! | `leaving` | the end: sessions go to other nodes, and those that stay are told |
//! | `figures` | what monitoring sees |
//!
//! This is the shell with the sockets and the clock; what it does is decided in the pure `websocket`, `openim` and
//! `session`.
#![forbid(unsafe_code)]

mod accepted;
mod figures;
mod http;
mod leaving;
mod limits;
mod line;
mod links;
mod listener;
pub mod misplaced;
pub mod moving;
mod openim;
mod pace;
mod placement;
mod push;
mod running;
mod sweeper;
mod websocket;

use std::{
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    accepted::Accepted,
    http::{Connection, Unreadable, WholeHead},
    line::Line,
    listener::Listener,
    misplaced::Misplaced,
    moving::{Reply, Sessions},
    openim::{OpenIm, Presence},
    pace::Pace,
    sweeper::Sweeper,
    websocket::Door,
};
pub use self::{limits::Limits, listener::BindError};
use crate::{
    config::{self, Config, Membership, Mode, Network, Serve},
    control::{Follower, MovesReport, Order, Published, Reporter},
    handoff,
    peer::gateways::{Handlers, Links},
    ring::Ring,
    session::{entry::SessionEntry, table::Table},
    telemetry,
    told_to_stop::told_to_stop,
};

/// Hold the sessions of the users this node owns
///
/// Listens on every service of the configuration whose `serve` is "openim", "websocket" or
/// "push":
///
///   openim      OpenIM's clients, as its SDKs make them. Tokens are checked with the secrets
///               of [openim], requests go to the message service that is named there.
///   websocket   For trying out. A client connects with its user id in the service's parameter, as in
///               GET /?sendID=U, and its messages are echoed.
///   push        POST /push?recvID=U sends the body to all sessions of U: as text if its
///               Content-Type is text/* or application/json, else as binary. The answer
///               says whether U is online and how many sessions took it. A push that is sent
///               again with the same Ringsteer-Message-Id (or Idempotency-Key) is not
///               delivered twice. POST /push/batch?recvID=U takes JSON with many users, U one
///               of them: {"users": ["alice", "bob"], "text": "hello"}.
///
/// OpenIM's services call this gateway at `grpc` in [push]: any node pushes to any user.
///
/// Pushes need a token (`token_file` in [push]), sent as `Authorization: Bearer TOKEN`.
///
/// Which users are ours is decided by the ring that the agent on this node has published.
/// Until the agent has been heard, requests are answered with 503; once it has, the gateway
/// goes on without it. A push for another node's user goes on to that node, and so does a
/// websocket, before it is answered; where that is not possible it is answered with 421 and
/// the owner's name.
///
/// The gateways of a fleet talk to each other over links of their own (`gateway_port` in
/// [peers]), which are authenticated by the fleet secret. SIGHUP makes this one read the
/// files with secrets and tokens again.
///
/// When the ring changes, the sessions of users that it gives to other nodes go there, and
/// their clients notice nothing. That takes CAP_NET_ADMIN.
///
/// The virtual addresses must be on this host (`ip address add ADDRESS/32 dev lo`). SIGTERM
/// or SIGINT has all sessions go to other nodes first: where members announce themselves
/// (etcd) or the cluster says who leaves (Kubernetes) this happens by itself, where they are
/// listed in a file the node has to be drained there before. Sessions that are still here then
/// are closed with 1012, a few at a time. All of that takes no longer than grace_s in [gateway].
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The node's configuration file, the same that the agent reads
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    pub config: PathBuf,
}

/// A gateway that has taken its addresses.
#[derive(Debug)]
pub struct Gateway {
    listeners: Vec<Listener>,
    /// Where OpenIM's services call.
    rpc: Option<TcpListener>,
    /// What the others say about sessions that move.
    ears: handoff::Ears,
    /// The agent's socket.
    agent: PathBuf,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    /// How this node calls itself in answers.
    node: String,
    limits: Limits,
    /// What the agent has published.
    published: watch::Receiver<Option<Arc<Published>>>,
    sessions: Mutex<Table<Arc<Line>, Reply>>,
    sweeper: Sweeper,
    /// Sessions that begin.
    pace: Mutex<Pace>,
    /// What OpenIM's clients have in common, if they are served.
    openim: Option<OpenIm>,
    presence: Presence,
    /// The services that hold sessions.
    doors: Vec<Door>,
    /// Who is believed about the client it speaks for.
    proxies: Vec<Network>,
    /// Who moves clients that come to the wrong node, if somebody does.
    newcomers: OnceLock<mpsc::Sender<Misplaced>>,
    counters: figures::Counters,
    /// How far the sessions' moves have come; set before anything is served.
    moves: OnceLock<handoff::Handle>,
    /// What others say about moves and cannot be taken in.
    misheard: Arc<handoff::Misheard>,
    /// The links to the other gateways; set before anything is served.
    links: OnceLock<links::GatewayLinks>,
    pushes: push::Pushes,
    /// Who tells the agent of accepted connections, in mode "accept".
    accepted: Option<Accepted>,
    /// All connections.
    tasks: TaskTracker,
    /// Whether the others hear of it when this gateway leaves, so that its users become theirs.
    is_announced: bool,
    /// Cancelled when the gateway is told to stop.
    leaving: CancellationToken,
    /// Cancelled after that, when nobody is let in any more and those who are left are told to go.
    stopping: CancellationToken,
}

// === impl Args ===

impl Args {
    /// Runs the gateway until a signal stops it.
    ///
    /// # Errors
    /// If the configuration cannot be used or an address cannot be taken.
    pub async fn run(&self) -> anyhow::Result<()> {
        run(&Config::load(&self.config)?).await
    }
}

/// Runs the gateway of `config`, following the agent of this node, until SIGTERM or SIGINT.
///
/// # Errors
/// If an address cannot be taken, the one for metrics among them.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let follower = Follower::prepare(&config.node.socket);
    let gateway = Gateway::bind(config, Limits::of(config), follower.published())?;
    let watched = config.metrics.gateway.map(|address| telemetry::listen(address, "gateway")).transpose()?;
    let watched = watched.map(|listener| tokio::spawn(telemetry::serve(listener, gateway.subject())));
    let _following = follower.attach(gateway.reporter());
    let stop = told_to_stop()?;
    gateway.serve(stop).await;
    watched.inspect(JoinHandle::abort);
    Ok(())
}

// === impl Gateway ===

impl Gateway {
    /// Takes the addresses of the services of `config` that a gateway serves. From here on clients can connect; they
    /// are answered by [`Gateway::serve`]. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If there is no such service, an address cannot be taken, or the fleet secret cannot be read.
    pub fn bind(
        config: &Config,
        limits: Limits,
        published: watch::Receiver<Option<Arc<Published>>>,
    ) -> Result<Self, BindError> {
        let ours = config.services.iter().filter(|service| service.serve != Serve::None);
        let listeners: Vec<_> = ours.map(|service| Listener::bind(service, &config.node)).collect::<Result<_, _>>()?;
        if listeners.is_empty() {
            return Err(BindError::NothingToServe);
        }
        let rpc = config.push.grpc.map(listener::bind_rpc).transpose()?;
        let shared = Shared {
            node: config.node.name.clone(),
            published: published.clone(),
            sessions: Mutex::new(Table::new(limits.table())),
            limits,
            sweeper: Sweeper::new(),
            pace: Mutex::new(Pace::new(limits.logins_per_s, 0)),
            openim: config.openim.as_ref().map(OpenIm::new).transpose()?,
            presence: Presence::default(),
            doors: listeners.iter().map(Listener::door).collect(),
            proxies: config.gateway.proxy_protocol_from.clone(),
            newcomers: OnceLock::new(),
            counters: figures::Counters::default(),
            moves: OnceLock::new(),
            misheard: Arc::default(),
            links: OnceLock::new(),
            pushes: push::Pushes::new(config)?,
            accepted: (config.node.mode == Mode::Accept).then(|| Accepted::start(config.node.socket.clone())),
            tasks: TaskTracker::new(),
            is_announced: !matches!(config.membership, Membership::File { .. }),
            leaving: CancellationToken::new(),
            stopping: CancellationToken::new(),
        };
        let shared = Arc::new(shared);
        let weak = Arc::downgrade(&shared);
        let reload = move |config: &Config| {
            if let Some(shared) = weak.upgrade() {
                shared.pushes.reload(config);
            }
        };
        let mut handlers = handlers(&shared);
        let ears = handoff::ears(&mut handlers, &shared.misheard);
        let links = links::start(config, published, handlers, reload)?;
        // Empty: it was made above.
        let _ = shared.links.set(links);
        Ok(Self { listeners, rpc, ears, agent: config.node.socket.clone(), shared })
    }

    /// The services served, by name, with the addresses taken. They differ from the configured ones where the port was
    /// 0.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.listeners.iter().map(|listener| (listener.service().name.as_str(), listener.address()))
    }

    /// Where OpenIM's services call this gateway, if they do.
    pub fn rpc_address(&self) -> Option<SocketAddr> {
        self.rpc.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// What this gateway tells its agent.
    pub fn reporter(&self) -> Arc<dyn Reporter> {
        Arc::clone(&self.shared) as Arc<dyn Reporter>
    }

    /// What monitoring sees of this gateway.
    pub fn subject(&self) -> Arc<dyn telemetry::Subject> {
        Arc::clone(&self.shared) as Arc<dyn telemetry::Subject>
    }

    /// Its sessions, for who moves them.
    pub fn sessions(&self) -> Sessions {
        Sessions(Arc::clone(&self.shared))
    }

    /// Serves until `stop` completes; then gives its sessions to other nodes, says goodbye to those that stay, and returns
    /// when all are gone, or after [`Limits::stop_timeout`].
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let sessions = self.sessions();
        let Self { listeners, rpc, ears, agent, shared } = self;
        if let Some(listener) = rpc {
            shared.tasks.spawn(push::serve_rpc(listener, Arc::clone(&shared)));
        }
        let moves = handoff::start(handoff::Wiring {
            sessions,
            links: shared.links().clone(),
            ears,
            published: shared.published.clone(),
            agent,
            max_message: shared.limits.max_message,
            limits: handoff::Limits::default(),
        });
        // Empty: a gateway serves once.
        let _ = shared.moves.set(moves.handle());
        for listener in listeners {
            shared.tasks.spawn(listener.accept(Arc::clone(&shared)));
        }
        shared.tasks.spawn(openim::spread(Arc::clone(&shared)));
        shared.tasks.spawn(openim::follow(Arc::clone(&shared)));
        tokio::select! {
            () = stop => {}
            () = shared.sweeper.run() => {}
        }

        tokio::select! {
            () = leaving::leave(&shared, moves) => {}
            () = shared.sweeper.run() => {}
        }
        shared.tasks.close();
        let ended = async {
            tokio::select! {
                () = shared.tasks.wait() => {}
                () = shared.sweeper.run() => {}
            }
        };
        if timeout(shared.limits.stop_timeout, ended).await.is_err() {
            tracing::warn!("{} connections did not end in time and are cut", shared.tasks.len());
        }
    }
}

/// Who answers what other gateways ask. They hold the gateway weakly: it holds the links, which hold them.
fn handlers(shared: &Arc<Shared>) -> Handlers {
    let shared = Arc::downgrade(shared);
    let mut handlers = Handlers::default();
    push::answer(&mut handlers, &shared);
    openim::answer(&mut handlers, &shared);
    handlers
}

/// How the moves go, as the agent is told.
fn report(progress: &handoff::Progress, sessions: u64, leaving: bool) -> MovesReport {
    let handoff::Progress { waiting, moving, committed, copies, stranded, .. } = *progress;
    let [waiting, moving, committed, arriving, stranded] =
        [waiting, moving, committed, copies, stranded].map(|count| count as u64);
    let handoff::Progress { moved, taken, failed, lost, paused, moves_per_s, .. } = *progress;
    MovesReport {
        sessions,
        waiting,
        moving,
        committed,
        arriving,
        stranded,
        moved,
        taken,
        failed,
        lost,
        paused,
        moves_per_s,
        leaving,
    }
}

// === impl Shared ===

impl Reporter for Shared {
    fn users_and_sessions(&self) -> (u64, u64) {
        let sessions = self.sessions();
        (sessions.users() as u64, sessions.sessions() as u64)
    }

    fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    fn moves(&self, order: Option<Order>) -> BoxFuture<'static, Option<MovesReport>> {
        let sessions = self.sessions().sessions() as u64;
        let (handle, leaving) = (self.moves.get().cloned(), self.leaving.is_cancelled());
        Box::pin(async move {
            let handle = handle?;
            if let Some(order) = order
                && !handle.order(order).await
            {
                return None;
            }
            Some(report(&handle.progress(), sessions, leaving))
        })
    }

    fn sessions_of(&self, user: &str) -> Vec<SessionEntry> {
        let now_ms = self.sweeper.now_ms();
        let sessions = self.sessions();
        sessions.of(user.as_bytes()).filter_map(|(.., line)| Some(line?.entry(now_ms))).collect()
    }
}

impl Shared {
    /// The session table. Held for moments only, never across an await.
    fn sessions(&self) -> MutexGuard<'_, Table<Arc<Line>, Reply>> {
        // The table's methods leave it consistent wherever a caller's task may have died.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The links to the other gateways.
    fn links(&self) -> &Links {
        &self.links.get().expect("set before anything is served").links
    }

    /// Reads the head of a connection's first request, and before it what a proxy says about its client, if the other end is
    /// one that is believed.
    async fn first_head(&self, connection: &mut Connection) -> Result<WholeHead, Unreadable> {
        let timeout = self.limits.head_timeout;
        if self.proxies.iter().any(|network| network.contains(connection.peer.ip())) {
            connection.proxied(timeout).await?;
        }
        connection.head(timeout, timeout).await
    }

    /// How many sessions may begin. Held for moments only.
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present ring, if it has brought `user` here and not everybody knows yet that it is followed here: a push that
    /// comes to one who does not would not be looked for here.
    fn has_just_brought(&self, user: &[u8]) -> Option<Arc<Published>> {
        let published = self.published()?;
        let was_ours = |ring: &Ring| Some(ring.owner(user).number) == published.node;
        let known = published.previous.as_ref().is_some_and(was_ours) || self.moves.get()?.is_in_force(&published);
        (!known).then_some(published)
    }

    /// Returns when everybody knows that a ring is followed here, or after a while.
    async fn comes_into_force(&self, published: &Published) {
        if let Some(moves) = self.moves.get() {
            moves.comes_into_force(published, self.limits.brought_timeout).await;
        }
    }

    /// What is in force now, if an agent has been heard.
    fn published(&self) -> Option<Arc<Published>> {
        self.published.borrow().clone()
    }
}
