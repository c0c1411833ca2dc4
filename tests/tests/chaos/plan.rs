//! Who is killed at which step, and what moves; from a seed.

use anyhow::{Result, ensure};
use fastrand::Rng;
use ringsteer::ring::Ring;
use ringsteer_tests::{fleet::Fleet, lab::Process};

/// Nodes of the fleet.
pub const NODES: usize = 3;

/// Users of a round, at least and at most.
const USERS: std::ops::RangeInclusive<usize> = 8..=48;

/// How many of them go from the old owner to the new one, at least.
const MOVERS: usize = 4;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    OldGateway,
    NewGateway,
    OldAgent,
    NewAgent,
    /// The agent of the node where the clients' packets come in, which is not the old owner.
    EdgeAgent,
}

/// What has happened to a session when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stands still.
    Stopped,
    /// Its flow is held.
    Held,
    /// The new owner has been offered it.
    Offered,
    /// The new owner has a copy.
    Copied,
    /// It is committed.
    Given,
    /// The new owner's agent has taken the flow.
    Taken,
    /// It runs at the new owner.
    Active,
    /// The old owner's agent sends its packets on.
    SentOn,
    /// An edge has been told.
    Told,
}

/// A round.
#[derive(Debug)]
pub struct Plan {
    pub victim: Victim,
    pub step: Step,
    /// Of how many sessions the step has to be seen. (Agents take a step for many at once.)
    pub nth: usize,
    pub users: usize,
    /// The nodes that own users before, and after.
    pub before: Vec<usize>,
    pub after: Vec<usize>,
    /// The node that sessions leave, and the one that they go to.
    pub old: usize,
    pub new: usize,
    /// Whether who was killed is started again only when the others have dealt with its end.
    pub late: bool,
}

// === impl Victim ===

impl Victim {
    const ALL: [Self; 5] = [Self::OldGateway, Self::NewGateway, Self::OldAgent, Self::NewAgent, Self::EdgeAgent];

    pub fn is_gateway(self) -> bool {
        matches!(self, Self::OldGateway | Self::NewGateway)
    }
}

// === impl Step ===

impl Step {
    const ALL: [Self; 9] = [
        Self::Stopped,
        Self::Held,
        Self::Offered,
        Self::Copied,
        Self::Given,
        Self::Taken,
        Self::Active,
        Self::SentOn,
        Self::Told,
    ];

    /// Whether it is an agent that writes it down, once for many sessions.
    fn is_an_agents(self) -> bool {
        matches!(self, Self::Held | Self::Taken | Self::SentOn | Self::Told)
    }
}

// === impl Plan ===

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let victim = Victim::ALL[(seed % 5) as usize];
        let step = Step::ALL[(seed / 5 % 9) as usize];
        // Packets come in at the first node.
        let old = match victim {
            Victim::EdgeAgent => rng.usize(1..NODES),
            _ => rng.usize(..NODES),
        };
        let new = (old + rng.usize(1..NODES)) % NODES;
        let third = NODES - old - new;
        let mut before = vec![old];
        let mut after = vec![new];
        before.extend([new, third].into_iter().filter(|_| rng.u8(..3) == 0));
        after.extend([third].into_iter().filter(|_| rng.u8(..3) == 0));
        let nth = if step.is_an_agents() { 1 } else { rng.usize(1..=MOVERS) };
        let late = victim.is_gateway() && rng.bool();
        Self { victim, step, nth, users: rng.usize(USERS), before, after, old, new, late }
    }

    pub fn victim<'a>(&self, fleet: &'a Fleet<'_>) -> &'a Process {
        match self.victim {
            Victim::OldGateway => &fleet.gateways[self.old],
            Victim::NewGateway => &fleet.gateways[self.new],
            Victim::OldAgent => &fleet.agents[self.old],
            Victim::NewAgent => &fleet.agents[self.new],
            Victim::EdgeAgent => &fleet.agents[fleet.lab.edge()],
        }
    }

    /// Who writes down that the step is done, and how.
    pub fn seen_at<'a>(&self, fleet: &'a Fleet<'_>) -> (&'a Process, &'static str) {
        // An agent tells all others; the old owner's own needs no telling.
        let told = if fleet.lab.edge() == self.old { self.new } else { fleet.lab.edge() };
        match self.step {
            Step::Stopped => (&fleet.gateways[self.old], "stands still for move"),
            Step::Held => (&fleet.agents[self.old], "Hold: done for"),
            Step::Offered => (&fleet.gateways[self.old], "is offered to"),
            Step::Copied => (&fleet.gateways[self.new], "is ready to be taken over"),
            Step::Given => (&fleet.gateways[self.old], "is given to"),
            Step::Taken => (&fleet.agents[self.new], "Take: done for"),
            Step::Active => (&fleet.gateways[self.new], "session is here now"),
            Step::SentOn => (&fleet.agents[self.old], "Move {"),
            Step::Told => (&fleet.agents[told], "connections have gone to member"),
        }
    }

    /// Names of users, of whom enough go from the old owner to the new one.
    pub fn names(&self, all: &Ring, before: &Ring, seed: u64) -> Result<Vec<String>> {
        let after = ringsteer_tests::rounds::owned_by(all, 1, &self.after)?;
        let at =
            |ring: &Ring, user: &str, node: usize| ring.owner(user.as_bytes()).number == all.members()[node].number;
        let moves = |user: &String| at(before, user, self.old) && at(&after, user, self.new);
        let (mut names, mut movers) = (Vec::new(), 0);
        for name in (0..10_000).map(|index| format!("talker-{seed}-{index}")) {
            if movers < MOVERS && moves(&name) {
                movers += 1;
                names.push(name);
            } else if names.len() - movers < self.users - MOVERS {
                names.push(name);
            }
        }
        ensure!(movers == MOVERS && names.len() == self.users, "{movers} users would move");
        Ok(names)
    }
}
