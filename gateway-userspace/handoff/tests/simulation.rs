//! A fleet by chance: hundreds of sessions on three to six nodes, rings that overtake each other, messages that are lost,
//! repeated and late, links that break, gateways that end and begin again, clients that come and go, pushes everywhere.
//! Longer and wider than the model can be, and not complete. The state machine is the real one; what must be true at every
//! moment, and at the end, is the model's.
//!
//! A failure prints seed and step; `RINGSTEER_SEED=<seed>` replays it, and `RINGSTEER_SIMULATIONS=<count>` runs so many
//! seeds.

mod world;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use ringsteer_handoff::{
    Event, Limits,
    name::{Gateway, NodeId},
};
use world::{Network, Node, Packet, SocketState, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 6;

/// Steps of one of them.
const STEPS: u64 = 6_000;

const USERS: usize = 120;

/// Rings that come into being; the last comes everywhere at the end.
const RINGS: usize = 16;

/// Clients that are there at a time, at most.
const CLIENTS: usize = 300;

/// For how long two gateways may be out of each other's reach: shorter than what the protocol gives up after.
const APART_MAX: Duration = Duration::from_secs(3);

/// A small generator (SplitMix64): the same numbers from the same seed, everywhere.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % limit as u64).expect("less than it was")
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    /// One of them, if there is any.
    fn of<T>(&mut self, choices: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let count = choices.len();
        let mut choices = choices;
        if count == 0 { None } else { choices.nth(self.below(count)) }
    }
}

struct Simulation {
    world: World,
    chance: Chance,
    /// Gateways that are out of each other's reach, and until when.
    apart: BTreeMap<(Gateway, Gateway), Duration>,
    /// What happened, to see that it did.
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    crashes: usize,
    lost: usize,
    repeated: usize,
    apart: usize,
    failed: usize,
    came: usize,
    went: usize,
}

