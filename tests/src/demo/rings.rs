//! The ring changes under users who talk and are pushed to, with newcomers arriving, and a node is drained and its gateway
//! started again: nobody may notice.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::ring::{MemberState, Ring};
use tokio::time::sleep;

use super::{
    report::percentile,
    stream::Stream,
    users::{Crowd, User, Users},
};
use crate::fleet::{self, Fleet};

/// How long the fleet may take to follow a ring, and the sessions to be where they belong.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a row lasts beyond what happens in it: long enough for every user to be pushed to and answered a few times.
const MORE: Duration = Duration::from_secs(2);

/// How long nothing happens, to compare with.
const QUIET: Duration = Duration::from_secs(4);

/// Users who arrive while a ring changes, and how many of them dial at a time.
const NEWCOMERS: usize = 24;
const DIALLERS: usize = 4;

/// How often the fleet is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// A row of the table: something that happens to the fleet.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    /// Rings that came meanwhile.
    rings: u64,
    /// Sessions that are on another node afterwards.
    moved: usize,
    newcomers: usize,
    /// How often newcomers were told to dial again.
    dialled_again: usize,
    /// Until every session was where it belongs.
    took: Duration,
    /// Of those that have moved, or of all if none has: the longest that a message of each was on its way; ascending.
    longest: Vec<Duration>,
    /// Connections that ended.
    gone: usize,
}

/// What has become of everybody.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    rows: Vec<Row>,
    users: usize,
    lasted: Duration,
    wanted_per_s: u32,
    said: usize,
    unanswered: usize,
    garbled: usize,
    delivered: u64,
    offline: u64,
    again: u64,
    unknown: u64,
    missing: usize,
    duplicated: usize,
    reordered: usize,
    gone: Vec<String>,
    /// What the last failed push heard.
    trouble: Option<String>,
}

/// Rings and users at work.
struct Scene<'a, 'lab, P> {
    fleet: &'a Fleet<'lab>,
    crowd: Arc<Crowd>,
    stream: Stream,
    ring: Ring,
    rows: Vec<Row>,
    progress: P,
    newcomers: usize,
    gone: usize,
}

/// Waits until all agents and gateways follow one ring, in which exactly these nodes take users, and gives it.
pub fn agreed(fleet: &Fleet<'_>, active: &BTreeSet<usize>) -> Result<Ring> {
    let deadline = Instant::now() + LIMIT;
    fleet.lab.router().block_on(async {
        loop {
            let ring = fleet.ring_of(0).await?;
            let right = (0..fleet.lab.nodes().len()).all(|node| {
                let state = ring.members().iter().find(|member| member.address == fleet.ring.members()[node].address);
                state.is_some_and(|member| (member.state == MemberState::Active) == active.contains(&node))
            });
            if right && follow(fleet, &ring).await {
                return Ok(ring);
            }
            ensure!(Instant::now() < deadline, "the fleet does not come to a ring with {active:?}; it has {ring:?}");
            sleep(LOOK).await;
        }
    })
}

async fn follow(fleet: &Fleet<'_>, ring: &Ring) -> bool {
    let name = ring.name();
    for node in 0..fleet.lab.nodes().len() {
        let Ok(status) = fleet.status(node).await else { return false };
        let mut gateways = status.gateways.iter();
        let agent = status.ring.is_some_and(|ring| ring.epoch == name.epoch && ring.digest == name.digest);
        if !agent || !gateways.any(|gateway| gateway.report.ring == Some(name)) {
            return false;
        }
    }
    true
}

/// Goes through it all.
pub fn run(fleet: &Fleet<'_>, users: &Users, per_s: u32, progress: impl Fn(&str)) -> Result<Outcome> {
    let nodes = fleet.lab.nodes().len();
    let crowd = Arc::clone(users.crowd());
    let stream = Stream::start(fleet, &crowd, &fleet.ring, per_s)?;
    crowd.talk(true);
    let (began, ring) = (Instant::now(), fleet.ring.clone());
    let mut scene = Scene { fleet, crowd, stream, ring, rows: vec![], progress, newcomers: 0, gone: 0 };
    let played = scene.play(nodes);
    let lasted = began.elapsed();
    let Scene { stream, crowd, rows, .. } = scene;
    crowd.talk(false);
    let trouble = stream.trouble();
    let [delivered, offline, again, unknown] = stream.stop(fleet)?;
    // What is on its way still arrives, or is lost.
    fleet.lab.router().block_on(async {
        let deadline = Instant::now() + LIMIT;
        let waiting = |user: &Arc<User>| {
            let account = user.account();
            account.gone.is_none() && account.missing() + account.unanswered() > 0
        };
        while crowd.users().iter().any(waiting) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
    });
    let mut outcome = Outcome {
        rows,
        users: crowd.users().len(),
        lasted,
        wanted_per_s: per_s,
        delivered,
        offline,
        again,
        unknown,
        trouble,
        ..Outcome::default()
    };
    for user in crowd.users() {
        let account = user.account();
        outcome.said += account.said();
        outcome.unanswered += account.unanswered();
        outcome.garbled += account.garbled;
        outcome.missing += account.missing();
        outcome.duplicated += account.duplicated;
        outcome.reordered += account.reordered;
        outcome.gone.extend(account.gone.as_ref().map(|why| format!("{}: {why}", user.name)));
    }
    played.with_context(|| format!("what was seen by then:\n{outcome}"))?;
    Ok(outcome)
}

