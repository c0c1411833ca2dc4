//! The agent: from the configuration to running programs, and from the source of membership to the ring they steer by.
//!
//! * [`prepare`]: making a host ready, once;
//! * [`load`]: loading the programs ahead of an agent with fewer rights;
//! * [`translate`]: from the configuration's words to the maps';
//! * [`following`]: which ring is in force, pure;
//! * [`last_ring`]: remembering it for the next start;
//! * [`in_force`]: who we are in it, and whose flows have lost their node, pure;
//! * [`announced`]: the state in which this node announces itself;
//! * [`keeper`]: publishes it, to the kernel, the gateway and the other tasks;
//! * [`peers`]: what the other nodes say of theirs;
//! * [`readiness`]: whether others may rely on this node, pure;
//! * [`desk`]: answers what is asked on the control socket;
//! * [`neighbours`]: keeps the link-layer addresses of the other nodes known;
//! * [`flows`]: removes flows that have ended;
//! * [`moves`]: connections that go to another node;
//! * [`orphans`]: tells clients whose node is gone;
//! * [`figures`]: what monitoring sees;
//! * [`shared`], [`counters`]: what all of these share.
//!
//! Stopping the agent stops none of the steering (promise 4): programs, maps and links stay pinned until `uninstall`.

mod announced;
mod counters;
mod desk;
mod figures;
mod flows;
mod following;
mod in_force;
mod keeper;
pub(crate) mod last_ring;
mod load;
mod moves;
mod neighbours;
mod orphans;
mod peers;
mod prepare;
mod readiness;
mod shared;
mod translate;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use clap::Parser;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use tracing::{info, warn};

use self::{
    in_force::InForce,
    keeper::Keeper,
    shared::{Agent, Source},
};
pub use self::{load::Load, prepare::Prepare};
use crate::{
    config::{self, Config},
    control::{self, Gateways, Served},
    dataplane::{Dataplane, readings::Readings},
    doctor::preflight,
    membership, telemetry,
    told_to_stop::told_to_stop,
};

