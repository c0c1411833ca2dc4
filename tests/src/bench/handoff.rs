//! `bench handoff`: what it takes to move sessions from one gateway to another, and what their users see of it.
//!
//! One node is the edge and owns nobody; the two others own everybody in turn, and each ring moves all sessions. How long each
//! was silent its old gateway says.
//!
//! Some of the users are *samplers*: they say something every [`SAY`] whatever has been answered, and each message carries its
//! time. The longest that a message of a sampler was on its way during a ring change is what that client saw of it: of the
//! ring, of all the moves beside its own, and of its own process having to wait for a processor. The same figure while nothing
//! moves stands beside it. The samplers are pushed to as well, one after the other.
//!
//! A move costs processor time at both its ends. What the gateways and agents have taken while they moved, less what they
//! take in the same time while nothing moves, shared among the moves and their two ends, is the time of an end; what a core
//! would manage that did nothing else is its inverse.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use ringsteer::{
    control::{self, NodeMoves, Order},
    ring::{Epoch, MemberState, Ring},
};
use tokio::{
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

use super::{
    crowd::{PATIENCE, now_ns},
    figures::percentile,
    idle::crowd,
};
use crate::{
    client::{BatchPusher, PushStatus},
    fleet::{Fleet, Options},
    lab::Lab,
    scrape::{GATEWAY, Scrape},
};

/// How often a sampler says something; nothing that it sees is measured finer than this.
const SAY: Duration = Duration::from_millis(2);

/// How often one of the samplers is pushed to, at most.
const PUSH: Duration = Duration::from_millis(2);

/// How often a busy user says something.
const BUSY: Duration = Duration::from_millis(100);

/// Users of one client process: it may open only so many files.
const EACH: usize = 5000;

/// How long after the moves the quiet begins.
const SETTLED: Duration = Duration::from_millis(500);

/// How long nothing moves, to compare with.
const QUIET: Duration = Duration::from_secs(2);

/// How often the fleet is asked how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// Moving sessions
#[derive(Debug, Parser)]
pub struct Args {
    /// Idle sessions; a gateway may open 20 000 files
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    idle: u32,
    /// Busy sessions, which say something every 100 ms
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    busy: u32,
    /// Users among them whose messages are timed
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    samplers: u32,
    /// How often all of them are moved
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=999))]
    moves: u32,
    /// Moves a second that each gateway may begin; by default as many as gateways begin by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

/// What the samplers see.
#[derive(Default)]
struct Samples {
    /// By sampler: the longest that a message was on its way since that was last asked, in nanoseconds.
    longest_ns: Vec<Mutex<u64>>,
    /// How long pushes were on their way.
    pushes_ns: Mutex<Vec<u64>>,
    /// Why a sampler is not there any more, or a push was not made.
    failed: Mutex<Option<String>>,
    over: AtomicBool,
}

/// What was seen in one kind of time: in moves, or while nothing moved.
#[derive(Default)]
struct Seen {
    longest_ns: Vec<u64>,
    pushes_ns: Vec<u64>,
}

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    println!("moving all sessions, {} times; times are p50 and p99 in milliseconds", args.moves);
    println!(
        "{:<12} {:>8} {:>10} {:>12} {:>14} {:>14} {:>14} {:>14} {:>14}",
        "", "moves/s", "us an end", "ends/s core", "silent", "longest", "quiet", "push", "quiet"
    );
    for (what, count, talk) in [("idle", args.idle, None), ("busy", args.busy, Some(BUSY))] {
        one(what, count as usize, talk, args).with_context(|| format!("with {count} {what} sessions"))?;
    }
    Ok(())
}