// === impl Scene ===

impl<P: Fn(&str)> Scene<'_, '_, P> {
    fn play(&mut self, nodes: usize) -> Result<()> {
        self.quiet(nodes);
        let mut present = nodes;
        for size in [1, nodes, nodes.min(3), nodes.min(4)] {
            self.resize(&format!("{present} → {size} nodes"), size)?;
            present = size;
        }
        // The one with the most users but the edge's, which has all the packets to forward.
        let active: BTreeSet<usize> = (0..present).collect();
        let Some(&drained) = active.iter().skip(1).max_by_key(|&&node| self.owned(&self.ring, node)) else {
            return Ok(());
        };
        let without: BTreeSet<usize> = active.iter().copied().filter(|&node| node != drained).collect();
        let name = format!("node-{}", drained + 1);
        self.step(&format!("{name} drained"), &without, |scene| scene.drain(&[drained], false))?;
        self.step("its gateway restarted", &without, |scene| {
            let gateway = &scene.fleet.gateways[drained];
            let ended = gateway.terminate(LIMIT)?;
            ensure!(ended.success(), "the gateway of {name} ended with {ended}");
            gateway.restart()?;
            gateway.wait_for_log_line("following ring", LIMIT).map(drop)
        })?;
        self.step(&format!("{name} is back"), &active, |scene| scene.drain(&[drained], true))
    }

    /// Nothing happens: what messages take anyway.
    fn quiet(&mut self, nodes: usize) {
        (self.progress)("everybody talks and is pushed to; nothing happens, to compare with");
        // The beginning does not count.
        self.wait(MORE);
        self.forget();
        self.wait(QUIET);
        let longest = sorted(self.crowd.users().iter().map(|user| user.account().take_longest()));
        let row = Row {
            what: format!("{nodes} nodes, nothing happens"),
            rings: 0,
            moved: 0,
            newcomers: 0,
            dialled_again: 0,
            took: Duration::ZERO,
            longest,
            gone: self.count_gone(),
        };
        self.rows.push(row);
    }

    fn resize(&mut self, what: &str, size: usize) -> Result<()> {
        let active = (0..size).collect();
        self.step(what, &active, |scene| {
            let is = |node: &usize| scene.ring.members()[*node].state == MemberState::Active;
            let nodes = 0..scene.fleet.lab.nodes().len();
            let (come, go): (Vec<_>, Vec<_>) = (
                nodes.clone().filter(|node| *node < size && !is(node)).collect(),
                nodes.filter(|node| *node >= size && is(node)).collect(),
            );
            scene.drain(&come, true)?;
            scene.drain(&go, false)
        })
    }

    /// Has nodes drain, all at the same time, or take it back.
    fn drain(&self, nodes: &[usize], end: bool) -> Result<()> {
        let start = |&node: &usize| -> Result<_> {
            let host = self.fleet.lab.node(node);
            let mut command = Command::new(fleet::binary()?);
            command.arg("drain").arg("--config").arg(host.run_dir().join("agent.toml"));
            command.args(end.then_some("--end"));
            Ok((node, host.spawn_command("drain", command)?))
        };
        let started = nodes.iter().map(start).collect::<Result<Vec<_>>>()?;
        for (node, process) in started {
            let ended = process.wait(LIMIT)?;
            ensure!(ended.success(), "`ringsteer drain` on node {node}: {ended}: {}", process.log_tail());
        }
        Ok(())
    }

    /// Something happens, after which these nodes own users, while newcomers arrive.
    fn step(&mut self, what: &str, active: &BTreeSet<usize>, happen: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        (self.progress)(what);
        self.forget();
        let before = self.ring.clone();
        let there = self.crowd.users();
        let since = Instant::now();
        let names = (self.newcomers..).take(NEWCOMERS).map(|number| format!("newcomer-{number}")).collect();
        self.newcomers += NEWCOMERS;
        let coming = self.fleet.lab.client(0).spawn(Arc::clone(&self.crowd).newcomers(names, DIALLERS))?;
        happen(self)?;
        self.ring = agreed(self.fleet, active)?;
        self.stream.follow(&self.ring);
        let dialled_again = self.fleet.lab.router().block_on(coming)??;
        self.in_place(what)?;
        let took = since.elapsed();
        self.wait(MORE);
        let owner = |ring: &Ring, user: &User| ring.owner(user.name.as_bytes()).number;
        let moved = there.iter().filter(|user| owner(&before, user) != owner(&self.ring, user));
        let longest = sorted(moved.map(|user| user.account().take_longest()));
        let moved = longest.len();
        let longest = if moved > 0 { longest } else { sorted(there.iter().map(|user| user.account().take_longest())) };
        let row = Row {
            what: what.to_owned(),
            rings: self.ring.epoch().0 - before.epoch().0,
            moved,
            newcomers: NEWCOMERS,
            dialled_again,
            took,
            longest,
            gone: self.count_gone(),
        };
        self.rows.push(row);
        Ok(())
    }

