//! Many agents and one store: agents crash, lose the store, see everything late and propose at the same time, each by a
//! clock of its own. A failure prints its seed; `RINGSTEER_SEED=<seed>` replays it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    membership::{Event, Order, pace::Jitter},
    ring::{Algorithm, Digest},
    seeds::{Place, seeds},
};

const GRACE: Duration = Duration::from_secs(10);
const TERMS: NewRing = NewRing { algorithm: Algorithm::OpenIm, allow_identities_without_port: false, grace_s: 10 };
/// How long an announcement outlives its agent.
const LEASE: Duration = Duration::from_secs(5);

/// What agents hear of the store, in order.
#[derive(Clone)]
enum Change {
    Ring(Option<RingObject>),
    Here(Candidate),
    Gone(Identity),
}

/// A store as etcd is one: a revision for the ring, announcements that end with their lease, and a history that each
/// agent reads at its own pace.
#[derive(Default)]
struct Store {
    ring: Option<RingObject>,
    ring_revision: usize,
    members: BTreeMap<Identity, Candidate>,
    /// When announcements end whose agents do not renew them.
    leases: BTreeMap<Identity, Duration>,
    /// Since when there is no announcement of one that was there before.
    absent_since: BTreeMap<Identity, Duration>,
    history: Vec<Change>,
    /// Who had a number last.
    holders: BTreeMap<MemberNumber, Identity>,
    accepted: usize,
    refused: usize,
    /// Members removed by agents that had seen everything.
    removed: usize,
}

struct Agent {
    identity: Identity,
    addresses: [NodeAddress; 2],
    address: usize,
    state: MemberState,
    alive: bool,
    connected: bool,
    /// What its clock shows at the simulation's beginning.
    clock: Duration,
    reconciler: Reconciler,
    order: Order,
    told: Option<Ring>,
    ring: Option<RingObject>,
    ring_revision: usize,
    members: BTreeMap<Identity, Candidate>,
    /// How much of the history it has read.
    read: usize,
    proposal: Option<Proposal>,
    again: Option<Duration>,
}

struct Simulation {
    now: Duration,
    random: Jitter,
    store: Store,
    agents: Vec<Agent>,
    /// Whether the store may lose what it held.
    losses: bool,
}

// === impl Store ===

impl Store {
    fn announce(&mut self, candidate: Candidate) {
        self.absent_since.remove(&candidate.identity);
        self.leases.remove(&candidate.identity);
        self.history.push(Change::Here(candidate.clone()));
        self.members.insert(candidate.identity.clone(), candidate);
    }

    fn expire_leases(&mut self, now: Duration) {
        let over: Vec<_> =
            self.leases.iter().filter(|(_, ends)| **ends <= now).map(|(identity, _)| identity.clone()).collect();
        for identity in over {
            let ended = self.leases.remove(&identity).unwrap();
            self.members.remove(&identity);
            self.absent_since.insert(identity.clone(), ended);
            self.history.push(Change::Gone(identity));
        }
    }

    /// The transaction that puts a proposal in place of the ring of that revision. What every ring must be is checked
    /// here.
    fn propose(&mut self, proposal: &Proposal, (revision, read): (usize, usize), now: Duration, losses: bool) {
        if self.ring_revision != revision || proposal.gone.iter().any(|identity| self.members.contains_key(identity)) {
            self.refused += 1;
            return;
        }
        let ring = proposal.object.ring();
        assert!(ring.members().iter().any(|member| member.state == MemberState::Active));
        if let Some(old) = self.ring.as_ref().map(RingObject::ring)
            && !losses
        {
            assert!(ring.epoch() > old.epoch(), "epoch {} was put in place of {}", ring.epoch(), old.epoch());
            for member in old.members() {
                let identity = &member.identity;
                match ring.members().iter().find(|new| new.identity == *identity) {
                    Some(new) => assert_eq!(new.number, member.number, "{identity} was renumbered"),
                    None => {
                        let since = self.absent_since.get(identity);
                        let gone_for =
                            now - *since.unwrap_or_else(|| panic!("{identity} was removed while it was there"));
                        // Who sees late can miss that somebody was back for a moment.
                        if read == self.history.len() {
                            assert!(gone_for >= GRACE, "{identity} was removed after {gone_for:?}");
                            self.removed += 1;
                        }
                    }
                }
            }
        }
        for member in ring.members() {
            let before = self.holders.insert(member.number, member.identity.clone());
            assert!(
                losses || before.is_none_or(|before| before == member.identity),
                "number {} was given again",
                member.number
            );
        }
        self.accepted += 1;
        self.put(Some(proposal.object.clone()));
    }