/// Load the kernel programs, attach them, and publish the ring to them and to this node's gateway
///
/// Needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (the last one not after `ringsteer load`); Linux 6.8 or newer
/// with BTF; and a BPF file system at the pin directory. Starting it again, also a newer version, takes over what runs
/// without a gap. Stopping it stops none of the steering: only `ringsteer uninstall` does.
///
/// SIGHUP reads the configuration again; one that cannot be used changes nothing.
#[derive(Debug, Parser)]
pub struct Args {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Load the kernel programs from this object file instead of the embedded ones
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

/// What the source has told and was not taken in yet.
const EVENTS_AHEAD: usize = 16;

impl Args {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<()> {
        let config = Config::load(&self.config)?;
        preflight::check(&config)?;
        let secrets = config.secrets()?;
        let mut source = membership::open(&config, &self.config)?;
        // Taken before anything is attached: a second agent on this node stops here.
        let listener = control::listen(&config.node.socket)?;
        let watched = config.metrics.agent.map(|address| telemetry::listen(address, "agent")).transpose()?;
        let mut dataplane = Dataplane::load(&load::settings(&config, self.object.clone()))?;
        let logger = EbpfLogger::init(dataplane.log()).context("cannot read the programs' log")?;
        let announced = announced::read(&config.node.socket);
        let agent = Agent {
            moving: moves::Moving::open(&config.node.pin_dir, dataplane.steer_fd()?)?,
            readings: Readings::open(&config.node.pin_dir)?,
            programs: translate::programs(&mut dataplane)?,
            dataplane: Mutex::new(dataplane),
            attached: OnceLock::new(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            configuration: watch::Sender::new(Arc::new(config)),
            in_force: watch::Sender::default(),
            publications: watch::Sender::new(None),
            source: Mutex::new(Source { name: source.name(), ..Source::default() }),
            announced: watch::Sender::new(announced),
            agreement: Mutex::default(),
            gateways: Arc::new(Gateways::default()),
            gateway: Mutex::default(),
            network: OnceLock::new(),
            publishing_took: Mutex::default(),
            shares: Mutex::default(),
            counters: counters::Counters::default(),
            stopping: AtomicBool::new(false),
        };
        let agent = Arc::new(agent);
        let mut keeper = Keeper::new(Arc::clone(&agent));
        keeper.begin()?;
        if let Some(ring) = &agent.in_force().ring {
            source.remember(ring.clone());
        }
        agent.attach()?;

        let (stop, stopped) = watch::channel(());
        let until_stopped = async move {
            let mut stopped = stopped;
            // The sender is dropped to stop; nothing is ever sent.
            let _ = stopped.changed().await;
        };
        let served = Served {
            publications: agent.publications.subscribe(),
            desk: Arc::clone(&agent),
            gateways: Arc::clone(&agent.gateways),
        };
        let (tell, mut told) = mpsc::channel(EVENTS_AHEAD);
        let tasks = [
            tokio::spawn(control::serve(listener, served, until_stopped)),
            tokio::spawn(follow_log(logger)),
            tokio::spawn(flows::keep(Arc::clone(&agent))),
            tokio::spawn(orphans::keep(Arc::clone(&agent))),
            tokio::spawn(moves::keep(Arc::clone(&agent))),
            tokio::spawn(announced::keep(Arc::clone(&agent))),
            tokio::spawn(neighbours::keep(others(&agent.in_force))),
            tokio::spawn(peers::start(&agent, &secrets)),
            tokio::spawn(source.follow(agent.announced.subscribe(), tell)),
        ];
        let watched = watched.map(|listener| tokio::spawn(telemetry::serve(listener, Arc::clone(&agent) as _)));
        let told_to_stop = told_to_stop()?;
        tokio::pin!(told_to_stop);
        let mut hangup = signal(SignalKind::hangup())?;
        let mut gateways = agent.gateways.staffing();
        // When to stop at the latest, once we have been told to.
        let mut end = None;
        loop {
            let pending = keeper.is_pending();
            tokio::select! {
                () = &mut told_to_stop, if end.is_none() => match agent.outlives_its_gateways() {
                    true if agent.gateways.attached() > 0 => {
                        info!("told to stop, and so is the gateway: its sessions go first");
                        end = Some(tokio::time::Instant::now() + GATEWAYS_END);
                    }
                    _ => break,
                },
                _ = gateways.wait_for(|now| now.attached == 0), if end.is_some() => break,
                () = tokio::time::sleep_until(end.unwrap_or_else(tokio::time::Instant::now)), if end.is_some() => break,
                Some(event) = told.recv() => keeper.hear(event),
                () = sleep(keeper::RETRY), if pending => keeper.retry(),
                _ = hangup.recv() => match keeper.reload(&self.config) {
                    Ok(()) => info!("read the configuration again"),
                    Err(error) => warn!("the configuration stays as it was: {error:#}"),
                },
            }
        }
        drop(stop);
        agent.stopping.store(true, Ordering::Relaxed);
        tasks.iter().chain(&watched).for_each(JoinHandle::abort);
        info!("stopped; the kernel goes on steering, `ringsteer uninstall` ends that");
        Ok(())
    }
}

/// Where the other members are, whenever that changes.
fn others(in_force: &watch::Sender<Arc<InForce>>) -> watch::Receiver<Vec<IpAddr>> {
    let mut in_force = in_force.subscribe();
    let others = in_force.borrow_and_update().others();
    let (told, receiver) = watch::channel(others);
    tokio::spawn(async move {
        while in_force.changed().await.is_ok() {
            let others = in_force.borrow_and_update().others();
            told.send_if_modified(|told| {
                let changed = *told != others;
                *told = others;
                changed
            });
        }
    });
    receiver
}

/// Passes the programs' log lines on.
async fn follow_log(logger: EbpfLogger<&'static dyn log::Log>) {
    // SAFETY: the logger owns its descriptor, the map's, and closes it only when it is dropped, with the `AsyncFd`.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let Ok(mut logger) = registered else {
        warn!("the programs' log cannot be followed");
        return;
    };
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

/// Detach the programs and remove everything pinned: live steered connections end
#[derive(Debug, Parser)]
pub struct Uninstall {
    /// The node's configuration file, for its pin directory
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// The pin directory, instead of the one in the configuration file
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
}

impl Uninstall {
    /// Removes it all; running it again finds nothing and is content.
    pub async fn run(self) -> Result<()> {
        let config = Config::load(&self.config);
        let (pin_dir, socket) = match (self.pin_dir, config) {
            (Some(pin_dir), config) => (pin_dir, config.ok().map(|config| config.node.socket)),
            (None, config) => config.map(|config| (config.node.pin_dir, Some(config.node.socket)))?,
        };
        let mut removed = crate::dataplane::attach::uninstall(&pin_dir)?;
        // What the next agent would go on with.
        for path in socket.iter().flat_map(|socket| [last_ring::path(socket), announced::path(socket)]) {
            match std::fs::remove_file(&path) {
                Ok(()) => removed.push(path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("cannot remove {}", path.display())),
            }
        }
        if removed.is_empty() {
            println!("nothing is installed at {}", pin_dir.display());
        }
        for path in removed {
            println!("removed {}", path.display());
        }
        neighbours::release().await.context("cannot let go of the neighbours the kernel keeps for us")
    }
}

/// How long an agent that ends with its pod waits for the gateway there. The pod's own grace period is shorter.
const GATEWAYS_END: Duration = Duration::from_secs(120);

/// How often the flow table is walked.
const FLOW_WALK: Duration = Duration::from_secs(10);
