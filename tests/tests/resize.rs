//! A hundred ring changes under load: each new connection and push lands on its owner by a ring that was in force while
//! it was made, never anywhere else. Keeps the promise *one ring*.
//!
//! Servers that are not ours say on which node a connection has landed, whatever anybody thinks of that; gateways, who
//! check whether they own a user, are dialled beside them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use ringsteer::ring::{Epoch, MemberState, Ring};
use ringsteer_tests::{
    client::{Dial, Login, Opening, Push, Shape, open},
    fleet::{Fleet, Options},
    lab::{Family, Host, Lab},
    on_each_family, seed,
    status::follows,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

on_each_family!(every_new_connection_lands_on_an_owner_of_its_time);

/// Ring changes.
const CHANGES: u64 = 100;

const NODES: usize = 4;

/// How many dial at the same time.
const DIALLERS: u64 = 6;

/// Connections that each ring has to see while it alone is in force.
const SETTLED: u64 = 6;

/// How long the fleet may take to follow, and the load to show it.
const LIMIT: Duration = Duration::from_secs(60);

/// Ports of the services that are not ours: keyed by `sendID` and by `recvID`.
const CONNECTIONS: u16 = 9_001;
/// See [`CONNECTIONS`].
const PUSHES: u16 = 9_002;

/// The rings of this run, and which of them can be in force.
struct Times {
    /// Ring of epoch n at n − 1.
    rings: RwLock<Vec<Ring>>,
    /// The epoch that all nodes have confirmed. None before it is in force any more.
    confirmed: AtomicU64,
    /// The last epoch that a node may have heard of.
    written: AtomicU64,
    /// Connections that landed while one ring alone was in force, by its epoch.
    settled: RwLock<BTreeMap<u64, u64>>,
    /// Connections whose owner had changed since they were begun, or would before they were done: how many landed with
    /// the old one, how many with the new one.
    torn: [AtomicU64; 2],
    /// Those that were not answered: their node had left the ring.
    orphaned: AtomicU64,
    /// Gateways that were no owner any more, or not yet.
    refused: AtomicU64,
    done: AtomicBool,
}

/// Where something has landed.
enum Landing {
    /// On the node of this number.
    Node(u16),
    /// With a gateway that owns the user.
    Owner,
    /// With a gateway that does not; this is who does, to its mind.
    Elsewhere(String),
}

// === impl Times ===

impl Times {
    fn ring(&self, epoch: u64) -> Ring {
        self.rings.read().expect("nobody panics with it")[epoch as usize - 1].clone()
    }

    /// Judges where `user` has landed, by the rings from the one confirmed when it was begun to the last written when
    /// it was over.
    fn judge(&self, user: &str, lowest: u64, highest: u64, landing: Result<Landing>) -> Result<()> {
        let rings: Vec<Ring> = (lowest..=highest).map(|epoch| self.ring(epoch)).collect();
        let owners: Vec<_> = rings.iter().map(|ring| ring.owner(user.as_bytes())).collect();
        let numbers: Vec<u16> = owners.iter().map(|owner| owner.number.get()).collect();
        let settled = lowest == highest;
        match landing {
            Ok(Landing::Node(node)) => {
                ensure!(numbers.contains(&node), "{user} is on node {node}; owners were {numbers:?} from {lowest} on");
                let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
                if first != last {
                    self.torn[usize::from(node != first)].fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Landing::Owner) => {}
            Ok(Landing::Elsewhere(owner)) => {
                ensure!(!settled, "{user} was refused in favour of {owner} while ring {lowest} alone was in force");
                let known = owners.iter().any(|one| one.identity.as_str() == owner);
                ensure!(
                    known,
                    "{user} was refused in favour of {owner}, which owns it by none of the rings {lowest}–{highest}"
                );
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                // Its owner left the ring with the connection on it; everybody else is to be answered.
                let left = owners
                    .iter()
                    .enumerate()
                    .any(|(index, owner)| rings[index..].iter().any(|later| later.member(owner.number).is_none()));
                if !left {
                    return Err(error.context(format!("{user}, rings {lowest}–{highest}, owners {numbers:?}")));
                }
                self.orphaned.fetch_add(1, Ordering::Relaxed);
            }
        }
        if settled {
            *self.settled.write().expect("nobody panics with it").entry(lowest).or_default() += 1;
        }
        Ok(())
    }

    fn seen(&self, epoch: u64) -> u64 {
        self.settled.read().expect("nobody panics with it").get(&epoch).copied().unwrap_or(0)
    }
}

/// The next ring: every node but the first, which is the edge, comes, goes or drains as the dice fall.
fn next_ring(first: &Ring, epoch: u64, rng: &mut Rng) -> Result<Ring> {
    let mut members = first.members().to_vec();
    members[1..].iter_mut().for_each(|member| {
        member.state = if rng.u8(..4) == 0 { MemberState::Draining } else { MemberState::Active };
    });
    members[0].state =
        if members[1].state == MemberState::Active && rng.bool() { MemberState::Draining } else { MemberState::Active };
    // The second stays, so that the edge can drain; of the others, one in four is away.
    let mut place = 0;
    members.retain(|_| {
        place += 1;
        place <= 2 || rng.u8(..4) != 0
    });
    Ok(Ring::new(Epoch(epoch), first.algorithm(), members)?)
}

/// A server that is not ours: answers each request with the number of its node.
async fn serve(host: &Host, address: SocketAddr, number: usize) -> Result<()> {
    let (report, listening) = tokio::sync::oneshot::channel();
    host.spawn(async move {
        let listener = TcpListener::bind(address).await.expect("the virtual address is on lo of every node");
        let _ = report.send(());
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await? == 0 {
                        break;
                    }
                }
                let body = number.to_string();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    })?;
    listening.await.context("the server ended")
}

/// Dials one way or the other, and says where that led.
async fn land(rng: &mut Rng, user: &str, websocket: SocketAddr) -> Result<Landing> {
    let [connections, pushes] = [CONNECTIONS, PUSHES].map(|port| SocketAddr::new(websocket.ip(), port));
    let answer = match rng.u8(..4) {
        0 => Push::text(user, "").send(Dial::new(pushes).connect().await?).await?,
        1 => match open(Dial::new(websocket).connect().await?, &[&Login::new(user).request(Shape::Native)]).await? {
            Opening::Open(_) => return Ok(Landing::Owner),
            Opening::Refused(answer) => {
                ensure!(answer.status == 421, "the gateway answers {}", answer.status);
                let owner = answer.header("ringsteer-owner").context("the gateway does not say who owns the user")?;
                return Ok(Landing::Elsewhere(owner.to_owned()));
            }
        },
        _ => {
            let request = Login::new(user).request(Shape::Wasm);
            open(Dial::new(connections).connect().await?, &[&request]).await?.refusal()?
        }
    };
    Ok(Landing::Node(std::str::from_utf8(&answer.body)?.parse()?))
}

/// Dials until told to stop.
async fn dial(times: Arc<Times>, websocket: SocketAddr, seed: u64) -> Result<u64> {
    let mut rng = Rng::with_seed(seed);
    let mut dialled = 0;
    while !times.done.load(Ordering::SeqCst) {
        let user = format!("resize-{}", rng.u32(..));
        let lowest = times.confirmed.load(Ordering::SeqCst);
        let landing = land(&mut rng, &user, websocket).await;
        let highest = times.written.load(Ordering::SeqCst);
        times.judge(&user, lowest, highest, landing)?;
        dialled += 1;
    }
    Ok(dialled)
}

fn every_new_connection_lands_on_an_owner_of_its_time(family: Family) -> Result<()> {
    let seed = seed::from_environment();
    let lab = Lab::builder().nodes(NODES).clients(1).build()?;
    let service = |name: &str, port, parameter| {
        let address = SocketAddr::new(lab.virtual_address(family), port);
        format!("[[services]]\nname = \"{name}\"\naddress = \"{address}\"\nparameter = \"{parameter}\"\n\n")
    };
    let extra = service("connections", CONNECTIONS, "sendID") + &service("pushes", PUSHES, "recvID");
    let fleet = Fleet::start(&lab, &Options { ring_file: true, extra, ..Options::all(family) })?;
    lab.router().block_on(async {
        for (index, node) in lab.nodes().iter().enumerate() {
            for port in [CONNECTIONS, PUSHES] {
                serve(node, SocketAddr::new(lab.virtual_address(family), port), index + 1).await?;
            }
        }
        for node in 0..NODES {
            fleet.wait_for_status(node, follows(&fleet.ring)).await?;
        }
        anyhow::Ok(())
    })?;

    let times = Arc::new(Times {
        rings: RwLock::new(vec![fleet.ring.clone()]),
        confirmed: AtomicU64::new(1),
        written: AtomicU64::new(1),
        settled: RwLock::default(),
        torn: Default::default(),
        orphaned: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        done: AtomicBool::new(false),
    });
    let diallers = (0..DIALLERS)
        .map(|index| lab.client(0).spawn(dial(times.clone(), fleet.websocket(), seed.wrapping_add(index + 1))))
        .collect::<Result<Vec<_>>>()?;
    let mut rng = Rng::with_seed(seed);
    let changed = lab.router().block_on(async {
        for epoch in 2..=CHANGES + 1 {
            let ring = next_ring(&fleet.ring, epoch, &mut rng)?;
            times.rings.write().expect("nobody panics with it").push(ring.clone());
            times.written.store(epoch, Ordering::SeqCst);
            fleet.give_ring_to_all(&ring)?;
            for node in 0..NODES {
                fleet.wait_for_status(node, follows(&ring)).await?;
            }
            times.confirmed.store(epoch, Ordering::SeqCst);
            let since = Instant::now();
            while times.seen(epoch) < SETTLED {
                if diallers.iter().any(tokio::task::JoinHandle::is_finished) {
                    // What it has to say comes below.
                    return Ok(());
                }
                ensure!(since.elapsed() < LIMIT, "ring {epoch} has seen {} connections only", times.seen(epoch));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    });
    times.done.store(true, Ordering::SeqCst);
    let mut dialled = 0;
    for dialler in diallers {
        dialled += lab.router().block_on(dialler)??;
    }
    changed?;
    let [old, new] = [&times.torn[0], &times.torn[1]].map(|count| count.load(Ordering::Relaxed));
    let [orphaned, refused] = [&times.orphaned, &times.refused].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{dialled} dialled; of those whose owner changed meanwhile {old} with the old and {new} with the new one; \
         {orphaned} on a node that left; {refused} refused by a gateway"
    );
    if old + new == 0 {
        bail!("no connection was made while its owner changed: nothing was shown about changes");
    }
    Ok(())
}