    fn put(&mut self, ring: Option<RingObject>) {
        self.ring_revision += 1;
        self.ring = ring.clone();
        self.history.push(Change::Ring(ring));
    }
}

// === impl Agent ===

impl Agent {
    fn new(index: u8, random: &mut Jitter) -> Self {
        let address = |last| NodeAddress::new([198, 51, 100, last].into()).unwrap();
        Self {
            identity: Identity::new(format!("gw-{index}:88")).unwrap(),
            addresses: [address(index + 1), address(index + 101)],
            address: 0,
            state: MemberState::Active,
            alive: false,
            connected: false,
            clock: random.up_to(Duration::from_secs(1_000_000)),
            reconciler: Reconciler::new(TERMS),
            order: Order::default(),
            told: None,
            ring: None,
            ring_revision: 0,
            members: BTreeMap::new(),
            read: 0,
            proposal: None,
            again: None,
        }
    }

    fn candidate(&self) -> Candidate {
        Candidate { identity: self.identity.clone(), address: self.addresses[self.address], state: self.state }
    }

    /// A new process, that knows the ring that was in force.
    fn start(&mut self) {
        self.alive = true;
        self.reconciler = Reconciler::new(TERMS);
        self.order = Order::default();
        if let Some(ring) = &self.told {
            self.reconciler.remember(ring.clone());
        }
    }

    /// Reads everything there is, and announces itself.
    fn connect(&mut self, store: &mut Store) {
        self.connected = true;
        self.reconciler.lost_sight();
        store.announce(self.candidate());
        self.ring = store.ring.clone();
        self.ring_revision = store.ring_revision;
        self.members = store.members.clone();
        self.read = store.history.len();
    }

    /// Its process or its way to the store ends.
    fn leave(&mut self, store: &mut Store, now: Duration) {
        self.connected = false;
        self.proposal = None;
        self.again = None;
        store.leases.insert(self.identity.clone(), now + LEASE);
    }

    /// Reads some more of the history.
    fn read(&mut self, store: &Store, changes: usize) {
        for change in store.history.iter().skip(self.read).take(changes) {
            self.read += 1;
            match change.clone() {
                Change::Ring(ring) => {
                    self.ring = ring;
                    self.ring_revision += 1;
                }
                Change::Here(candidate) => {
                    self.reconciler.seen(&candidate.identity);
                    self.members.insert(candidate.identity.clone(), candidate);
                }
                Change::Gone(identity) => drop(self.members.remove(&identity)),
            }
        }
    }

    fn look(&mut self, now: Duration) {
        if let Some(Event::Ring(ring)) = self.ring.as_ref().and_then(|object| self.order.newer(object.ring())) {
            // One that was started anew hears an older ring first if the store has lost the newer one, and stays with
            // that.
            if self.told.as_ref().is_none_or(|told| told.epoch() < ring.epoch()) {
                self.told = Some(ring);
            }
        }
        let members: Vec<_> = self.members.values().cloned().collect();
        let outlook = self.reconciler.look(self.ring.as_ref(), &members, self.clock + now);
        assert_eq!(outlook.complaints, [""; 0]);
        self.proposal = outlook.proposal;
        self.again = outlook.again.map(|again| again - self.clock);
    }
}

// === impl Simulation ===

impl Simulation {
    fn new(seed: u64, losses: bool) -> Self {
        let mut random = Jitter::seeded(seed);
        let count = 1 + random.up_to(Duration::from_nanos(7)).as_nanos() as u8;
        let agents = (0..count).map(|index| Agent::new(index, &mut random)).collect();
        Self { now: Duration::ZERO, random, store: Store::default(), agents, losses }
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        (self.random.up_to(Duration::from_secs(limit)).as_secs().min(limit - 1)) as usize
    }