    /// Waits until every node has exactly the sessions that the ring gives it.
    fn in_place(&self, what: &str) -> Result<()> {
        let (fleet, crowd) = (self.fleet, &self.crowd);
        let wanted: Vec<_> = (0..fleet.lab.nodes().len()).map(|node| self.owned(&self.ring, node)).collect();
        fleet.lab.router().block_on(async {
            for (node, wanted) in wanted.into_iter().enumerate() {
                let deadline = Instant::now() + LIMIT;
                loop {
                    let status = fleet.status(node).await?;
                    let found = status.gateways.iter().map(|gateway| gateway.report.sessions).sum::<u64>() as usize;
                    // Those who have gone are not waited for; they are told of in the end.
                    let gone = crowd.users().iter().filter(|user| user.account().gone.is_some()).count();
                    if found <= wanted && found + gone >= wanted {
                        break;
                    }
                    ensure!(
                        Instant::now() < deadline,
                        "{what}: node-{} has {found} sessions, and should have {wanted}; {gone} have gone",
                        node + 1
                    );
                    sleep(LOOK).await;
                }
            }
            Ok(())
        })
    }

    /// How many users a node owns.
    fn owned(&self, ring: &Ring, node: usize) -> usize {
        let address = self.fleet.ring.members()[node].address;
        self.crowd.users().iter().filter(|user| ring.owner(user.name.as_bytes()).address == address).count()
    }

    fn wait(&self, how_long: Duration) {
        self.fleet.lab.router().block_on(async { sleep(how_long).await });
    }

    fn forget(&self) {
        for user in self.crowd.users() {
            user.account().take_longest();
        }
    }

    fn count_gone(&mut self) -> usize {
        let gone = self.crowd.users().iter().filter(|user| user.account().gone.is_some()).count();
        gone - std::mem::replace(&mut self.gone, gone)
    }
}

fn sorted(times: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

// === impl Outcome ===

impl Outcome {
    /// What went wrong, if anything did.
    pub fn failures(&self) -> Vec<String> {
        let counts = [
            ("client disconnects", self.gone.len()),
            ("pushes lost", self.missing),
            ("pushes duplicated", self.duplicated),
            ("pushes reordered", self.reordered),
            ("false offline", self.offline as usize),
            ("pushes of which nobody knows what became", self.unknown as usize),
            ("messages of clients that did not come back", self.unanswered),
            ("messages of clients that came back wrong", self.garbled),
        ];
        counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{what}: {count}")).collect()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let seconds = self.lasted.as_secs_f64();
        writeln!(
            f,
            "Rings that change under {} users, for {seconds:.0} s: {:.0} pushes a second ({} wanted), {:.0} echoes",
            self.users,
            self.delivered as f64 / seconds,
            self.wanted_per_s,
            self.said as f64 / seconds
        )?;
        writeln!(f, "{:60} longest way of a message, ms", "")?;
        writeln!(
            f,
            "{:25} {:>5} {:>6} {:>8}   {:>9}   {:>6} {:>6} {:>6}   {:>11}",
            "", "rings", "moved", "took", "newcomers", "p50", "p99", "max", "disconnects"
        )?;
        for Row { what, rings, moved, newcomers, took, longest, gone, .. } in &self.rows {
            writeln!(
                f,
                "  {what:<23} {rings:>5} {moved:>6} {:>6.2} s   {newcomers:>9}   {:>6.1} {:>6.1} {:>6.1}   {gone:>11}",
                took.as_secs_f64(),
                ms(percentile(longest, 50)),
                ms(percentile(longest, 99)),
                ms(percentile(longest, 100)),
            )?;
        }
        writeln!(f, "\n  moved sessions      {:>9}", self.rows.iter().map(|row| row.moved).sum::<usize>())?;
        writeln!(f, "  client disconnects  {:>9}", self.gone.len())?;
        writeln!(f, "  pushes delivered    {:>9}", self.delivered)?;
        writeln!(f, "  pushes lost         {:>9}", self.missing)?;
        writeln!(f, "  duplicated          {:>9}", self.duplicated)?;
        writeln!(f, "  reordered           {:>9}", self.reordered)?;
        writeln!(f, "  false offline       {:>9}", self.offline)?;
        writeln!(f, "  sent again          {:>9}", self.again)?;
        writeln!(f, "  echoes              {:>9}", self.said)?;
        writeln!(f, "  lost or wrong       {:>9}", self.unanswered + self.garbled)?;
        let again: usize = self.rows.iter().map(|row| row.dialled_again).sum();
        writeln!(f, "  newcomers who were told to dial again: {again}")?;
        for why in self.gone.iter().take(8) {
            writeln!(f, "  disconnected: {why}")?;
        }
        if let Some(trouble) = &self.trouble {
            writeln!(f, "  the last push that was sent again, or failed: {trouble}")?;
        }
        Ok(())
    }
}
