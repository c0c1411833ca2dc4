//! The task: events in, actions begun.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use ringsteer_handoff::{
    Action, Event, Handoff, Host, Progress,
    event::{Failure, Note},
    name::{Epoch, Gateway, MoveId, NodeId, PushId, SessionId, User},
};
use serde_bytes::ByteBuf;
use tokio::{
    sync::{mpsc, watch},
    task::{spawn, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{
    Ears, Ordered, Wiring,
    agent::{self, Answered, Request},
    diary::Diary,
    fleet::{self, Fleet},
    misheard::Misheard,
    piece::{Copied, Ends, Piece, PieceState, Silent},
    remains::Remains,
    steps::{self, NotTaken},
    word::{Heard, Said},
};
use crate::{
    control::{MoveOutcome, MoveStep, Order, Published},
    gateway::moving::{Moving, Sessions},
    ring::MemberNumber,
    session::table,
};

/// How often to look for sessions that belong elsewhere, and for those that are over. One may have begun by an older ring
/// while we looked for them by the newer one.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// What a step came to.
enum Done {
    Stopped(MoveId, Option<Moving>),
    TakenOut(MoveId, Result<(Silent, Vec<u8>), NotTaken>),
    Made(MoveId, Option<Copied>),
}

/// Whose a user is.
struct Owners<'a>(&'a Published);

struct Runner {
    handoff: Handoff<ByteBuf, ()>,
    me: Gateway,
    sessions: Sessions,
    fleet: Fleet,
    published: Arc<Published>,
    max_message: usize,
    pieces: HashMap<SessionId, Piece>,
    /// The core's names of those that run here.
    names: HashMap<table::SessionId, SessionId>,
    /// Copies that the agent is about to take.
    beginning: HashMap<MoveId, Box<Copied>>,
    /// The connections of those that have been given up and are still held here.
    leaving: HashMap<MoveId, Ends>,
    /// What is left of connections that have moved on.
    remains: Arc<Remains>,
    misheard: Arc<Misheard>,
    last_number: u64,
    requests: mpsc::UnboundedSender<Request>,
    done: mpsc::UnboundedSender<Done>,
    events: VecDeque<Event<ByteBuf, ()>>,
    began: Instant,
}

/// Runs until it is aborted.
pub(super) async fn run(wiring: Wiring, progress: watch::Sender<Progress>, mut orders: mpsc::Receiver<Ordered>) {
    let Wiring { sessions, links, ears, mut published, agent, max_message, limits } = wiring;
    let first = loop {
        let present = published.borrow_and_update().clone();
        if let Some(present) = present
            && let Some(node) = present.node
        {
            break (present, node);
        }
        if published.changed().await.is_err() {
            return;
        }
    };
    let (present, node) = first;
    let me = Gateway { node: NodeId(node.get()), incarnation: fleet::name(links.incarnation()) };
    let (requests, asked) = mpsc::unbounded_channel();
    let (answers, mut answered) = mpsc::unbounded_channel();
    spawn(agent::ask(agent, asked, answers));
    let (done, mut results) = mpsc::unbounded_channel();
    let mut lives = links.lives();
    let Ears { mut heard, misheard } = ears;
    let mut runner = Runner {
        handoff: Handoff::new(me, limits, Duration::ZERO),
        me,
        sessions,
        fleet: Fleet::new(links),
        published: Arc::clone(&present),
        max_message,
        pieces: HashMap::new(),
        names: HashMap::new(),
        beginning: HashMap::new(),
        leaving: HashMap::new(),
        remains: Arc::default(),
        misheard,
        last_number: 0,
        requests,
        done,
        events: VecDeque::new(),
        began: Instant::now(),
    };
    runner.ring(present);
    runner.lives(&lives.borrow_and_update());
    let mut look = Instant::now() + LOOK;
    let mut diary = Diary::default();
    loop {
        let mut obeyed = None;
        let over = runner.remains.clear(std::time::Instant::now()).map_or(look, Instant::from_std);
        let due = (runner.began + runner.handoff.deadline(runner.now())).min(look).min(over);
        tokio::select! {
            Some(words) = heard.recv() => runner.hear(words),
            Some(result) = results.recv() => runner.done(result),
            Some(answer) = answered.recv() => runner.answered(answer),
            changed = published.changed() => {
                if changed.is_err() {
                    return;
                }
                let next = published.borrow_and_update().clone();
                if let Some(next) = next {
                    runner.ring(next);
                    runner.lives(&lives.borrow_and_update());
                }
            }
            changed = lives.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = lives.borrow_and_update().clone();
                runner.lives(&now);
            }
            Some((order, done)) = orders.recv() => {
                tracing::info!("told what to do about moves: {order:?}");
                runner.happen(match order {
                    Order::Pause => Event::Pause,
                    Order::Continue => Event::Continue,
                    Order::Stop => Event::Stop,
                    Order::Rate(moves_per_s) => Event::Rate { moves_per_s },
                });
                obeyed = Some(done);
            }
            () = sleep_until(due) => {
                if Instant::now() >= look {
                    look = Instant::now() + LOOK;
                    runner.look();
                }
                runner.happen(Event::Tick);
            }
        }
        diary.note(runner.handoff.progress(), Instant::now());
        progress.send_if_modified(|seen| {
            let now = runner.handoff.progress();
            let new = *seen != now;
            *seen = now;
            new
        });
        // After the progress: who has heard this sees what the order has done.
        if let Some(obeyed) = obeyed {
            let _ = obeyed.send(());
        }
    }
}