    fn step(&mut self) {
        let pause = Duration::from_millis([0, 0, 50, 1_000, 4_000][self.below(5)]);
        self.now += self.random.up_to(pause);
        self.store.expire_leases(self.now);
        let (what, index) = (self.below(100), self.below(self.agents.len()));
        let Self { now, store, agents, losses, .. } = self;
        let (now, agent) = (*now, &mut agents[index]);
        match what {
            0..50 if agent.connected => {
                agent.read(store, 1 + what % 3);
                agent.look(now);
            }
            50..80 => {
                if let Some(proposal) = agent.proposal.take() {
                    store.propose(&proposal, (agent.ring_revision, agent.read), now, *losses);
                }
            }
            80..84 if agent.connected => agent.leave(store, now),
            84..88 if agent.alive => {
                if agent.connected {
                    agent.leave(store, now);
                }
                agent.alive = false;
            }
            88..92 if agent.alive && !agent.connected => agent.connect(store),
            92..96 if !agent.alive => {
                agent.address = what % 2;
                agent.state = MemberState::Active;
                agent.start();
                agent.connect(store);
            }
            96..98 if agent.connected => {
                agent.state = if what == 96 { MemberState::Draining } else { MemberState::Active };
                store.announce(agent.candidate());
            }
            98 if *losses => {
                // Nothing is left, or an old backup.
                let rings: Vec<_> = store
                    .history
                    .iter()
                    .filter_map(|change| match change {
                        Change::Ring(ring) => Some(ring.clone()),
                        _ => None,
                    })
                    .collect();
                let old = self.below(rings.len() + 1);
                self.store.put(rings.into_iter().nth(old).flatten());
            }
            _ => {}
        }
    }

    /// Everybody is there and nothing goes wrong any more: until nobody has anything to propose.
    fn settle(&mut self) {
        let Self { now, store, agents, losses, .. } = self;
        for agent in agents.iter_mut() {
            if !agent.alive {
                agent.start();
            }
            if !agent.connected {
                agent.connect(store);
            }
        }
        for _ in 0..1_000 {
            store.expire_leases(*now);
            let mut busy = !store.leases.is_empty();
            for agent in agents.iter_mut() {
                agent.read(store, usize::MAX);
                agent.look(*now);
                if let Some(proposal) = agent.proposal.take() {
                    store.propose(&proposal, (agent.ring_revision, agent.read), *now, *losses);
                    busy = true;
                }
                busy |= agent.again.is_some();
            }
            if !busy {
                return;
            }
            *now += Duration::from_millis(500);
        }
        panic!("they never agree");
    }

    fn check(&self) {
        let ring = self.store.ring.as_ref().expect("somebody is there").ring();
        let members: BTreeSet<_> = ring.members().iter().map(|member| (&member.identity, member.address)).collect();
        let there: BTreeSet<_> =
            self.agents.iter().map(|agent| (&agent.identity, agent.addresses[agent.address])).collect();
        assert_eq!(members, there);
        let told: Vec<(Epoch, Digest)> = self
            .agents
            .iter()
            .map(|agent| agent.told.as_ref().expect("a ring"))
            .map(|ring| (ring.epoch(), ring.digest()))
            .collect();
        assert_eq!(told, vec![(ring.epoch(), ring.digest()); told.len()]);
    }
}

/// What happened over many seeds: proposals taken, refused, and members removed.
fn run(losses: bool) -> [usize; 3] {
    let mut counts = [0; 3];
    for seed in seeds(300) {
        let mut place = Place { seed, step: 0 };
        let mut simulation = Simulation::new(seed, losses);
        for step in 0..600 {
            place.step = step;
            simulation.step();
        }
        simulation.settle();
        simulation.check();
        let Store { accepted, refused, removed, .. } = simulation.store;
        for (count, more) in counts.iter_mut().zip([accepted, refused, removed]) {
            *count += more;
        }
    }
    println!("proposals taken {}, refused {}; members removed {}", counts[0], counts[1], counts[2]);
    counts
}

#[test]
fn all_come_to_one_ring_and_nobody_moves_before_the_grace_period_ends() {
    assert!(run(false).iter().all(|&count| count > 0));
}

#[test]
fn all_come_to_one_ring_after_the_store_has_lost_some() {
    assert!(run(true)[..2].iter().all(|&count| count > 0));
}
