//! The protocol, run through every order of events that a small fleet can meet: rings that reach the nodes one after
//! another, messages that are late, repeated or lost, agents that take their time, gateways that end and begin again,
//! pushes anywhere at any time. It is the state machine itself that is run, not a description of it.
//!
//! The network of the model forgets nothing: whatever was ever sent may arrive at any time, again and again, or never.
//! From the states that are reached, everything is then brought to an end without further faults, and every session has
//! to be somewhere and every push answered.
//!
//! `RINGSTEER_MODEL=large` runs more at a time, for as long as that takes.

mod world;

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Duration,
};

use ringsteer_handoff::{
    Limits,
    message::Message,
    name::{Gateway, MoveId, NodeId},
};
use stateright::{Checker as _, Expectation, HasDiscoveries, Model, Property};
use world::{Mutant, Network, Packet, Violation, World};

/// What can happen, and how often.
#[derive(Clone, Debug)]
struct Fleet {
    nodes: usize,
    /// The user's owner, ring by ring.
    owners: Vec<u16>,
    /// Where sessions of the user begin, before anything else.
    sessions: Vec<usize>,
    /// Sessions that may begin later, each at any node that lets the user in.
    newcomers: usize,
    pushes: usize,
    /// Where pushes may arrive.
    entries: Vec<usize>,
    crashes: usize,
    restarts: usize,
    ticks: usize,
    failures: usize,
    /// Whether a session rests after a move that failed; else it is tried again at once.
    rests: bool,
    /// Most attempts to move a session.
    generations: u32,
    mutant: Option<Mutant>,
    /// Whether gateways hear at once how the others are; else that, too, comes late or never.
    prompt: bool,
    /// Whether messages arrive again and again; else late, in any order, or never, but once.
    repeats: bool,
    /// Of so many states, one is brought to an end.
    end_one_in: u64,
}

/// What is left of that.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    world: World,
    newcomers: usize,
    pushes: usize,
    crashes: usize,
    restarts: usize,
    ticks: usize,
    failures: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Ring(usize),
    Arrives(Box<Packet>),
    Agent(usize),
    Restore(usize, MoveId),
    RestoreFails(usize, MoveId),
    Claim(usize, MoveId, Gateway),
    Crash(usize),
    Start(usize),
    Notice(usize, Gateway),
    Tick(usize),
    Push(usize),
    Connect(usize),
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "violation: {:?}", self.world.violation)?;
        for node in &self.world.nodes {
            let runs = if node.handoff.is_some() { "" } else { " (ended)" };
            writeln!(
                f,
                "  {}{runs} ring {} sockets {:?} entries {:?} requests {:?}",
                node.me, node.epoch, node.sockets, node.entries, node.requests
            )?;
        }
        writeln!(f, "  clients {:?}\n  pushes {:?}", self.world.clients, self.world.pushes)
    }
}

impl Fleet {
    fn world(&self) -> World {
        let zero = Duration::ZERO;
        let long = Duration::from_secs(1000);
        // Time stands still. What repeats or gives up soon does so at any tick; what waits long never does.
        let limits = Limits {
            moves_per_s: None,
            move_goal: None,
            offer_limit: zero,
            copy_limit: long,
            // Who hears at once what is said and says it again at once never stops talking.
            retry: if self.prompt { long } else { zero },
            pause_after_failure: if self.rests { long } else { zero },
            attempts: 2,
            memory: long,
            push_limit: long,
            force_limit: long,
            unreachable_limit: long,
            ..Limits::default()
        };
        let rings = self.owners.iter().map(|&owner| vec![NodeId(owner)]).collect();
        let mut world = World::new(self.nodes, rings, limits, true);
        world.mutant = self.mutant;
        for &index in &self.sessions {
            world.connect(index, 0, None);
        }
        world
    }

