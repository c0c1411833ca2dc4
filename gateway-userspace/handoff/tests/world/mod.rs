//! A small fleet around the real state machine: shells, agents with their pinned entries, a network, clients, pushers.
//! And what must be true of it at every moment.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use ringsteer_handoff::{
    Action, Admission, Event, Handoff, Host, Limits, Outcome,
    message::Message,
    name::{Epoch, Gateway, Incarnation, MoveId, NodeId, PushId, SessionId, User},
};

/// What a session is: the pushes that its client has been sent.
pub type Dump = Vec<PushId>;
pub type Said = Message<Dump, ()>;

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Two nodes read from and write to one connection.
    TwoOwners,
    /// A node goes on with a session as it was before its client was sent more.
    StaleOwner,
    FalseOffline,
    /// A push was answered, and a session that should have it has not.
    PushLost,
    PushDuplicated,
    PushReordered,
    /// Everything works again, and a session is nowhere, or a push is not answered.
    Stuck,
    /// Everything works again, and an entry is held for nobody.
    Leaked,
    /// What arrives for a live connection is answered with a RST.
    Reset,
}

/// Something broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The new owner does not wait for the word.
    ActivateOnReady,
    /// The old owner goes on before its agent has confirmed that the flow is released.
    ResumeBeforeRelease,
    /// The agent grants every claim.
    GrantEverything,
    /// Nobody hears how far the others are before letting users in.
    ForceAtOnce,
    /// Gateways say that they have settled when they have not.
    AlwaysSettled,
    /// What a session has seen stays behind.
    ForgetSeen,
    /// A gateway out of reach is taken for one that has ended.
    BelieveRumours,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Duration,
    pub limits: Limits,
    pub mutant: Option<Mutant>,
    /// By epoch, less one: the owner of each user.
    pub rings: Vec<Vec<NodeId>>,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub clients: BTreeMap<SessionId, Client>,
    pub pushes: Vec<Push>,
    pub violation: Option<Violation>,
    pub incarnations: u64,
    pub sessions: u64,
    /// Events that a test wants to see at least once.
    pub seen: Seen,
}