fn one(what: &str, count: usize, talk: Option<Duration>, args: &Args) -> Result<()> {
    let processes = count.div_ceil(EACH);
    let lab = Lab::builder().nodes(3).clients(processes + 1).build()?;
    let fleet = Fleet::start(&lab, &Options { ring_file: true, max_flows: 65_536, ..Options::default() })?;
    let samplers = args.samplers as usize;
    let all = (count + samplers) as u64;
    let mut at = 1;
    follow(&fleet, 2, at, 0)?;
    if let Some(rate) = args.rate {
        let socket = fleet.socket(0);
        let nodes = lab.router().block_on(control::handoff(&socket, None, Some(Order::Rate(Some(rate)))))?;
        ensure!(nodes.iter().all(|node| node.moves.is_some()), "a gateway was not told the rate");
    }
    let crowds = (0..processes)
        .map(|index| crowd(&lab, index, fleet.websocket(), index * EACH, EACH.min(count - index * EACH), talk))
        .collect::<Result<Vec<_>>>()?;
    for crowd in &crowds {
        crowd.wait_for_log_line("connected", PATIENCE)?;
    }

    let samples = Arc::new(Samples {
        longest_ns: std::iter::repeat_with(Mutex::default).take(samplers).collect(),
        ..Samples::default()
    });
    let sampling =
        (0..samplers).map(|number| lab.client(processes).spawn(samples.clone().sample(number, fleet.websocket())));
    let mut tasks = sampling.collect::<Result<Vec<_>>>()?;
    wait_for(&fleet, at, all)?;
    tasks.push(lab.pusher().spawn(samples.clone().push(samplers, fleet.push()))?);

    let silent_before = silences(&fleet)?;
    let (mut quiet, mut moving, mut took) = (Seen::default(), Seen::default(), Vec::new());
    let mut busy = Duration::ZERO;
    for round in 0..args.moves {
        // What the last move has left behind goes by first.
        lab.router().block_on(async { sleep(SETTLED).await });
        samples.take();
        let before = worked(&fleet)?;
        let begun = Instant::now();
        lab.router().block_on(async { sleep(QUIET).await });
        let usual = (worked(&fleet)? - before).div_duration_f64(begun.elapsed());
        quiet.add(samples.take());
        at = 3 - at;
        let before = worked(&fleet)?;
        let begun = Instant::now();
        follow(&fleet, 3 + u64::from(round), at, all)?;
        let elapsed = begun.elapsed();
        busy += (worked(&fleet)? - before).saturating_sub(elapsed.mul_f64(usual));
        took.push(elapsed);
        moving.add(samples.take());
        if let Some(why) = samples.failed.lock().expect("nobody panics with it").as_ref() {
            anyhow::bail!("after {} moves: {why}", round + 1);
        }
    }
    let silent = silent_before.iter().zip(silences(&fleet)?);
    let silent: Vec<_> = silent.map(|(&(bound, before), (_, after))| (bound, after - before)).collect();
    samples.over.store(true, Ordering::SeqCst);
    for task in tasks {
        lab.router().block_on(task)?;
    }
    took.sort_unstable();
    let per_s = all as f64 / took[took.len() / 2].as_secs_f64();
    let an_end = busy.as_secs_f64() / f64::from(args.moves) / all as f64 / 2.0;
    println!(
        "{:<12} {per_s:>8.0} {:>10.0} {:>12.0} {:>7.1} {:>6.1} {} {} {} {}",
        format!("{count} {what}"),
        an_end * 1e6,
        1.0 / an_end,
        quantile(&silent, 0.5) * 1e3,
        quantile(&silent, 0.99) * 1e3,
        pair(&mut moving.longest_ns),
        pair(&mut quiet.longest_ns),
        pair(&mut moving.pushes_ns),
        pair(&mut quiet.pushes_ns),
    );
    Ok(())
}

/// The processor time that all gateways and agents have taken so far: user and system time of `proc_pid_stat(5)`, in
/// hundredths of a second.
fn worked(fleet: &Fleet<'_>) -> Result<Duration> {
    let mut ticks = 0;
    for process in fleet.gateways.iter().chain(&fleet.agents) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid()))?;
        // Behind the name, which may have anything in it, the state is the first field and the times are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("no name in the process's stat")?;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u64>().context("no time in the process's stat")?;
        }
    }
    Ok(Duration::from_millis(10 * ticks))
}

/// How many sessions have been silent for how long at most while they moved, at all gateways together.
fn silences(fleet: &Fleet<'_>) -> Result<Vec<(f64, u64)>> {
    let mut all: Vec<(f64, u64)> = Vec::new();
    for node in fleet.lab.nodes() {
        let here = Scrape::of(node, GATEWAY)?.histogram("ringsteer_move_silence_seconds")?;
        all.resize(here.len(), (0.0, 0));
        for (sum, (bound, count)) in all.iter_mut().zip(here) {
            *sum = (bound, sum.1 + count);
        }
    }
    Ok(all)
}

/// A quantile of what is spread over these buckets, as if it were even within each of them, as Prometheus has it.
fn quantile(buckets: &[(f64, u64)], share: f64) -> f64 {
    let wanted = share * buckets.last().map_or(0.0, |&(_, all)| all as f64);
    let (mut below, mut so_far) = (0.0, 0.0);
    for &(bound, count) in buckets {
        let count = count as f64;
        if count >= wanted && count > so_far {
            let part = (wanted - so_far) / (count - so_far);
            return if bound.is_finite() { below + part * (bound - below) } else { below };
        }
        (below, so_far) = (bound, count);
    }
    below
}

/// Median and 99th percentile, in milliseconds.
fn pair(values_ns: &mut [u64]) -> String {
    if values_ns.is_empty() {
        return format!("{:>14}", "none");
    }
    values_ns.sort_unstable();
    let ms = |percent| percentile(values_ns, percent) as f64 / 1e6;
    format!("{:>7.1} {:>6.1}", ms(50), ms(99))
}