// === impl Owners ===

impl Host<()> for Owners<'_> {
    fn owner(&self, user: &User) -> Option<NodeId> {
        Some(NodeId(self.0.owner(&user.0).number.get()))
    }

    fn deliver(&mut self, _: SessionId, _: PushId, (): &()) -> bool {
        // Pushes go their own way here, through the gateway's table.
        false
    }
}

// === impl Runner ===

impl Runner {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Has the core take an event, and all that follows from it, and begins what it wants done.
    fn happen(&mut self, event: Event<ByteBuf, ()>) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let (now, published) = (self.now(), Arc::clone(&self.published));
            self.handoff.handle(event, now, &mut Owners(&published));
            loop {
                while let Some(action) = self.handoff.poll_action() {
                    self.act(action);
                }
                if !self.handoff.go_on(now, &mut Owners(&published)) {
                    break;
                }
            }
        }
    }

    /// Another ring, or other things about it.
    fn ring(&mut self, published: Arc<Published>) {
        self.fleet.follow(&published);
        let epoch = Epoch(published.ring.epoch().0);
        let members = fleet::members(&published);
        self.published = published;
        self.happen(Event::Ring { epoch, members });
        self.look();
    }

    fn lives(&mut self, lives: &crate::peer::gateways::Lives) {
        for event in self.fleet.look(lives) {
            self.happen(event);
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard { from, to, message } = heard;
        if let Said::Ready { id } = message
            && let Some(Piece { state: PieceState::Silent { silent, .. }, .. }) = self.pieces.get(&id.session)
            && let Err(error) = silent.taken.unchanged()
        {
            // The copy is not what our socket is any more. Unanswered, the move is given up in a moment, and the session
            // stays.
            tracing::warn!("{}: moved on while it was held, so it stays: {error}", silent.flow.client);
            return;
        }
        if let Some(from) = self.fleet.gateway(from.node, from.incarnation) {
            self.happen(Event::Said { from, to, message });
        } else {
            self.misheard.stranger();
        }
    }

    /// Looks for sessions that belong elsewhere, and for those that are over.
    fn look(&mut self) {
        let published = Arc::clone(&self.published);
        for (user, sessions) in self.sessions.users_where(|user| !published.is_ours(user)) {
            for table in sessions {
                if self.names.contains_key(&table) {
                    continue;
                }
                self.last_number += 1;
                let session = SessionId { born: self.me.incarnation, number: self.last_number };
                self.names.insert(table, session);
                self.pieces.insert(session, Piece { user: user.clone(), state: PieceState::Runs(table) });
                let user = User(user.clone());
                self.happen(Event::Arrived { session, user, opened: true, platform: 0 });
            }
        }
        let over = |(&session, piece): (&SessionId, &Piece)| match piece.state {
            PieceState::Runs(table) if !self.sessions.has(&piece.user, table) => Some(session),
            _ => None,
        };
        for session in self.pieces.iter().filter_map(over).collect::<Vec<_>>() {
            self.forget(session);
            self.happen(Event::Ended { session });
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.pieces.remove(&session);
        self.names.retain(|_, name| *name != session);
    }

    /// Begins what the core wants done.
    fn act(&mut self, action: Action<ByteBuf, ()>) {
        match action {
            Action::Suspend { id } => self.suspend(id),
            Action::Hold { id, .. } => match self.flow(id.session).and_then(|flow| flow.in_move(id)) {
                Some(flow) => self.ask(id, MoveStep::Hold, flow),
                None => self.events.push_back(Event::Failed { id, failure: Failure::Never }),
            },
            Action::Dump { id } => self.take_out(id),
            Action::Release { id } => match self.flow(id.session).and_then(|flow| flow.in_move(id)) {
                Some(flow) => self.ask(id, MoveStep::Release, flow),
                None => self.events.push_back(Event::Released { id }),
            },
            Action::Resume { id } => self.resume(id),
            Action::Repoint { id, to } => {
                let flow = self.leaving.remove(&id).and_then(|flow| flow.in_move(id));
                if let (Some(flow), Ok(to)) = (flow, MemberNumber::new(to.0)) {
                    self.ask(id, MoveStep::Move { to }, flow);
                }
            }
            Action::Discard { id } => {
                if let Some(Piece { state: PieceState::Silent { table, silent }, .. }) = self.pieces.remove(&id.session)
                {
                    self.leaving.insert(id, silent.flow);
                    let to = silent.to.and_then(|to| self.fleet.address(to));
                    steps::give_up(*silent, to, id.generation, &self.remains);
                    self.names.remove(&table);
                }
            }
            Action::Stranded { session } => {
                tracing::info!("session {session:?} belongs elsewhere and cannot be moved");
            }
            Action::Restore { id, user, dump, .. } => {
                self.pieces.insert(id.session, Piece { user: user.0, state: PieceState::IsMade { id } });
                let (sessions, remains) = (self.sessions.clone(), Arc::clone(&self.remains));
                let (max_message, done) = (self.max_message, self.done.clone());
                spawn_blocking(move || {
                    // Nobody is there when the gateway stops.
                    let _ = done.send(Done::Made(id, steps::make(&sessions, &remains, &dump, max_message)));
                });
            }
            Action::Activate { id } => self.activate(id),
            // A copy is dropped silently, or as soon as it is made.
            Action::Drop { id } => drop(self.pieces.remove(&id.session)),
            // No agent judges claims yet: what has not been decided when a gateway ends, ends with it.
            Action::Claim { id, .. } => self.events.push_back(Event::Claimed { id, granted: false }),
            Action::Send { to, message } => {
                if let Said::Go { id } = message
                    && let Some(Piece { state: PieceState::Silent { silent, .. }, .. }) =
                        self.pieces.get_mut(&id.session)
                {
                    silent.to = Some(to.node);
                }
                self.fleet.say(to, message);
            }
            Action::Answer { .. } => {}
            Action::InForce { epoch } => tracing::debug!("ring of epoch {} is in force among the gateways", epoch.0),
            Action::Note(note) => self.note(&note),
        }
    }

    fn note(&self, note: &Note) {
        match note {
            Note::Refused(id, because) => tracing::debug!("move {id} was refused: {because:?}"),
            Note::Aborted(id) => tracing::debug!("move {id} was given up; its session stays"),
            Note::Lost(id) => tracing::warn!("move {id}: its session is lost with the gateway that had it last"),
            Note::Foreign(from) => tracing::warn!(
                "{from} at {:?} speaks of a move that it has no part in; refused",
                self.fleet.address(from.node)
            ),
        }
    }

    fn ask(&self, id: MoveId, step: MoveStep, flow: crate::control::FlowMove) {
        // The one who asks lives as long as we do.
        let _ = self.requests.send(Request { id, step, flow });
    }

    /// The connection of a session.
    fn flow(&self, session: SessionId) -> Option<Ends> {
        match &self.pieces.get(&session)?.state {
            PieceState::Stands { rest, .. } => Some(rest.flow),
            PieceState::IsTakenOut { flow, .. } => Some(*flow),
            PieceState::Silent { silent, .. } => Some(silent.flow),
            PieceState::Copy(copy) => Some(copy.flow),
            _ => None,
        }
    }

    fn suspend(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else {
            return self.events.push_back(Event::Failed { id, failure: Failure::Over });
        };
        match &mut piece.state {
            &mut PieceState::Runs(table) => {
                let (sessions, user, done) = (self.sessions.clone(), piece.user.clone(), self.done.clone());
                let stopping = spawn(async move {
                    let moving = sessions.take(&user, table).await;
                    // If this is not heard the session goes on, as its place in the message is dropped. See `stopped`.
                    let _ = done.send(Done::Stopped(id, moving));
                });
                piece.state = PieceState::Stops { table, stopping: stopping.abort_handle() };
            }
            PieceState::Begins { then } => *then = Some(id),
            _ => self.events.push_back(Event::Failed { id, failure: Failure::Again }),
        }
    }

    fn take_out(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::IsMade { id });
        let PieceState::Stands { table, rest } = before else {
            piece.state = before;
            return self.events.push_back(Event::Failed { id, failure: Failure::Again });
        };
        piece.state = PieceState::IsTakenOut { table, back: false, flow: rest.flow };
        let done = self.done.clone();
        let runtime = tokio::runtime::Handle::current();
        spawn_blocking(move || {
            // Sockets go back to the runtime if they stay.
            let _entered = runtime.enter();
            let _ = done.send(Done::TakenOut(id, steps::take(*rest)));
        });
    }

    fn resume(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::IsMade { id });
        piece.state = match before {
            PieceState::Stops { table, stopping } => {
                stopping.abort();
                PieceState::Runs(table)
            }
            PieceState::Stands { table, rest } => {
                rest.place.resume(rest.stream, rest.suspended);
                PieceState::Runs(table)
            }
            PieceState::IsTakenOut { table, flow, .. } => PieceState::IsTakenOut { table, back: true, flow },
            PieceState::Silent { table, silent } => {
                steps::revive(*silent);
                PieceState::Runs(table)
            }
            PieceState::Begins { .. } => PieceState::Begins { then: None },
            other => other,
        };
    }

    fn activate(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::Begins { then: None });
        let PieceState::Copy(copy) = before else {
            tracing::error!("move {id}: no copy to go on with");
            self.pieces.remove(&id.session);
            return self.events.push_back(Event::Ended { session: id.session });
        };
        match copy.flow.in_move(id) {
            Some(flow) => {
                self.beginning.insert(id, copy);
                self.ask(id, MoveStep::Take, flow);
            }
            None => self.begin(id, *copy),
        }
    }

    /// The copy runs from here on.
    fn begin(&mut self, id: MoveId, copy: Copied) {
        let client = copy.flow.client;
        let begun = steps::begin(copy);
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let PieceState::Begins { then } = piece.state else { return };
        match begun {
            Some(table) => {
                tracing::debug!("{client}: session is here now, by move {id}");
                piece.state = PieceState::Runs(table);
                self.names.insert(table, id.session);
                if let Some(next) = then {
                    self.suspend(next);
                }
            }
            None => {
                self.forget(id.session);
                self.events.push_back(Event::Ended { session: id.session });
            }
        }
    }

    /// A step has come to something.
    fn done(&mut self, done: Done) {
        match done {
            Done::Stopped(id, moving) => self.stopped(id, moving),
            Done::TakenOut(id, taken) => self.taken_out(id, taken),
            Done::Made(id, made) => {
                let wanted = |piece: &&mut Piece| matches!(piece.state, PieceState::IsMade { id: made } if made == id);
                // A copy that is not wanted any more is dropped here, silently.
                let Some(piece) = self.pieces.get_mut(&id.session).filter(wanted) else { return };
                match made {
                    Some(copy) => {
                        piece.state = PieceState::Copy(Box::new(copy));
                        self.happen(Event::Restored { id });
                    }
                    None => self.happen(Event::RestoreFailed { id }),
                }
            }
        }
    }

    fn stopped(&mut self, id: MoveId, moving: Option<Moving>) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return go_on(moving) };
        let PieceState::Stops { table, .. } = piece.state else { return go_on(moving) };
        let Some(moving) = moving else {
            self.forget(id.session);
            return self.happen(Event::Failed { id, failure: Failure::Over });
        };
        match steps::at_rest(moving) {
            Ok(rest) => {
                piece.state = PieceState::Stands { table, rest: Box::new(rest) };
                self.happen(Event::Suspended { id });
            }
            Err(_) => {
                piece.state = PieceState::Runs(table);
                self.happen(Event::Failed { id, failure: Failure::Again });
            }
        }
    }

    fn taken_out(&mut self, id: MoveId, taken: Result<(Silent, Vec<u8>), NotTaken>) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let PieceState::IsTakenOut { table, back, .. } = piece.state else { return };
        match taken {
            Ok((silent, _)) if back => {
                steps::revive(silent);
                piece.state = PieceState::Runs(table);
            }
            Ok((silent, dump)) => {
                piece.state = PieceState::Silent { table, silent: Box::new(silent) };
                self.happen(Event::Dumped { id, dump: dump.into() });
            }
            Err(NotTaken { rest: Some(rest), .. }) if back => {
                rest.place.resume(rest.stream, rest.suspended);
                piece.state = PieceState::Runs(table);
            }
            Err(NotTaken { rest: Some(rest), failure }) => {
                piece.state = PieceState::Stands { table, rest };
                self.happen(Event::Failed { id, failure });
            }
            Err(NotTaken { rest: None, .. }) => {
                self.happen(Event::Failed { id, failure: Failure::Over });
                self.forget(id.session);
            }
        }
    }

    /// The agent has answered.
    fn answered(&mut self, answered: Answered) {
        let Answered { request: Request { id, step, flow }, outcome } = answered;
        match step {
            MoveStep::Hold => self.happen(match outcome {
                Some(MoveOutcome::Done) => Event::Held { id },
                Some(MoveOutcome::NoService) => Event::Failed { id, failure: Failure::Never },
                _ => {
                    tracing::debug!("{}: cannot be held: {outcome:?}", flow.client);
                    Event::Failed { id, failure: Failure::Again }
                }
            }),
            MoveStep::Release => self.happen(Event::Released { id }),
            MoveStep::Move { .. } => {
                if outcome != Some(MoveOutcome::Done) {
                    tracing::warn!("{}: what comes for it is not sent on: {outcome:?}", flow.client);
                }
            }
            MoveStep::Take => {
                if outcome != Some(MoveOutcome::Done) {
                    tracing::warn!("{}: the agent does not take it: {outcome:?}", flow.client);
                }
                if let Some(copy) = self.beginning.remove(&id) {
                    self.begin(id, *copy);
                    // What beginning has brought about.
                    self.happen(Event::Tick);
                }
            }
        }
    }
}

/// A session that was stopped and is not wanted any more.
fn go_on(moving: Option<Moving>) {
    if let Some(Moving { stream, suspended, place }) = moving {
        place.resume(stream, suspended);
    }
}
