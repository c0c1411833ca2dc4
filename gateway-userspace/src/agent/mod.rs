//! The agent: from the configuration to running programs, and then whatever they need while they run.
//!
//! * [`host`]: what the host must provide;
//! * [`prepare`]: making a host ready, once;
//! * [`load`]: loading the programs ahead of an agent with fewer rights;
//! * [`translate`]: from the configuration's words to the maps';
//! * [`neighbours`]: has the kernel keep the link-layer addresses of the other nodes known;
//! * [`flows`]: removes flows that have ended.
//!
//! Stopping the agent stops none of the steering (promise 4): programs, maps and links stay pinned until `uninstall`.

mod flows;
mod host;
mod load;
mod neighbours;
mod prepare;
mod translate;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use aya_log::EbpfLogger;
use clap::Parser;
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{info, warn};

pub use self::{load::Load, prepare::Prepare};
use crate::{
    config::{self, Config, Membership},
    control::{self, AttachedMode, InterfaceStatus, ProgramStatus, Publication, Status},
    dataplane::{
        Dataplane,
        attach::{Attached, Mode},
        publish::{State, publish},
    },
    ring::{Member, Ring},
};

/// Load the kernel programs, attach them, and publish the ring to them and to this node's gateway
///
/// Needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (the last one not after `ringsteer load`); Linux 6.8 or newer
/// with BTF; and a BPF file system at the pin directory. Starting it again, also a newer version, takes over what runs without a gap. Stopping it stops none
/// of the steering: only `ringsteer uninstall` does.
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

/// What the running agent shares between its tasks.
struct Agent {
    dataplane: Mutex<Dataplane>,
    attached: Vec<Attached>,
    programs: Vec<ProgramStatus>,
    started: SystemTime,
}

impl Args {
    /// Runs until SIGTERM or SIGINT.
    pub async fn run(self) -> Result<()> {
        let config = Config::load(&self.config)?;
        host::check(&config, this_member(&ring_of(&config)?, &config)?.address.ip())?;
        // Taken before anything is attached: a second agent on this node stops here.
        let listener = control::listen(&config.node.socket)?;
        let mut dataplane = Dataplane::load(&load::settings(&config, self.object.clone()))?;
        let logger = EbpfLogger::init(dataplane.log()).context("cannot read the programs' log")?;
        apply(&mut dataplane, &config)?;
        let attached = dataplane.attach(&config.node.interfaces, &translate::modes(config.node.xdp_mode))?;
        for one in &attached {
            let how = if one.replaced { "replaced the running programs on" } else { "attached to" };
            info!(interface = %one.interface, mode = ?one.mode, "{how} {}", one.interface);
        }
        let programs = translate::programs(&mut dataplane)?;
        let agent =
            Arc::new(Agent { dataplane: Mutex::new(dataplane), attached, programs, started: SystemTime::now() });
        let ring = ring_of(&config)?;
        info!(node = %config.node.name, epoch = ring.epoch().0, members = ring.members().len(), "steering");

        let (others, nodes) = watch::channel(other_nodes(&config)?);
        let (published, publication) = watch::channel(Arc::new(publication_of(&config)?));
        let (configured, configuration) = watch::channel(Arc::new(config));
        let status = {
            let (agent, configuration) = (Arc::clone(&agent), configuration.clone());
            let publication = publication.clone();
            move || agent.status(&configuration.borrow(), &publication.borrow())
        };
        let (stop, stopped) = watch::channel(());
        let until_stopped = |mut stopped: watch::Receiver<()>| async move {
            // The sender is dropped to stop; nothing is ever sent.
            let _ = stopped.changed().await;
        };
        let tasks = [
            tokio::spawn(control::serve(listener, publication, status, until_stopped(stopped.clone()))),
            tokio::spawn(follow_log(logger)),
            tokio::spawn(flows::keep(Arc::clone(&agent), configuration)),
            tokio::spawn(neighbours::keep(nodes)),
        ];
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match agent.reload(&self.config, &configured.borrow()) {
                    Ok((config, publication, nodes)) => {
                        info!(epoch = publication.ring.epoch.0, "read the configuration again");
                        others.send_replace(nodes);
                        published.send_replace(Arc::new(publication));
                        configured.send_replace(Arc::new(config));
                    }
                    Err(error) => warn!("the configuration stays as it was: {error:#}"),
                },
            }
        }
        drop(stop);
        for task in tasks {
            task.abort();
        }
        info!("stopped; the kernel goes on steering, `ringsteer uninstall` ends that");
        Ok(())
    }
}