/// Gives all nodes the ring in which that node alone owns users, and waits until it has that many sessions.
fn follow(fleet: &Fleet<'_>, epoch: u64, at: usize, sessions: u64) -> Result<()> {
    let mut members = fleet.ring.members().to_vec();
    for (index, member) in members.iter_mut().enumerate() {
        member.state = if index == at { MemberState::Active } else { MemberState::Draining };
    }
    let ring = Ring::new(Epoch(epoch), fleet.ring.algorithm(), members)?;
    fleet.give_ring_to_all(&ring)?;
    let name = ring.name();
    fleet.lab.router().block_on(async {
        for node in 0..fleet.lab.nodes().len() {
            let follows = |status: &ringsteer::control::Status| {
                let mut gateways = status.gateways.iter();
                gateways.any(|gateway| gateway.report.ring == Some(name))
            };
            fleet.wait_for_status(node, follows).await?;
        }
        anyhow::Ok(())
    })?;
    wait_for(fleet, at, sessions)
}

/// Waits until that node has so many sessions, and the others have none. Asks how the moves go, and not for a status, for
/// which agents look through their maps.
fn wait_for(fleet: &Fleet<'_>, at: usize, sessions: u64) -> Result<()> {
    let (deadline, socket) = (Instant::now() + PATIENCE, fleet.socket(0));
    let at = fleet.ring.members()[at].number;
    fleet.lab.router().block_on(async {
        loop {
            let nodes = control::handoff(&socket, None, None).await?;
            let found = |node: &NodeMoves| node.moves.as_ref().map(|moves| moves.sessions);
            let wanted = |node: &NodeMoves| if node.number == at { sessions } else { 0 };
            if nodes.iter().all(|node| found(node) == Some(wanted(node))) {
                return Ok(());
            }
            let found: Vec<_> = nodes.iter().map(found).collect();
            ensure!(Instant::now() < deadline, "the nodes have {found:?} sessions; all {sessions} should be at {at}");
            sleep(LOOK).await;
        }
    })
}

fn name(number: usize) -> String {
    format!("sampler-{number}")
}

// === impl Samples ===

impl Samples {
    /// What has been seen since this was last asked.
    fn take(&self) -> Seen {
        let longest =
            self.longest_ns.iter().map(|one| std::mem::take(&mut *one.lock().expect("nobody panics with it")));
        Seen {
            // Who has heard nothing was in the dark all the time, and will tell in the next round.
            longest_ns: longest.filter(|longest| *longest > 0).collect(),
            pushes_ns: std::mem::take(&mut *self.pushes_ns.lock().expect("nobody panics with it")),
        }
    }

    fn fail(&self, why: String) {
        self.failed.lock().expect("nobody panics with it").get_or_insert(why);
    }

    /// One sampler.
    async fn sample(self: Arc<Self>, number: usize, address: SocketAddr) {
        if let Err(error) = self.try_sample(number, address).await {
            self.fail(format!("{}: {error:#}", name(number)));
        }
    }

    async fn try_sample(&self, number: usize, address: SocketAddr) -> Result<()> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut socket, _) = client_async(format!("ws://{address}/?sendID={}", name(number)), stream).await?;
        let mut pace = interval(SAY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pushed = HashSet::new();
        while !self.over.load(Ordering::Relaxed) {
            tokio::select! {
                heard = socket.next() => match heard.context("disconnected")?? {
                    Message::Text(text) => {
                        let (kind, sent_ns) = text.split_once(' ').context("not what was said")?;
                        let sent_ns: u64 = sent_ns.parse()?;
                        let took_ns = now_ns().saturating_sub(sent_ns);
                        if kind == "push" {
                            ensure!(pushed.insert(sent_ns), "a push came twice");
                            self.pushes_ns.lock().expect("nobody panics with it").push(took_ns);
                        } else {
                            let mut longest_ns = self.longest_ns[number].lock().expect("nobody panics with it");
                            *longest_ns = took_ns.max(*longest_ns);
                        }
                    }
                    Message::Close(close) => anyhow::bail!("closed: {close:?}"),
                    _ => {}
                },
                _ = pace.tick() => socket.send(Message::text(format!("said {}", now_ns()))).await?,
            }
        }
        Ok(())
    }

    /// Pushes to one sampler after the other.
    async fn push(self: Arc<Self>, samplers: usize, service: SocketAddr) {
        let mut pace = interval(PUSH);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pusher = None;
        for number in 0_u64.. {
            pace.tick().await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = push_one(&mut pusher, service, number, samplers).await {
                return self.fail(format!("push {number}: {error:#}"));
            }
        }
    }
}

async fn push_one(pusher: &mut Option<BatchPusher>, service: SocketAddr, number: u64, samplers: usize) -> Result<()> {
    let user = name(number as usize % samplers);
    let pusher = match pusher {
        Some(pusher) => pusher,
        None => pusher.insert(BatchPusher::connect(service).await?),
    };
    let statuses = pusher.push(&format!("bench-{number}"), &[&user], &format!("push {}", now_ns())).await?;
    ensure!(statuses == [PushStatus::Delivered], "{user}: {statuses:?}");
    Ok(())
}

// === impl Seen ===

impl Seen {
    fn add(&mut self, other: Self) {
        self.longest_ns.extend(other.longest_ns);
        self.pushes_ns.extend(other.pushes_ns);
    }
}