/// Says where it was if something panics.
struct Place {
    seed: u64,
    step: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in step {}; RINGSTEER_SEED={} replays it", self.step, self.seed);
        }
    }
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let nodes = 3 + chance.below(4);
        let mut rings = Vec::new();
        for _ in 0..RINGS {
            // Some of the nodes own users by this ring; which may be one alone.
            let owners = 1 + chance.below(nodes);
            let first = chance.below(nodes);
            let ring = (0..USERS).map(|_| {
                let index = (first + chance.below(owners)) % nodes;
                NodeId(u16::try_from(index).expect("few nodes") + 1)
            });
            rings.push(ring.collect());
        }
        let limits = Limits {
            moves_per_s: chance.one_in(2).then_some(200),
            concurrent: 24,
            move_goal: seed.is_multiple_of(2).then_some(Duration::from_millis(5)),
            ..Limits::default()
        };
        let world = World::new(nodes, rings, limits, true);
        Self { world, chance, apart: BTreeMap::new(), tally: Tally::default() }
    }

    fn nodes(&self) -> usize {
        self.world.nodes.len()
    }

    fn runs(&self, index: usize) -> bool {
        self.world.nodes[index].handoff.is_some()
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..30 => self.deliver(),
            30..50 => self.agent(),
            50..64 => self.restore(),
            64..72 => self.pass(),
            72..80 => self.push(),
            80..88 => self.connect(),
            88..90 => self.disconnect(),
            90..92 => self.ring(),
            92..94 => self.claim(),
            94 => self.crash(),
            95 | 96 => self.start(),
            97 => self.part(),
            _ => self.notice(),
        }
    }

    /// Some messages arrive, in any order; some twice, some never.
    fn deliver(&mut self) {
        for _ in 0..8 {
            let Network::Wild(packets) = &self.world.network else { unreachable!("until the end") };
            let Some(packet) = self.chance.of(packets.iter()).cloned() else { return };
            let pair = (packet.from.min(packet.to), packet.from.max(packet.to));
            if self.apart.contains_key(&pair) {
                continue;
            }
            let fate = self.chance.below(20);
            if fate != 0
                && let Network::Wild(packets) = &mut self.world.network
            {
                packets.remove(&packet);
            }
            match fate {
                0 => self.tally.repeated += 1,
                1 => {
                    self.tally.lost += 1;
                    continue;
                }
                _ => {}
            }
            self.arrive(&packet);
        }
    }

    fn arrive(&mut self, packet: &Packet) {
        let index = self.world.index(packet.to.node);
        if self.runs(index) {
            self.world.arrive(packet);
        }
    }

    fn agent(&mut self) {
        let index = self.chance.below(self.nodes());
        for _ in 0..1 + self.chance.below(8) {
            self.world.agent(index);
        }
    }

    fn restore(&mut self) {
        let index = self.chance.below(self.nodes());
        for _ in 0..4 {
            let restoring = &self.world.nodes[index].restoring;
            let Some(id) = self.chance.of(restoring.keys().copied()) else { return };
            let works = !self.chance.one_in(20);
            self.tally.failed += usize::from(!works);
            self.world.restore(index, id, works);
        }
    }

    /// Time passes, and everybody notices.
    fn pass(&mut self) {
        self.world.now += Duration::from_millis(self.chance.below(150) as u64);
        let now = self.world.now;
        let over: Vec<_> = self.apart.iter().filter(|&(_, &until)| until <= now).map(|(&pair, _)| pair).collect();
        over.into_iter().for_each(|(one, other)| self.meet(one, other));
        for index in 0..self.nodes() {
            let handoff = self.world.nodes[index].handoff.as_ref();
            if handoff.is_some_and(|handoff| handoff.deadline() <= now) {
                self.world.tick(index);
            }
        }
    }

    fn push(&mut self) {
        let (index, user) = (self.chance.below(self.nodes()), self.chance.below(USERS));
        if self.runs(index) {
            self.world.push(index, user);
        }
    }

    fn connect(&mut self) {
        let here = self.world.clients.values().filter(|client| !client.over && !client.excused).count();
        if here >= CLIENTS {
            return;
        }
        for _ in 0..4 {
            let (node, user) = (self.chance.below(self.nodes()), self.chance.below(USERS));
            // As the edges do: by the ring of their node.
            let ring = usize::try_from(self.world.nodes[node].epoch).expect("few rings") - 1;
            let owner = self.world.index(self.world.rings[ring][user]);
            if self.runs(owner) {
                self.world.connect(owner, user, None);
                self.tally.came += 1;
            }
        }
    }

    fn disconnect(&mut self) {
        let index = self.chance.below(self.nodes());
        let sockets = self.world.nodes[index].sockets.iter();
        let active: Vec<_> =
            sockets.filter(|(_, socket)| socket.state == SocketState::Active).map(|(&session, _)| session).collect();
        if let Some(session) = self.chance.of(active.into_iter()) {
            self.world.disconnect(index, session);
            self.tally.went += 1;
        }
    }

    /// A node hears of a later ring, maybe of the last but two.
    fn ring(&mut self) {
        let index = self.chance.below(self.nodes());
        let epoch = self.world.nodes[index].epoch + 1 + self.chance.below(2) as u64;
        // The last one is for the end.
        if epoch < RINGS as u64 {
            if self.runs(index) {
                self.world.ring(index, epoch);
            } else {
                self.world.nodes[index].epoch = epoch;
            }
        }
    }

    fn claim(&mut self) {
        let index = self.chance.below(self.nodes());
        for (id, from) in self.world.nodes[index].claims.clone() {
            self.world.claim(index, id, from);
        }
        for other in (0..self.nodes()).filter(|&other| other != index) {
            let Node { me, forgotten, .. } = &self.world.nodes[other];
            let lives: BTreeSet<_> = forgotten.values().copied().collect();
            let ended = lives.into_iter().map(|incarnation| Gateway { incarnation, ..*me });
            for ended in ended.collect::<Vec<_>>() {
                self.world.claim_no_more(index, ended);
            }
        }
    }

    fn crash(&mut self) {
        let index = self.chance.below(self.nodes());
        let running = (0..self.nodes()).filter(|&index| self.runs(index)).count();
        if self.runs(index) && running > 2 && self.chance.one_in(3) {
            let me = self.world.nodes[index].me;
            self.apart.retain(|&(one, other), _| one != me && other != me);
            self.world.crash(index);
            self.tally.crashes += 1;
        }
    }

    fn start(&mut self) {
        let index = self.chance.below(self.nodes());
        if !self.runs(index) {
            self.world.start(index);
        }
    }

    /// Somebody hears of an end.
    fn notice(&mut self) {
        let (index, other) = (self.chance.below(self.nodes()), self.chance.below(self.nodes()));
        if index != other && !self.runs(other) {
            let peer = self.world.nodes[other].me;
            self.world.notice(index, peer);
        }
    }

    /// A link breaks: what is under way on it is gone.
    fn part(&mut self) {
        let (index, other) = (self.chance.below(self.nodes()), self.chance.below(self.nodes()));
        let (one, two) = (self.world.nodes[index].me, self.world.nodes[other].me);
        let pair = (one.min(two), one.max(two));
        if index == other || !self.runs(index) || !self.runs(other) || self.apart.contains_key(&pair) {
            return;
        }
        let long = Duration::from_millis(self.chance.below(APART_MAX.as_millis() as usize) as u64);
        self.apart.insert(pair, self.world.now + long);
        if let Network::Wild(packets) = &mut self.world.network {
            packets.retain(|packet| (packet.from.min(packet.to), packet.from.max(packet.to)) != pair);
        }
        self.tally.apart += 1;
        self.world.happen(index, Event::PeerDown { node: two.node });
        self.world.happen(other, Event::PeerDown { node: one.node });
    }

    fn meet(&mut self, one: Gateway, other: Gateway) {
        self.apart.remove(&(one, other));
        for (here, there) in [(one, other), (other, one)] {
            let index = self.world.index(here.node);
            self.world.happen(index, Event::PeerUp { peer: there });
        }
    }

    /// Nothing goes wrong any more, and everything has to come to its end.
    fn end(&mut self) {
        for pair in self.apart.keys().copied().collect::<Vec<_>>() {
            self.meet(pair.0, pair.1);
        }
        for index in 0..self.nodes() {
            if !self.runs(index) {
                self.world.start(index);
            }
        }
        // What is under way is lost with the links it was on.
        let lives: BTreeSet<Gateway> = self.world.nodes.iter().map(|node| node.me).collect();
        let pairs = lives.iter().flat_map(|&from| lives.iter().map(move |&to| (from, to)));
        self.world.network =
            Network::Links(pairs.filter(|(from, to)| from != to).map(|pair| (pair, VecDeque::new())).collect());
        self.world.give_away();
        self.world.settle(Duration::from_secs(1));
        // A rate makes it last longer.
        for _ in 0..500 {
            let mut handoffs = self.world.nodes.iter().filter_map(|node| node.handoff.as_ref());
            if handoffs.all(|handoff| handoff.progress().waiting == 0) {
                break;
            }
            self.world.now += Duration::from_millis(100);
            (0..self.nodes()).for_each(|index| self.world.tick(index));
            self.world.deliver_all();
        }
        self.world.settle(Duration::from_secs(1));
        assert_eq!(self.world.violation, None, "at the end");
        let mut stranded = 0;
        for node in &self.world.nodes {
            let progress = node.handoff.as_ref().expect("all run").progress();
            assert_eq!((progress.waiting, progress.moving), (0, 0), "{}: {progress:?}", node.me);
            assert_eq!((progress.committed, progress.copies), (0, 0), "{}: {progress:?}", node.me);
            assert_eq!(progress.sessions, node.sockets.len());
            stranded += progress.stranded;
        }
        let last = self.world.rings.last().expect("there are rings");
        let astray = self.world.nodes.iter().flat_map(|node| {
            node.sockets.keys().filter(|session| last[self.world.clients[session].user] != node.me.node)
        });
        assert_eq!(astray.count(), stranded, "sessions are where the last ring does not have them");
    }
}

