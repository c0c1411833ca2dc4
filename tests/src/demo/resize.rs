//! The fleet grows from one node to all of them and shrinks to three, while connections arrive all the time: each has
//! to be on its owner by the ring in force.

use std::{
    fmt::{self, Display},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::{
    control,
    ring::{Epoch, MemberState, Ring},
};

use crate::{
    client::{Connection, Dial, Login, Opening, Shape, open},
    fleet::Fleet,
};

/// How many dial at the same time.
const DIALLERS: usize = 8;

/// New connections that each size of the fleet has to see.
const SETTLED: usize = 150;

/// How long the fleet may take to follow a ring, and the connections to arrive.
const LIMIT: Duration = Duration::from_secs(30);

/// How often the fleet is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// One row of the table: a size of the fleet, or a change of it.
#[derive(Clone, Debug, Default)]
struct Row {
    what: String,
    connections: usize,
    on_owner: usize,
    /// Their node owned the user by the ring that came or went meanwhile, and its gateway said 421.
    dialled_again: usize,
    misrouted: usize,
}

/// What has become of the new connections.
#[derive(Clone, Debug)]
pub struct Outcome {
    rows: Vec<Row>,
}

/// A user who got in, and the rings that were in force meanwhile.
struct Arrival {
    user: String,
    /// The ring that all nodes followed when it dialled, by its place.
    first: u64,
    /// The last ring that a node may have followed when it got in.
    last: u64,
    refusals: usize,
    /// Stays open to the end.
    _connection: Box<Connection>,
}

/// What diallers and the one who changes rings share.
#[derive(Default)]
struct Shared {
    confirmed: AtomicU64,
    written: AtomicU64,
    done: AtomicBool,
    arrivals: Mutex<Vec<Arrival>>,
}

/// Resizes the fleet, and finds out where everybody is.
pub fn run(fleet: &Fleet<'_>, progress: impl Fn(&str)) -> Result<Outcome> {
    let sizes = sizes(fleet.lab.nodes().len());
    let rings =
        (1..).zip(&sizes).map(|(step, &size)| ring_of_size(&fleet.ring, step, size)).collect::<Result<Vec<_>>>()?;
    // The first size is there before anybody comes.
    follow(fleet, &rings[0])?;

    let shared = Arc::new(Shared::default());
    let diallers = (0..DIALLERS)
        .map(|index| fleet.lab.client(0).spawn(dial(shared.clone(), fleet.websocket(), index)))
        .collect::<Result<Vec<_>>>()?;
    let resized = resize(fleet, &rings, &sizes, &shared, progress);
    shared.done.store(true, Ordering::SeqCst);
    for dialler in diallers {
        fleet.lab.router().block_on(dialler)??;
    }
    resized?;
    let arrivals = std::mem::take(&mut *shared.arrivals.lock().expect("nobody panics with it"));
    judge(fleet, &rings, &sizes, &arrivals)
}

/// One node, all of them, three.
fn sizes(nodes: usize) -> Vec<usize> {
    vec![1, nodes, nodes.min(3)]
}

/// The ring in which only the first `size` members take new users. The others give away those they have.
fn ring_of_size(first: &Ring, step: u64, size: usize) -> Result<Ring> {
    let mut members = first.members().to_vec();
    members[size..].iter_mut().for_each(|member| member.state = MemberState::Draining);
    Ok(Ring::new(Epoch(first.epoch().0 + step), first.algorithm(), members)?)
}

/// Gives all nodes a ring and waits until their agents and gateways follow it.
fn follow(fleet: &Fleet<'_>, ring: &Ring) -> Result<()> {
    fleet.give_ring_to_all(ring)?;
    let name = ring.name();
    fleet.lab.router().block_on(async {
        for node in 0..fleet.lab.nodes().len() {
            let follows = |status: &control::Status| {
                let mut gateways = status.gateways.iter();
                status.ring.as_ref().is_some_and(|ring| ring.epoch == name.epoch && ring.digest == name.digest)
                    && gateways.any(|gateway| gateway.report.ring == Some(name))
            };
            fleet.wait_for_status(node, follows).await?;
        }
        Ok(())
    })
}

/// Goes through the sizes; at each, new connections have to come.
fn resize(fleet: &Fleet<'_>, rings: &[Ring], sizes: &[usize], shared: &Shared, progress: impl Fn(&str)) -> Result<()> {
    for (place, (ring, size)) in (0..).zip(rings.iter().zip(sizes)) {
        if place > 0 {
            progress(&format!("{} → {size} nodes, connections arriving all the time", sizes[place as usize - 1]));
            shared.written.store(place, Ordering::SeqCst);
            follow(fleet, ring)?;
            shared.confirmed.store(place, Ordering::SeqCst);
        }
        let since = Instant::now();
        let settled = |arrival: &&Arrival| arrival.first == place;
        while shared.arrivals.lock().expect("nobody panics with it").iter().filter(settled).count() < SETTLED {
            ensure!(since.elapsed() < LIMIT, "too few connections arrive at {size} nodes");
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// Connects one user after the other, who stay, until told to stop.
async fn dial(shared: Arc<Shared>, address: SocketAddr, dialler: usize) -> Result<()> {
    let mut number = 0;
    while !shared.done.load(Ordering::SeqCst) {
        let user = format!("newcomer-{dialler}-{number}");
        number += 1;
        let request = Login::new(&user).request(Shape::Native);
        let mut refusals = 0;
        // What counts is the attempt that got in; a client that is refused dials again.
        loop {
            let first = shared.confirmed.load(Ordering::SeqCst);
            let opening = open(Dial::new(address).connect().await?, &[&request]).await?;
            let last = shared.written.load(Ordering::SeqCst);
            match opening {
                Opening::Open(connection) => {
                    let arrival = Arrival { user, first, last, refusals, _connection: connection };
                    shared.arrivals.lock().expect("nobody panics with it").push(arrival);
                    break;
                }
                Opening::Refused(answer) => {
                    ensure!(answer.status == 421, "{user} was answered {}", answer.status);
                    ensure!(first != last, "{user} was refused although no ring was changing");
                    refusals += 1;
                }
            }
        }
    }
    Ok(())
}

/// Asks the gateways where everybody is: all have to come to where the last ring has them.
fn judge(fleet: &Fleet<'_>, rings: &[Ring], sizes: &[usize], arrivals: &[Arrival]) -> Result<Outcome> {
    let mut rows: Vec<Row> = Vec::new();
    for (place, size) in sizes.iter().enumerate() {
        if place > 0 {
            rows.push(Row { what: format!("{} → {size} nodes", sizes[place - 1]), ..Row::default() });
        }
        rows.push(Row { what: format!("{size} node{}", if *size == 1 { "" } else { "s" }), ..Row::default() });
    }
    let socket = fleet.socket(0);
    fleet
        .lab
        .router()
        .block_on(async {
            for arrival in arrivals {
                let Arrival { user, first, last, refusals, _connection } = arrival;
                let owner = rings.last().context("no rings")?.owner(user.as_bytes()).number;
                let since = Instant::now();
                let holders = loop {
                    let found = control::sessions(&socket, user, false).await?;
                    let holders = found.nodes.iter().filter(|node| !node.sessions.is_empty());
                    let holders: Vec<_> = holders.filter_map(|node| node.number).collect();
                    if let Some(error) = found.nodes.iter().find_map(|node| node.error.as_ref()) {
                        anyhow::bail!("a node does not say who is there: {error}");
                    }
                    // On its way it may be seen twice or not at all.
                    if holders == [owner] || since.elapsed() > LIMIT {
                        break holders;
                    }
                    tokio::time::sleep(LOOK).await;
                };
                // Rows take turns: a size, the change to the next one.
                let row = &mut rows[if first == last { 2 * *first as usize } else { 2 * *last as usize - 1 }];
                row.connections += 1;
                row.dialled_again += refusals;
                if holders == [owner] {
                    row.on_owner += 1;
                } else {
                    row.misrouted += 1;
                }
            }
            anyhow::Ok(())
        })
        .context("looking for the newcomers")?;
    Ok(Outcome { rows })
}

// === impl Outcome ===

impl Outcome {
    /// Whether everybody is where they belong.
    pub fn is_right(&self) -> bool {
        self.rows.iter().all(|row| row.misrouted == 0 && row.on_owner == row.connections)
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Resized under load   new connections   on their owner   dialled again   misrouted")?;
        for Row { what, connections, on_owner, dialled_again, misrouted } in &self.rows {
            writeln!(f, "  {what:<18} {connections:>15}   {on_owner:>14}   {dialled_again:>13}   {misrouted:>9}")?;
        }
        Ok(())
    }
}