/// The ring in force.
fn ring_of(config: &Config) -> Result<Ring> {
    match &config.membership {
        Membership::File { path: None } => config.ring().cloned().context("the configuration lists no ring"),
        Membership::File { path: Some(path) } => Ok(config::load_ring(path)?),
        Membership::Etcd(_) | Membership::Kubernetes(_) => bail!("this agent follows files only"),
    }
}

/// This node as a member of `ring`.
fn this_member<'ring>(ring: &'ring Ring, config: &Config) -> Result<&'ring Member> {
    let identity = &config.node.identity;
    config
        .member_of(ring)
        .with_context(|| format!("this node's `identity` is {identity}, and the ring has no such member; add it there"))
}

/// What the gateway of this node is told.
fn publication_of(config: &Config) -> Result<Publication> {
    let ring = ring_of(config)?;
    Ok(Publication::new(this_member(&ring, config)?.number, &ring, config.services.clone()))
}

/// Where the other members are.
fn other_nodes(config: &Config) -> Result<Vec<IpAddr>> {
    let ring = ring_of(config)?;
    let this = config.member_of(&ring).map(|member| member.number);
    let others = ring.members().iter().filter(|member| Some(member.number) != this);
    Ok(others.map(|member| member.address.ip()).collect())
}

/// Puts the configuration into the maps.
fn apply(dataplane: &mut Dataplane, config: &Config) -> Result<()> {
    let ring = ring_of(config)?;
    translate::check_nodes(&ring)?;
    let services = translate::services(config)?;
    let state = State {
        ring: &ring,
        this: this_member(&ring, config)?,
        tunnel_port: config.node.tunnel_port,
        secrets: config.secrets()?.to_kernel(),
        services: &services,
    };
    publish(&mut dataplane.maps, &state)
}

impl Agent {
    /// The configuration anew, in force. What is fixed at load time has to stay as it was.
    fn reload(&self, path: &std::path::Path, old: &Config) -> Result<(Config, Publication, Vec<IpAddr>)> {
        let new = Config::load(path)?;
        let fixed = |node: &config::Node| {
            (
                node.interfaces.clone(),
                node.pin_dir.clone(),
                node.socket.clone(),
                node.max_flows,
                node.handshake_slot_shift,
                node.identity.clone(),
            )
        };
        anyhow::ensure!(
            fixed(&new.node) == fixed(&old.node),
            "interfaces, pin_dir, socket, max_flows, handshake_slot_shift and identity change only when the agent is restarted"
        );
        apply(&mut self.dataplane.lock().expect("nothing panics with the lock held"), &new)?;
        let (publication, others) = (publication_of(&new)?, other_nodes(&new)?);
        Ok((new, publication, others))
    }

    fn status(&self, config: &Config, publication: &Publication) -> Status {
        let dataplane = self.dataplane.lock().expect("nothing panics with the lock held");
        let counters =
            dataplane.maps.stats().map(|stats| stats.named().map(|(name, value)| (name.into(), value)).collect());
        Status {
            node: publication.node,
            name: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started_at_unix_s: self.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            epoch: publication.ring.epoch,
            digest: publication.digest,
            members: publication.ring.members.len() as u32,
            pin_dir: config.node.pin_dir.clone(),
            interfaces: self
                .attached
                .iter()
                .map(|one| InterfaceStatus {
                    name: one.interface.clone(),
                    xdp_mode: match one.mode {
                        Mode::Native => AttachedMode::Native,
                        Mode::Generic => AttachedMode::Generic,
                    },
                })
                .collect(),
            programs: self.programs.clone(),
            flows: dataplane.maps.flows.keys().filter(Result::is_ok).count() as u64,
            max_flows: config.node.max_flows.into(),
            counters: counters.unwrap_or_default(),
        }
    }
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
        let pin_dir = match self.pin_dir {
            Some(pin_dir) => pin_dir,
            None => Config::load(&self.config)?.node.pin_dir,
        };
        let removed = crate::dataplane::attach::uninstall(&pin_dir)?;
        if removed.is_empty() {
            println!("nothing is installed at {}", pin_dir.display());
        }
        for path in removed {
            println!("removed {}", path.display());
        }
        neighbours::release().await.context("cannot let go of the neighbours the kernel keeps for us")
    }
}

/// How often the flow table is walked.
const FLOW_WALK: Duration = Duration::from_secs(10);