    fn counts_down(&self, mut state: State, step: &Step) -> Option<State> {
        let State { world, newcomers, pushes, crashes, restarts, ticks, failures } = &mut state;
        match step {
            Step::Ring(index) => world.ring(*index, world.nodes[*index].epoch + 1),
            Step::Arrives(packet) => {
                if let Network::Wild(packets) = &mut world.network
                    && (!self.repeats || matches!(packet.message, Message::State(_)))
                {
                    packets.remove(packet);
                }
                world.arrive(packet);
            }
            Step::Agent(index) => world.agent(*index),
            Step::Restore(index, id) => world.restore(*index, *id, true),
            Step::RestoreFails(index, id) => {
                *failures -= 1;
                world.restore(*index, *id, false);
            }
            Step::Claim(index, id, from) => world.claim(*index, *id, *from),
            Step::Crash(index) => {
                *crashes -= 1;
                world.crash(*index);
            }
            Step::Start(index) => {
                *restarts -= 1;
                world.start(*index);
            }
            Step::Notice(index, peer) => world.notice(*index, *peer),
            Step::Tick(index) => {
                *ticks -= 1;
                world.tick(*index);
            }
            Step::Push(index) => {
                *pushes -= 1;
                world.push(*index, 0);
            }
            Step::Connect(index) => {
                *newcomers -= 1;
                world.connect(*index, 0, None);
            }
        }
        while self.prompt
            && let Network::Wild(packets) = &mut world.network
            && let Some(packet) = packets.iter().find(|packet| matches!(packet.message, Message::State(_))).cloned()
        {
            packets.remove(&packet);
            world.arrive(&packet);
        }
        Some(state)
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let &Self { newcomers, pushes, crashes, restarts, ticks, failures, .. } = self;
        vec![State { world: self.world(), newcomers, pushes, crashes, restarts, ticks, failures }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let world = &state.world;
        if world.violation.is_some() {
            return;
        }
        if let Network::Wild(packets) = &world.network {
            steps.extend(packets.iter().map(|packet| Step::Arrives(Box::new(packet.clone()))));
        }
        for (index, node) in world.nodes.iter().enumerate() {
            if !node.requests.is_empty() {
                steps.push(Step::Agent(index));
            }
            if node.handoff.is_none() {
                if state.restarts > 0 {
                    steps.push(Step::Start(index));
                }
                continue;
            }
            if node.epoch < self.owners.len() as u64 {
                steps.push(Step::Ring(index));
            }
            for &id in node.restoring.keys() {
                steps.push(Step::Restore(index, id));
                if state.failures > 0 {
                    steps.push(Step::RestoreFails(index, id));
                }
            }
            steps.extend(node.claims.iter().map(|&(id, from)| Step::Claim(index, id, from)));
            if state.crashes > 0 {
                steps.push(Step::Crash(index));
            }
            for other in world.nodes.iter().filter(|other| other.me.node != node.me.node) {
                let ended = other.handoff.is_none() || self.mutant == Some(Mutant::BelieveRumours);
                if ended && !node.noticed.contains(&other.me.incarnation) {
                    steps.push(Step::Notice(index, other.me));
                }
            }
            if state.ticks > 0 {
                steps.push(Step::Tick(index));
            }
            if state.pushes > 0 && self.entries.contains(&index) {
                steps.push(Step::Push(index));
            }
            if state.newcomers > 0 {
                steps.push(Step::Connect(index));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = self.counts_down(last.clone(), &step)?;
        if next == *last {
            return None;
        }
        if next.world.violation.is_none() && self.mutant != Some(Mutant::BelieveRumours) {
            let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&next);
            if hash % self.end_one_in == 0 {
                let mut end = next.world.clone();
                end.settle(Duration::ZERO);
                next.world.violation = end.violation;
            }
        }
        Some(next)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let Network::Wild(packets) = &state.world.network else { return true };
        packets.iter().all(|packet| match &packet.message {
            Message::Offer(offer) => offer.id.generation <= self.generations,
            _ => true,
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn never(name: &'static str, condition: fn(&Fleet, &State) -> bool) -> Property<Fleet> {
            Property { expectation: Expectation::Always, name, condition }
        }
        vec![
            never("one owner", |_, state| state.world.violation != Some(Violation::TwoOwners)),
            never("nobody goes on from an old copy", |_, state| state.world.violation != Some(Violation::StaleOwner)),
            never("no false offline", |_, state| state.world.violation != Some(Violation::FalseOffline)),
            never("no push lost", |_, state| state.world.violation != Some(Violation::PushLost)),
            never("no push duplicated", |_, state| state.world.violation != Some(Violation::PushDuplicated)),
            never("no push reordered", |_, state| state.world.violation != Some(Violation::PushReordered)),
            never("all comes to an end", |_, state| state.world.violation != Some(Violation::Stuck)),
            never("nothing leaks", |_, state| state.world.violation != Some(Violation::Leaked)),
            never("no reset", |_, state| state.world.violation != Some(Violation::Reset)),
            Property::<Self>::sometimes("a session moves", |_, state| state.world.seen.moved),
        ]
    }
}

const BASE: Fleet = Fleet {
    nodes: 2,
    owners: vec![],
    sessions: vec![],
    newcomers: 0,
    pushes: 0,
    entries: vec![],
    crashes: 0,
    restarts: 0,
    ticks: 0,
    failures: 0,
    rests: false,
    generations: 2,
    mutant: None,
    prompt: false,
    repeats: true,
    end_one_in: 16,
};

/// Runs through all states; returns what must not happen and does.
fn run(name: &str, fleet: Fleet) -> Option<Violation> {
    let mutant = fleet.mutant;
    let mut checker = fleet.checker().threads(2);
    if mutant.is_some() {
        checker = checker.finish_when(HasDiscoveries::AnyFailures);
    }
    let checker = checker.spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them different, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    let mut found = None;
    for (property, path) in checker.discoveries() {
        let last = path.last_state().clone();
        if property == "a session moves" {
            continue;
        }
        found = last.world.violation;
        if mutant.is_none() {
            for (state, step) in path.into_vec() {
                eprintln!("{state:?}");
                if let Some(step) = step {
                    eprintln!("==> {step:?}");
                }
            }
            eprintln!("{name}: not {property}");
        }
    }
    if mutant.is_none() && found.is_none() {
        assert!(checker.discovery("a session moves").is_some(), "{name}: nothing ever moves");
    }
    found
}

/// As in the first argument; in the large model as the second says.
fn scaled<T>(small: T, large: T) -> T {
    if std::env::var_os("RINGSTEER_MODEL").is_some_and(|value| value == "large") { large } else { small }
}

#[test]
fn one_move_and_pushes() {
    let fleet = Fleet {
        owners: vec![1, 2],
        sessions: vec![0],
        pushes: scaled(1, 2),
        entries: vec![0, 1],
        ticks: 1,
        failures: 1,
        end_one_in: scaled(16, 4),
        ..BASE
    };
    assert_eq!(run("one move, pushes", fleet), None);
}

#[test]
fn the_ring_changes_back_meanwhile() {
    let fleet = Fleet {
        owners: vec![1, 2, 1],
        sessions: vec![0],
        pushes: scaled(0, 1),
        entries: vec![1],
        ticks: scaled(0, 1),
        end_one_in: scaled(16, 4),
        ..BASE
    };
    assert_eq!(run("there and back", fleet), None);
}

#[test]
fn a_gateway_ends_at_any_moment() {
    let fleet = Fleet {
        owners: vec![1, 2],
        sessions: vec![0],
        pushes: scaled(1, 2),
        entries: vec![1],
        crashes: 1,
        restarts: scaled(0, 1),
        ticks: 1,
        ..BASE
    };
    assert_eq!(run("one end", fleet), None);
}

#[test]
fn a_third_node() {
    let fleet =
        Fleet { nodes: 3, owners: vec![1, 2, 3], sessions: vec![0], pushes: 1, entries: vec![2], prompt: true, ..BASE };
    assert_eq!(run("three nodes", fleet), None);
}

#[test]
fn two_sessions() {
    let fleet = Fleet { owners: vec![1, 2], sessions: vec![0, 0], pushes: 1, entries: vec![1], ..BASE };
    assert_eq!(run("two sessions", fleet), None);
}

/// What a mutant does that must not be done, in the smallest fleet where it shows.
fn finds(mutant: Mutant, fleet: Fleet, violations: &[Violation]) {
    // What it comes to in the end is not looked at: what is wrong has to be seen where it happens.
    let found = run(&format!("{mutant:?}"), Fleet { mutant: Some(mutant), end_one_in: u64::MAX, ..fleet });
    assert!(found.is_some_and(|found| violations.contains(&found)), "the model finds {found:?} in {mutant:?}");
}

#[test]
fn the_model_finds_what_is_broken_on_purpose() {
    use Violation::*;
    let plain = || Fleet { owners: vec![1, 2], sessions: vec![0], ticks: 1, repeats: false, ..BASE };
    finds(Mutant::ActivateOnReady, plain(), &[TwoOwners, StaleOwner]);
    finds(Mutant::ForgetSeen, Fleet { pushes: 1, entries: vec![0], ..plain() }, &[PushDuplicated]);
    finds(Mutant::AlwaysSettled, Fleet { pushes: 1, entries: vec![1], ticks: 0, ..plain() }, &[FalseOffline]);
    let crash = || Fleet { crashes: 1, pushes: 1, entries: vec![0], rests: true, ..plain() };
    finds(Mutant::ResumeBeforeRelease, crash(), &[StaleOwner, TwoOwners]);
    finds(Mutant::GrantEverything, crash(), &[StaleOwner, TwoOwners]);
    // Moves stand that, for it is the agent that judges a claim. Pushes do not.
    let rumours = Fleet { pushes: 1, entries: vec![1], ticks: 0, ..plain() };
    finds(Mutant::BelieveRumours, rumours, &[FalseOffline]);
    let newcomers = Fleet { sessions: vec![], newcomers: 1, pushes: 1, entries: vec![0], ..plain() };
    finds(Mutant::ForceAtOnce, newcomers, &[FalseOffline]);
}

#[test]
fn newcomers() {
    let fleet = Fleet {
        owners: vec![1, 2],
        sessions: vec![0],
        newcomers: 1,
        pushes: 1,
        entries: vec![0],
        repeats: scaled(false, true),
        ..BASE
    };
    assert_eq!(run("newcomers", fleet), None);
}