/// Runs one; tells which of what it is about it had.
fn simulate(seed: u64, steps: u64) -> [bool; 8] {
    let mut place = Place { seed, step: 0 };
    let mut simulation = Simulation::new(seed);
    for step in 0..steps {
        place.step = step;
        simulation.step();
        assert_eq!(simulation.world.violation, None);
    }
    simulation.end();
    let Simulation { world, tally, .. } = &simulation;
    let moves: u64 = world.nodes.iter().filter_map(|node| Some(node.handoff.as_ref()?.progress().moved)).sum();
    println!(
        "seed {seed}: {} nodes, {} sessions, {} pushes, {moves} moves by those still alive, {tally:?}, {:?}",
        world.nodes.len(),
        world.clients.len(),
        world.pushes.len(),
        world.seen,
    );
    assert!(world.clients.len() > 100, "too few came");
    let Tally { crashes, lost, repeated, apart, failed, .. } = *tally;
    let seen = world.seen;
    [seen.moved, seen.aborted, seen.granted, crashes > 0, lost > 0, repeated > 0, apart > 0, failed > 0]
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number below 2^64")))
}

#[test]
fn whatever_happens_sessions_have_one_owner_and_pushes_come_once_and_in_order() {
    if let Some(seed) = number("RINGSTEER_SEED") {
        simulate(seed, STEPS);
        return;
    }
    let count = number("RINGSTEER_SIMULATIONS").unwrap_or(SEEDS);
    let had =
        (1..=count).map(|seed| simulate(seed, STEPS)).reduce(|all, one| std::array::from_fn(|at| all[at] || one[at]));
    assert_eq!(
        had,
        Some([true; 8]),
        "moves done and given up, claims granted, ends, messages lost and repeated, links broken, copies failed"
    );
}