/// Messages under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// In any order, any number of times, or never.
    Wild(BTreeSet<Packet>),
    /// As links are: in order, once, until they break.
    Links(BTreeMap<(Gateway, Gateway), VecDeque<Said>>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    pub from: Gateway,
    pub to: Gateway,
    pub message: Said,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub moved: bool,
    pub aborted: bool,
    pub granted: bool,
    pub denied: bool,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub me: Gateway,
    /// None between two lives.
    pub handoff: Option<Handoff<Dump, ()>>,
    /// The ring that its agent has.
    pub epoch: u64,
    /// Its gateway's sockets.
    pub sockets: BTreeMap<SessionId, Socket>,
    /// Copies being made.
    pub restoring: BTreeMap<MoveId, Dump>,
    /// Claims not answered yet.
    pub claims: BTreeSet<(MoveId, Gateway)>,
    /// What the gateway has asked its agent for, in order.
    pub requests: VecDeque<Request>,
    /// The kernel's entries.
    pub entries: BTreeMap<SessionId, Entry>,
    /// Holds that lives of its gateway have left behind, and which life. Its agent gives them away in the end.
    pub forgotten: BTreeMap<MoveId, Incarnation>,
    /// Whose end it has heard of.
    pub noticed: BTreeSet<Incarnation>,
    /// Users that wait for the ring to come into force.
    pub newcomers: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    pub state: SocketState,
    pub log: Dump,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketState {
    Active,
    Suspended(MoveId),
    Copy(MoveId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    Hold(MoveId, NodeId),
    Release(MoveId),
    Repoint(MoveId, NodeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Here(MoveId),
    Held(MoveId, NodeId),
    Moved(MoveId, NodeId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub user: usize,
    /// What it has been sent.
    pub log: Dump,
    pub over: bool,
    /// A gateway has ended that had it in motion: it may survive or not.
    pub excused: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Push {
    pub user: usize,
    pub at: Gateway,
    /// The sessions that were open when it was sent.
    pub owed: BTreeSet<SessionId>,
    /// Those that must not come after it.
    pub after: BTreeSet<usize>,
    pub answer: Option<Outcome>,
    /// Nobody waits for the answer any more.
    pub broken: bool,
}

struct Shell<'a> {
    epoch: u64,
    rings: &'a [Vec<NodeId>],
    sockets: &'a mut BTreeMap<SessionId, Socket>,
    clients: &'a mut BTreeMap<SessionId, Client>,
    pushes: &'a [Push],
    violation: &'a mut Option<Violation>,
}

pub fn user(number: usize) -> User {
    User(Box::new([number as u8]))
}

pub fn push_id(number: usize) -> PushId {
    PushId(number as u128)
}

// === impl Shell ===

impl Host<()> for Shell<'_> {
    fn owner(&self, user: &User) -> Option<NodeId> {
        let ring = self.rings.get(usize::try_from(self.epoch).unwrap().checked_sub(1)?)?;
        ring.get(usize::from(user.0[0])).copied()
    }

    fn deliver(&mut self, session: SessionId, push: PushId, (): &()) -> bool {
        let socket = self.sockets.get_mut(&session).expect("only sessions that are here are given pushes");
        assert_eq!(socket.state, SocketState::Active);
        let client = self.clients.get_mut(&session).unwrap();
        if socket.log != client.log {
            self.violation.get_or_insert(Violation::StaleOwner);
        }
        if client.log.contains(&push) {
            self.violation.get_or_insert(Violation::PushDuplicated);
        }
        let after = |later: &PushId| self.pushes[later.0 as usize].after.contains(&(push.0 as usize));
        if client.log.iter().any(after) {
            self.violation.get_or_insert(Violation::PushReordered);
        }
        socket.log.push(push);
        client.log.push(push);
        true
    }
}

// === impl World ===

impl World {
    /// So many nodes with links between them, all at the first ring, all quiet.
    pub fn new(nodes: usize, rings: Vec<Vec<NodeId>>, limits: Limits, wild: bool) -> Self {
        let network = if wild { Network::Wild(BTreeSet::new()) } else { Network::Links(BTreeMap::new()) };
        let mut world = Self {
            now: Duration::ZERO,
            limits,
            mutant: None,
            rings,
            nodes: Vec::new(),
            network,
            clients: BTreeMap::new(),
            pushes: Vec::new(),
            violation: None,
            incarnations: 0,
            sessions: 0,
            seen: Seen::default(),
        };
        for index in 0..nodes {
            let node = NodeId(u16::try_from(index).unwrap() + 1);
            world.nodes.push(Node {
                me: Gateway { node, incarnation: Incarnation(0) },
                handoff: None,
                epoch: 1,
                sockets: BTreeMap::new(),
                restoring: BTreeMap::new(),
                claims: BTreeSet::new(),
                requests: VecDeque::new(),
                entries: BTreeMap::new(),
                forgotten: BTreeMap::new(),
                noticed: BTreeSet::new(),
                newcomers: Vec::new(),
            });
        }
        for index in 0..nodes {
            world.start(index);
        }
        world.deliver_all();
        if let Network::Wild(packets) = &mut world.network {
            packets.clear();
        }
        world
    }

    /// The members of every ring here: all nodes. Who owns nobody drains.
    fn members(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.me.node).collect()
    }

    pub fn index(&self, node: NodeId) -> usize {
        usize::from(node.0) - 1
    }

    fn shell(&mut self, index: usize) -> (&mut Handoff<Dump, ()>, Shell<'_>) {
        let Self { nodes, rings, clients, violation, pushes, .. } = self;
        let Node { handoff, epoch, sockets, .. } = &mut nodes[index];
        let handoff = handoff.as_mut().expect("a gateway that runs");
        (handoff, Shell { epoch: *epoch, rings, sockets, clients, pushes, violation })
    }

    /// Gives an event to a gateway, and does what it wants done.
    pub fn happen(&mut self, index: usize, event: Event<Dump, ()>) {
        let mut events = VecDeque::from([event]);
        let now = self.now;
        while let Some(event) = events.pop_front() {
            if self.nodes[index].handoff.is_none() {
                return;
            }
            let (handoff, mut shell) = self.shell(index);
            handoff.handle(event, now, &mut shell);
            handoff.check_invariants();
            let actions: Vec<_> = std::iter::from_fn(|| handoff.poll_action()).collect();
            self.act_on(index, actions, &mut events);
            loop {
                let (handoff, mut shell) = self.shell(index);
                if !handoff.go_on(now, &mut shell) {
                    break;
                }
                handoff.check_invariants();
                let actions = std::iter::from_fn(|| handoff.poll_action()).collect();
                self.act_on(index, actions, &mut events);
            }
        }
        self.check();
    }

    fn act_on(&mut self, index: usize, actions: Vec<Action<Dump, ()>>, events: &mut VecDeque<Event<Dump, ()>>) {
        for action in actions {
            self.act(index, action, events);
        }
    }

    fn act(&mut self, index: usize, action: Action<Dump, ()>, events: &mut VecDeque<Event<Dump, ()>>) {
        let mutant = self.mutant;
        let node = &mut self.nodes[index];
        match action {
            Action::Suspend { id } => {
                let socket = node.sockets.get_mut(&id.session).expect("it is here");
                assert_eq!(socket.state, SocketState::Active);
                socket.state = SocketState::Suspended(id);
                events.push_back(Event::Suspended { id });
            }
            Action::Hold { id, to } => node.requests.push_back(Request::Hold(id, to)),
            Action::Dump { id } => {
                assert!(
                    matches!(node.entries[&id.session], Entry::Held(held, _) if held == id),
                    "dumped, and not held"
                );
                let socket = &node.sockets[&id.session];
                events.push_back(Event::Dumped { id, dump: socket.log.clone() });
            }
            Action::Release { id } => {
                node.requests.push_back(Request::Release(id));
                if mutant == Some(Mutant::ResumeBeforeRelease) {
                    events.push_back(Event::Released { id });
                }
            }
            Action::Resume { id } => {
                let socket = node.sockets.get_mut(&id.session).expect("it is here");
                assert_eq!(socket.state, SocketState::Suspended(id));
                socket.state = SocketState::Active;
                self.seen.aborted = true;
                self.check();
            }
            Action::Repoint { id, to } => node.requests.push_back(Request::Repoint(id, to)),
            Action::Discard { id } => {
                let socket = node.sockets.remove(&id.session).expect("it was here");
                assert_eq!(socket.state, SocketState::Suspended(id));
            }
            Action::Stranded { .. } | Action::Note(_) => {}
            Action::Restore { id, dump, .. } => {
                node.restoring.insert(id, dump);
            }
            Action::Activate { id } => {
                let socket = node.sockets.get_mut(&id.session).expect("its copy is here");
                assert_eq!(socket.state, SocketState::Copy(id));
                socket.state = SocketState::Active;
                node.entries.remove(&id.session);
                self.seen.moved = true;
                self.check();
            }
            Action::Drop { id } => {
                if node.restoring.remove(&id).is_none() {
                    let socket = node.sockets.remove(&id.session).expect("its copy is here");
                    assert_eq!(socket.state, SocketState::Copy(id));
                }
                node.claims.retain(|(claimed, _)| *claimed != id);
            }
            Action::Claim { id, from } => {
                node.claims.insert((id, from));
            }
            Action::Send { to, message } => {
                let from = node.me;
                self.send(from, to, message);
            }
            Action::Answer { ticket, outcome } => self.answered(usize::try_from(ticket).unwrap(), outcome),
            Action::InForce { .. } => {
                for user in std::mem::take(&mut node.newcomers) {
                    self.connect(index, user, Some(events));
                }
            }
        }
    }

    fn send(&mut self, from: Gateway, to: Gateway, mut message: Said) {
        match (self.mutant, &mut message) {
            (Some(Mutant::ForceAtOnce), Message::State(state)) => state.heard = Epoch(u64::MAX),
            (Some(Mutant::AlwaysSettled), Message::State(state)) => state.settled = true,
            (Some(Mutant::ForgetSeen), Message::Offer(offer)) => offer.seen.clear(),
            _ => {}
        }
        if self.mutant == Some(Mutant::ActivateOnReady)
            && let Message::Ready { id } = message
        {
            // As if the new owner had given itself the word.
            self.send(to, from, Message::Go { id });
        }
        match &mut self.network {
            Network::Wild(packets) => {
                if matches!(message, Message::State(_)) {
                    // Only the newest counts.
                    packets
                        .retain(|old| !((old.from, old.to) == (from, to) && matches!(old.message, Message::State(_))));
                }
                packets.insert(Packet { from, to, message });
            }
            Network::Links(links) => {
                if let Some(link) = links.get_mut(&(from, to)) {
                    link.push_back(message);
                }
            }
        }
    }

    /// A message arrives.
    pub fn arrive(&mut self, packet: &Packet) {
        let index = self.index(packet.to.node);
        if self.nodes[index].me == packet.to {
            let Packet { from, to, message } = packet.clone();
            self.happen(index, Event::Said { from, to: to.incarnation, message });
        }
    }

    /// A gateway process begins, and its links come up.
    pub fn start(&mut self, index: usize) {
        self.incarnations += 1;
        let node = &mut self.nodes[index];
        assert!(node.handoff.is_none());
        let before = node.me;
        node.me.incarnation = Incarnation(self.incarnations);
        node.handoff = Some(Handoff::new(node.me, self.limits.clone(), self.now));
        let (me, epoch) = (node.me, node.epoch);
        let members = self.members();
        self.happen(index, Event::Ring { epoch: Epoch(epoch), members });
        for other in 0..self.nodes.len() {
            if other == index || self.nodes[other].handoff.is_none() {
                continue;
            }
            let peer = self.nodes[other].me;
            if let Network::Links(links) = &mut self.network {
                links.insert((me, peer), VecDeque::new());
                links.insert((peer, me), VecDeque::new());
            }
            if before.incarnation != Incarnation(0) {
                self.notice(other, before);
            }
            self.happen(other, Event::PeerUp { peer: me });
            self.happen(index, Event::PeerUp { peer });
        }
    }

    /// A gateway process ends at once.
    pub fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.handoff = None;
        node.restoring.clear();
        node.claims.clear();
        node.newcomers.clear();
        let held = node.entries.values().filter(|entry| matches!(entry, Entry::Held(..))).map(|entry| entry.id());
        let to_be = node.requests.iter().filter(|request| matches!(request, Request::Hold(..))).map(|one| one.id());
        let me = node.me;
        // Of each life what it has held itself, or wanted to.
        let left: Vec<MoveId> = held.chain(to_be).collect();
        for id in left {
            node.forgotten.entry(id).or_insert(me.incarnation);
        }
        for (session, socket) in std::mem::take(&mut node.sockets) {
            let client = self.clients.get_mut(&session).unwrap();
            if socket.state == SocketState::Active {
                client.over = true;
            } else {
                client.excused = true;
            }
        }
        for push in self.pushes.iter_mut().filter(|push| push.at == me && push.answer.is_none()) {
            push.broken = true;
        }
        match &mut self.network {
            Network::Wild(packets) => packets.retain(|packet| packet.to != me),
            Network::Links(links) => links.retain(|(_, to), _| *to != me),
        }
    }

    /// Another node hears that a gateway has ended.
    pub fn notice(&mut self, index: usize, peer: Gateway) {
        let ended = &self.nodes[self.index(peer.node)];
        let lives = ended.me == peer && ended.handoff.is_some();
        assert!(!lives || self.mutant == Some(Mutant::BelieveRumours));
        if self.nodes[index].handoff.is_some() && self.nodes[index].noticed.insert(peer.incarnation) {
            self.happen(index, Event::PeerEnded { peer });
        }
    }

    /// A node's agent hears of a later ring.
    pub fn ring(&mut self, index: usize, epoch: u64) {
        self.nodes[index].epoch = epoch;
        let members = self.members();
        self.happen(index, Event::Ring { epoch: Epoch(epoch), members });
    }

    /// An agent does the next thing that its gateway has asked for.
    pub fn agent(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(request) = node.requests.pop_front() else { return };
        let event = match request {
            Request::Hold(id, to) => {
                node.entries.insert(id.session, Entry::Held(id, to));
                Event::Held { id }
            }
            Request::Release(id) => {
                if node.entries.get(&id.session).is_some_and(|entry| entry.id() == id) {
                    node.entries.insert(id.session, Entry::Here(id));
                }
                Event::Released { id }
            }
            Request::Repoint(id, to) => {
                if let Some(entry @ Entry::Held(..)) = node.entries.get_mut(&id.session)
                    && entry.id() == id
                {
                    *entry = Entry::Moved(id, to);
                }
                return self.check();
            }
        };
        self.happen(index, event);
    }

    /// A copy has been made.
    pub fn restore(&mut self, index: usize, id: MoveId, works: bool) {
        let node = &mut self.nodes[index];
        let Some(log) = node.restoring.remove(&id) else { return };
        if works {
            let socket = Socket { state: SocketState::Copy(id), log };
            let before = node.sockets.insert(id.session, socket);
            assert!(before.is_none(), "two sockets of one connection on one node");
            self.happen(index, Event::Restored { id });
        } else {
            node.restoring.insert(id, log);
            self.happen(index, Event::RestoreFailed { id });
        }
    }

    /// The agent of a gateway that has ended judges a claim.
    pub fn claim(&mut self, index: usize, id: MoveId, from: Gateway) {
        if !self.nodes[index].claims.remove(&(id, from)) {
            return;
        }
        let me = self.nodes[index].me.node;
        let judge = self.index(from.node);
        let ended = self.nodes[judge].me != from || self.nodes[judge].handoff.is_none();
        let entry = self.nodes[judge].entries.get(&id.session).copied();
        let mine = entry == Some(Entry::Held(id, me)) || entry == Some(Entry::Moved(id, me));
        let granted = ended && mine || self.mutant == Some(Mutant::GrantEverything);
        if granted {
            let judge = &mut self.nodes[judge];
            judge.entries.insert(id.session, Entry::Moved(id, me));
            if ended {
                // Whatever that gateway still wanted is not done any more. A new one has nothing to ask about this.
                judge.requests.retain(|request| request.id() != id);
            }
            self.seen.granted = true;
        } else {
            self.seen.denied = true;
        }
        self.happen(index, Event::Claimed { id, granted });
    }

    /// A gateway has claimed all that it has of another one that has ended: what else that one held for it is nobody's, and
    /// its agent lets go of it. Of sessions that the gateway had got before, it has claimed what came for them.
    pub fn claim_no_more(&mut self, index: usize, ended: Gateway) {
        let Node { me, handoff, claims, noticed, .. } = &self.nodes[index];
        let some =
            |handoff: &Handoff<Dump, ()>| handoff.has_copies_of(ended) || claims.iter().any(|one| one.1 == ended);
        if !noticed.contains(&ended.incarnation) || handoff.as_ref().is_none_or(some) {
            return;
        }
        let me = me.node;
        // It has been taken, and may have gone on since.
        let is_taken = |id: MoveId| {
            let mut sockets = self.nodes.iter().filter_map(|node| node.sockets.get(&id.session));
            sockets.any(|socket| match socket.state {
                SocketState::Active | SocketState::Suspended(_) => true,
                SocketState::Copy(later) => later.generation > id.generation,
            })
        };
        let judge = &self.nodes[self.index(ended.node)];
        let is_left = |entry: &Entry| matches!(entry, Entry::Held(id, to) if *to == me && judge.forgotten.get(id) == Some(&ended.incarnation));
        let left: Vec<_> = judge.entries.iter().filter(|(_, entry)| is_left(entry)).collect();
        let over: Vec<_> = left.into_iter().map(|(_, entry)| (entry.id(), is_taken(entry.id()))).collect();
        let judge = self.index(ended.node);
        for (id, is_taken) in over {
            let entry = if is_taken { Entry::Moved(id, me) } else { Entry::Here(id) };
            self.nodes[judge].entries.insert(id.session, entry);
        }
        self.check();
    }

    pub fn tick(&mut self, index: usize) {
        self.happen(index, Event::Tick);
    }

    /// A user connects, or waits until the ring is in force. Somebody who is at the wrong node is sent away here.
    pub fn connect(&mut self, index: usize, number: usize, events: Option<&mut VecDeque<Event<Dump, ()>>>) {
        let born = self.nodes[index].me.incarnation;
        let (handoff, shell) = self.shell(index);
        match handoff.admission(&user(number), &shell) {
            Admission::Here => {}
            Admission::Soon => return self.nodes[index].newcomers.push(number),
            _ => return,
        }
        self.sessions += 1;
        let session = SessionId { born, number: self.sessions };
        let client = Client { user: number, log: vec![], over: false, excused: false };
        self.clients.insert(session, client);
        self.nodes[index].sockets.insert(session, Socket { state: SocketState::Active, log: vec![] });
        let event = Event::Arrived { session, user: user(number), opened: true, platform: 1 };
        match events {
            Some(events) => events.push_back(event),
            None => self.happen(index, event),
        }
    }

    /// A client goes.
    pub fn disconnect(&mut self, index: usize, session: SessionId) {
        assert_eq!(self.nodes[index].sockets.remove(&session).unwrap().state, SocketState::Active);
        self.clients.get_mut(&session).unwrap().over = true;
        self.happen(index, Event::Ended { session });
    }

    /// A pusher sends a push to a gateway.
    pub fn push(&mut self, index: usize, number: usize) {
        let at = self.nodes[index].me;
        let ticket = self.pushes.len();
        let owed = |(&session, client): (&SessionId, &Client)| {
            (client.user == number && !client.over && !client.excused).then_some(session)
        };
        let before = |(index, push): (usize, &Push)| {
            let earlier = push.answer.is_some() && !matches!(push.answer, Some(Outcome::Unsure(_)));
            let in_line = push.at == at && push.answer.is_none() && !push.broken;
            (push.user == number && (earlier || in_line)).then_some(index)
        };
        let push = Push {
            user: number,
            at,
            owed: self.clients.iter().filter_map(owed).collect(),
            after: self.pushes.iter().enumerate().filter_map(before).collect(),
            answer: None,
            broken: false,
        };
        self.pushes.push(push);
        let event = Event::Push { ticket: ticket as u64, user: user(number), push: push_id(ticket), body: () };
        self.happen(index, event);
    }

    fn answered(&mut self, ticket: usize, outcome: Outcome) {
        let push = &mut self.pushes[ticket];
        assert!(push.answer.is_none(), "answered twice");
        let has = |session: &SessionId| self.clients[session].log.contains(&push_id(ticket));
        match &outcome {
            Outcome::Delivered(reached) => {
                let sound = |session: &&SessionId| !self.clients[session].over && !self.clients[session].excused;
                if !push.owed.iter().filter(sound).all(has) || !reached.iter().all(|one| has(&one.session)) {
                    self.violation.get_or_insert(Violation::PushLost);
                }
            }
            Outcome::Offline | Outcome::Unsure(_) => {}
        }
        push.answer = Some(outcome);
    }

    /// What must be true at every moment.
    pub fn check(&mut self) {
        let violation = self.find();
        if self.violation.is_none() {
            self.violation = violation;
        }
    }

    fn find(&self) -> Option<Violation> {
        for (session, client) in &self.clients {
            let sockets = || self.nodes.iter().filter_map(|node| node.sockets.get(session));
            let mut active = sockets().filter(|socket| socket.state == SocketState::Active);
            if let Some(owner) = active.next() {
                if active.next().is_some() {
                    return Some(Violation::TwoOwners);
                }
                if owner.log != client.log {
                    return Some(Violation::StaleOwner);
                }
            }
            if client.over {
                continue;
            }
            let alive = !client.excused || sockets().any(|socket| socket.state == SocketState::Active);
            let offline = |push: &Push| push.answer == Some(Outcome::Offline) && push.owed.contains(session);
            if alive && self.pushes.iter().any(offline) {
                return Some(Violation::FalseOffline);
            }
            for node in &self.nodes {
                let socket = node.sockets.get(session).map(|socket| socket.state);
                let here = matches!(node.entries.get(session), Some(Entry::Here(_)));
                if here && socket.is_none() && node.handoff.is_some() && alive {
                    return Some(Violation::Reset);
                }
            }
        }
        None
    }

    /// Whether there is anything but time that would have to pass.
    pub fn deliver_all(&mut self) {
        for _ in 0..100 {
            let before = self.clone();
            for index in 0..self.nodes.len() {
                while !self.nodes[index].requests.is_empty() {
                    self.agent(index);
                }
                for id in self.nodes[index].restoring.keys().copied().collect::<Vec<_>>() {
                    self.restore(index, id, true);
                }
                for (id, from) in self.nodes[index].claims.clone() {
                    self.claim(index, id, from);
                }
            }
            let packets: Vec<Packet> = match &mut self.network {
                Network::Wild(packets) => packets.iter().cloned().collect(),
                Network::Links(links) => links
                    .iter_mut()
                    .flat_map(|(&(from, to), link)| {
                        link.drain(..).map(move |message| Packet { from, to, message }).collect::<Vec<_>>()
                    })
                    .collect(),
            };
            for packet in packets {
                self.arrive(&packet);
            }
            if *self == before {
                return;
            }
        }
        panic!("they never stop talking");
    }

    /// The agents do what they were asked for, and give away what their gateways' former lives have left behind.
    pub fn give_away(&mut self) {
        for index in 0..self.nodes.len() {
            while !self.nodes[index].requests.is_empty() {
                self.agent(index);
            }
        }
        for node in &mut self.nodes {
            for entry in node.entries.values_mut() {
                if let Entry::Held(id, to) = *entry
                    && node.forgotten.contains_key(&id)
                {
                    *entry = Entry::Moved(id, to);
                }
            }
        }
    }

    /// Nothing goes wrong any more: all ends of gateways are heard of, the last ring comes everywhere, every message
    /// arrives, every request is done. Then everybody has to be somewhere and every push answered.
    pub fn settle(&mut self, step: Duration) {
        for index in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                if self.nodes[other].handoff.is_none() {
                    let peer = self.nodes[other].me;
                    self.notice(index, peer);
                }
            }
            let last = self.rings.len() as u64;
            if self.nodes[index].handoff.is_some() && self.nodes[index].epoch < last {
                self.ring(index, last);
            }
        }
        for _ in 0..12 {
            self.deliver_all();
            self.now += step;
            for index in 0..self.nodes.len() {
                if self.nodes[index].handoff.is_some() {
                    self.tick(index);
                }
            }
        }
        self.deliver_all();
        if self.violation.is_none() {
            self.violation = self.find_after_all();
        }
    }

    fn find_after_all(&self) -> Option<Violation> {
        for (session, client) in self.clients.iter().filter(|(_, client)| !client.over && !client.excused) {
            let owners = self.nodes.iter().filter_map(|node| node.sockets.get(session));
            let states: Vec<_> = owners.map(|socket| socket.state).collect();
            if states != [SocketState::Active] {
                return Some(Violation::Stuck);
            }
            let _ = client;
        }
        if self.pushes.iter().any(|push| push.answer.is_none() && !push.broken) {
            return Some(Violation::Stuck);
        }
        for node in self.nodes.iter().filter(|node| node.handoff.is_some()) {
            let undecided = node.sockets.values().any(|socket| socket.state != SocketState::Active);
            let held = node.entries.iter().any(|(session, entry)| {
                matches!(entry, Entry::Held(..)) && !self.clients[session].excused && !self.clients[session].over
            });
            if undecided || held || !node.restoring.is_empty() {
                return Some(Violation::Leaked);
            }
        }
        None
    }
}

// === impl Entry ===

impl Entry {
    fn id(self) -> MoveId {
        match self {
            Self::Here(id) | Self::Held(id, _) | Self::Moved(id, _) => id,
        }
    }
}

// === impl Request ===

impl Request {
    fn id(self) -> MoveId {
        match self {
            Self::Hold(id, _) | Self::Release(id) | Self::Repoint(id, _) => id,
        }
    }
}
