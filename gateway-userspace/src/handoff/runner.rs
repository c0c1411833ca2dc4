//! The task: events in, actions begun.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    iter,
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
    task::spawn,
    time::{Instant, sleep_until},
};

use super::{
    Ears, Ordered, Wiring,
    agent::{self, Answered, Request},
    claims::{self, Judged, Orphan, Taken, Wanted},
    diary::{self, Diary},
    fleet::{self, Fleet},
    force::{Epochs, Telling},
    misheard::Misheard,
    piece::{Copied, Ends, Left, Load, Piece, PieceState, Rest, Silent},
    remains::Remains,
    silence::Silence,
    steps::{self, NotTaken},
    word::{Heard, Said},
};
use crate::{
    control::{FlowMove, MoveOutcome, MoveStep, Order, Promise, Published},
    gateway::{
        misplaced::{LetIn, Misplaced},
        moving::{Moving, Sessions},
    },
    ring::MemberNumber,
    session::table,
};

/// How often to look for sessions that belong elsewhere, and for those that are over, among those that have begun or ended
/// since. One may have begun by an older ring while we looked for all by the newer one.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long a newcomer may wait for its move. Its client waits for an answer, and would sooner or later dial again.
const NEWCOMER_LIMIT: Duration = Duration::from_secs(5);

/// Newcomers at once; more are turned away.
const NEWCOMERS_MAX: usize = 1024;

/// Events of one kind that are taken together: deadlines and progress are looked at once for all of them.
const AT_ONCE: usize = 32;

/// What a step came to.
enum Done {
    Stopped(MoveId, Option<Box<Moving>>),
    LetIn(SessionId, Option<LetIn>),
}

/// A copy that is ours, and runs as soon as the agent has taken its connection.
struct Beginning {
    copy: Box<Copied>,
    /// Who is to hear then that it does: what it sends on before would find nobody here.
    told: Option<Gateway>,
}

/// Whose a user is.
struct Owners<'a>(&'a Published);

struct Runner {
    handoff: Handoff<ByteBuf, ()>,
    me: Gateway,
    sessions: Sessions,
    fleet: Fleet,
    /// Which rings the others follow.
    epochs: Epochs,
    force: Telling,
    published: Arc<Published>,
    max_message: usize,
    pieces: HashMap<SessionId, Piece>,
    /// The core's names of those that run here.
    names: HashMap<table::SessionId, SessionId>,
    /// Users whose sessions have to be looked at once more, for a newcomer of theirs was just being let in.
    again: Vec<Box<[u8]>>,
    /// Sessions that may have ended before it was known that they run.
    doubtful: Vec<SessionId>,
    /// The newcomers here that have not been let in, and how long they may wait.
    newcomers: HashMap<SessionId, Instant>,
    /// Whether no move may begin: newcomers are not let wait then.
    stopped: bool,
    /// Copies that the agent is about to take.
    beginning: HashMap<MoveId, Beginning>,
    /// Those that have been given up and whose connections are still held here.
    leaving: HashMap<MoveId, Left>,
    /// The latest moves to here.
    taken: Taken,
    /// What is left of connections that have moved on.
    remains: Arc<Remains>,
    silence: Silence,
    misheard: Arc<Misheard>,
    last_number: u64,
    requests: mpsc::UnboundedSender<Request>,
    claims: mpsc::UnboundedSender<Wanted>,
    /// Gateways that have ended and of whose sessions there are copies here, maybe.
    ended: Vec<Gateway>,
    done: mpsc::UnboundedSender<Done>,
    events: VecDeque<Event<ByteBuf, ()>>,
    began: Instant,
}

/// Runs until it is aborted.
pub(super) async fn run(
    wiring: Wiring,
    progress: watch::Sender<Progress>,
    silence: Silence,
    force: Telling,
    mut orders: mpsc::Receiver<Ordered>,
) {
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
    tracing::debug!("in moves this gateway is {me}");
    let (requests, asked) = mpsc::unbounded_channel();
    let (answers, mut answered) = mpsc::unbounded_channel();
    spawn(agent::ask(agent.clone(), asked, answers));
    let (claims, claimed) = mpsc::unbounded_channel();
    let (judges, mut judged) = mpsc::unbounded_channel();
    spawn(claims::ask(agent, claimed, judges));
    let (done, mut results) = mpsc::unbounded_channel();
    let mut lives = links.lives();
    let Ears { mut heard, misheard } = ears;
    let mut runner = Runner {
        handoff: Handoff::new(me, limits, Duration::ZERO),
        me,
        sessions,
        fleet: Fleet::new(links),
        epochs: Epochs::default(),
        force,
        published: Arc::clone(&present),
        max_message,
        pieces: HashMap::new(),
        names: HashMap::new(),
        again: Vec::new(),
        doubtful: Vec::new(),
        newcomers: HashMap::new(),
        stopped: false,
        beginning: HashMap::new(),
        leaving: HashMap::new(),
        taken: Taken::default(),
        remains: Arc::default(),
        silence,
        misheard,
        last_number: 0,
        requests,
        claims,
        ended: Vec::new(),
        done,
        events: VecDeque::new(),
        began: Instant::now(),
    };
    // From here on it is noted what happens.
    runner.sessions.take_news();
    runner.ring(present);
    runner.lives(&lives.borrow_and_update());
    // If somebody else moves them, none come.
    let mut newcomers = runner.sessions.misplaced().unwrap_or_else(|| mpsc::channel(1).1);
    let mut look = Instant::now() + LOOK;
    let mut diary = Diary::default();
    loop {
        let mut obeyed = None;
        let over = runner.remains.clear(std::time::Instant::now()).map_or(look, Instant::from_std);
        let due = (runner.began + runner.handoff.deadline()).min(look).min(over);
        tokio::select! {
            Some(words) = heard.recv() => {
                runner.hear(words);
                for words in waiting(|| heard.try_recv().ok()) {
                    runner.hear(words);
                }
            }
            Some(result) = results.recv() => {
                runner.done(result);
                for result in waiting(|| results.try_recv().ok()) {
                    runner.done(result);
                }
            }
            Some(newcomer) = newcomers.recv() => {
                // Whether it can go depends on who is there now.
                let now = lives.borrow_and_update().clone();
                runner.lives(&now);
                runner.newcomer(newcomer);
            }
            Some(answer) = answered.recv() => {
                runner.answered(answer);
                for answer in waiting(|| answered.try_recv().ok()) {
                    runner.answered(answer);
                }
            }
            Some(Judged { id, granted }) = judged.recv() => runner.happen(Event::Claimed { id, granted }),
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
                runner.stopped = match order {
                    Order::Pause | Order::Stop => true,
                    Order::Continue => false,
                    Order::Rate(_) => runner.stopped,
                };
                runner.happen(match order {
                    Order::Pause => Event::Pause,
                    Order::Continue => Event::Continue,
                    Order::Stop => Event::Stop,
                    Order::Rate(moves_per_s) => Event::Rate { moves_per_s },
                });
                runner.judge_newcomers();
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
        runner.claim_no_more();
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
        self.force.follows(epoch);
        self.tell_who_is_ahead();
        self.happen(Event::Ring { epoch, members });
        self.look_everywhere();
    }

    fn lives(&mut self, lives: &crate::peer::gateways::Lives) {
        for event in self.fleet.look(lives) {
            if let Event::PeerEnded { peer } = event {
                // It may not have come to send on what arrives there for those that it gave us last.
                for orphan in self.taken.from(peer, Instant::now()) {
                    self.claim(orphan);
                }
                self.epochs.ended(peer);
                self.ended.push(peer);
            }
            self.happen(event);
        }
        self.tell_who_is_ahead();
        self.judge_newcomers();
    }

    fn hear(&mut self, heard: Heard) {
        let Heard { from, to, message } = heard;
        if let Said::Ready { id } = message
            && let Some(Piece { state: PieceState::Silent(silent), .. }) = self.pieces.get(&id.session)
            && let Err(error) = silent.taken.unchanged()
        {
            // The copy is not what our socket is any more. Unanswered, the move is given up in a moment, and the session
            // stays.
            tracing::warn!("{}: moved on while it was held, so it stays: {error}", silent.flow.client);
            return;
        }
        if let Some(from) = self.fleet.gateway(from.node, from.incarnation) {
            if let Said::State(state) = &message {
                // Before the core answers that it has heard.
                self.epochs.heard(from, state.epoch);
                self.tell_who_is_ahead();
            }
            if let Said::Go { id } = message
                && let Some(Piece { state: PieceState::Copy(copy), first_ack, .. }) = self.pieces.get(&id.session)
                && let Some(flow) = copy.flow.in_move(id, *first_ack)
            {
                self.taken.note(from, id, flow, Instant::now());
            }
            self.happen(Event::Said { from, to, message });
        } else {
            self.misheard.stranger();
        }
    }

    fn tell_who_is_ahead(&self) {
        let ahead = self.epochs.after(Epoch(self.published.ring.epoch().0));
        self.force.ahead(ahead.filter_map(|node| self.fleet.address(node)).collect());
    }

    /// Looks among all sessions for those that belong elsewhere.
    fn look_everywhere(&mut self) {
        let published = Arc::clone(&self.published);
        let users = self.sessions.users_where(|user| !published.is_ours(user));
        self.consider(users.into_iter().map(|(user, _)| user).collect());
        self.judge_newcomers();
    }

    /// Looks among those that have begun or ended since this was last done, for those that belong elsewhere or are over.
    fn look(&mut self) {
        let table::News { begun, ended } = self.sessions.take_news();
        let mut users = std::mem::take(&mut self.again);
        users.extend(begun);
        users.retain(|user| !self.published.is_ours(user));
        self.consider(users);
        let ended = ended.iter().filter_map(|table| self.names.get(table).copied());
        for session in ended.chain(std::mem::take(&mut self.doubtful)).collect::<Vec<_>>() {
            if let Some(Piece { user, state: PieceState::Runs(table), .. }) = self.pieces.get(&session)
                && !self.sessions.has(user, *table)
            {
                self.forget(session);
                self.happen(Event::Ended { session });
            }
        }
        self.judge_newcomers();
    }

    /// Sessions of these users belong elsewhere.
    fn consider(&mut self, users: Vec<Box<[u8]>>) {
        if users.is_empty() {
            return;
        }
        // Newcomers that are being let in may have a place in the table already, and have a name here.
        let begins = |piece: &&Piece| matches!(piece.state, PieceState::Begins { .. });
        let beginning: HashSet<Box<[u8]>> =
            self.pieces.values().filter(begins).map(|piece| piece.user.clone()).collect();
        for user in users {
            if beginning.contains(&user) {
                self.again.push(user);
                continue;
            }
            for (table, _) in self.sessions.of(&user) {
                if self.names.contains_key(&table) {
                    continue;
                }
                self.last_number += 1;
                let session = SessionId { born: self.me.incarnation, number: self.last_number };
                self.names.insert(table, session);
                self.pieces.insert(session, Piece::new(user.clone(), PieceState::Runs(table)));
                self.doubtful.push(session);
                let user = User(user.clone());
                self.happen(Event::Arrived { session, user, opened: true, platform: 0 });
            }
        }
    }

    /// A client has come that is another node's.
    fn newcomer(&mut self, newcomer: Misplaced) {
        self.last_number += 1;
        let session = SessionId { born: self.me.incarnation, number: self.last_number };
        let user = User(newcomer.asked.user().into());
        if self.newcomers.len() >= NEWCOMERS_MAX {
            return newcomer.put_off();
        }
        self.await_move(session, newcomer);
        self.happen(Event::Arrived { session, user, opened: false, platform: 0 });
        if self.judge_newcomer(session) {
            self.happen(Event::Tick);
        }
    }

    /// A newcomer waits from now on.
    fn await_move(&mut self, session: SessionId, newcomer: Misplaced) {
        let user = newcomer.asked.user().into();
        // It may have come from another node.
        let first_ack = self.pieces.get(&session).and_then(|piece| piece.first_ack);
        self.newcomers.insert(session, Instant::now() + NEWCOMER_LIMIT);
        self.pieces.insert(session, Piece { user, first_ack, state: PieceState::Waits(Box::new(newcomer)) });
    }

    /// Looks after all newcomers that wait.
    fn judge_newcomers(&mut self) {
        let mut any = false;
        for session in self.newcomers.keys().copied().collect::<Vec<_>>() {
            any |= self.judge_newcomer(session);
        }
        if any {
            self.happen(Event::Tick);
        }
    }

    /// Lets a newcomer that waits in if it has become ours, and turns it away if nothing comes of waiting. True if there
    /// are events then.
    fn judge_newcomer(&mut self, session: SessionId) -> bool {
        let Some(Piece { user, state: PieceState::Waits(_), .. }) = self.pieces.get(&session) else { return false };
        if self.published.is_ours(user) {
            self.let_in(session);
            return false;
        }
        let owner = NodeId(self.published.owner(user).number.get());
        let late = self.newcomers.get(&session).is_none_or(|&until| Instant::now() >= until);
        let over = self.stopped || late || self.fleet.has_ended(owner);
        if over {
            self.turn_away(session);
        }
        over
    }

    /// A newcomer that waits is not waited for any more, unless it is let in as soon as we have heard of the present ring.
    fn turn_away(&mut self, session: SessionId) {
        if let Some(Piece { user, first_ack, state: PieceState::Waits(newcomer) }) = self.pieces.remove(&session)
            && let Some(newcomer) = newcomer.turn_away()
        {
            self.pieces.insert(session, Piece { user, first_ack, state: PieceState::Waits(Box::new(newcomer)) });
            return;
        }
        self.forget(session);
        self.events.push_back(Event::Ended { session });
    }

    /// The gateway answers a newcomer that waits.
    fn let_in(&mut self, session: SessionId) {
        let Some(piece) = self.pieces.get_mut(&session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::Begins { then: None });
        let PieceState::Waits(newcomer) = before else {
            piece.state = before;
            return;
        };
        self.newcomers.remove(&session);
        let (answer, done) = (newcomer.let_in(), self.done.clone());
        spawn(async move {
            // Nobody is there when the gateway stops.
            let _ = done.send(Done::LetIn(session, answer.await.ok()));
        });
    }

    /// The gateway has answered a newcomer.
    fn is_let_in(&mut self, session: SessionId, answer: Option<LetIn>) {
        let Some(piece) = self.pieces.get_mut(&session) else { return };
        let PieceState::Begins { then } = piece.state else { return };
        match answer {
            Some(LetIn::Here(table)) => {
                piece.state = PieceState::Runs(table);
                self.names.insert(table, session);
                self.doubtful.push(session);
                self.happen(Event::Opened { session });
            }
            Some(LetIn::Misplaced(newcomer)) => {
                self.await_move(session, *newcomer);
                self.judge_newcomer(session);
            }
            None => {
                self.forget(session);
                return self.happen(Event::Ended { session });
            }
        }
        if let Some(next) = then {
            self.suspend(next);
        }
        // What that has brought about.
        self.happen(Event::Tick);
    }

    fn forget(&mut self, session: SessionId) {
        self.newcomers.remove(&session);
        let piece = self.pieces.remove(&session);
        match piece.as_ref().map(|piece| &piece.state) {
            Some(PieceState::Runs(table) | PieceState::Stops { table, .. }) => drop(self.names.remove(table)),
            _ => self.names.retain(|_, name| *name != session),
        }
        // If it is still in the table after all, it is found again.
        self.again.extend(piece.map(|piece| piece.user));
    }

    /// Begins what the core wants done.
    fn act(&mut self, action: Action<ByteBuf, ()>) {
        match action {
            Action::Suspend { id } => self.suspend(id),
            Action::Hold { id, to } => match self.flow_in(id) {
                Some(flow) => {
                    let to = MemberNumber::new(to.0).ok();
                    let promise = to.map(|to| Promise { to, by: self.me.incarnation.0 });
                    let _ = self.requests.send(Request { id, step: MoveStep::Hold, flow, promise });
                }
                None => self.events.push_back(Event::Failed { id, failure: Failure::Never }),
            },
            Action::Dump { id } => self.take_out(id),
            Action::Release { id } => match self.flow_in(id) {
                Some(flow) => self.ask(id, MoveStep::Release, flow),
                None => self.events.push_back(Event::Released { id }),
            },
            Action::Resume { id } => self.resume(id),
            Action::Repoint { id, to } => {
                let Some(Left { flow, first_ack, since }) = self.leaving.remove(&id) else { return };
                self.silence.note(since.elapsed());
                if let (Some(flow), Ok(to)) = (flow.in_move(id, Some(first_ack)), MemberNumber::new(to.0)) {
                    self.ask(id, MoveStep::Move { to }, flow);
                }
            }
            Action::Discard { id } => {
                self.newcomers.remove(&id.session);
                if let Some(Piece { state: PieceState::Silent(silent), .. }) = self.pieces.remove(&id.session) {
                    let Silent { flow, first_ack, since, .. } = *silent;
                    self.leaving.insert(id, Left { flow, first_ack, since });
                    let to = silent.to.and_then(|to| self.fleet.address(to));
                    if let Load::Session(_, place) = &silent.load
                        && let Some(table) = place.id()
                    {
                        self.names.remove(&table);
                    }
                    steps::give_up(*silent, to, id.generation, &self.remains);
                }
            }
            Action::Stranded { session } => {
                tracing::info!("session {session:?} belongs elsewhere and cannot be moved");
                if self.newcomers.contains_key(&session) {
                    self.turn_away(session);
                }
            }
            Action::Restore { id, user, dump, .. } => {
                match steps::make(&self.sessions, &self.remains, &dump, self.max_message) {
                    Some(copy) => {
                        let first_ack = Some(copy.first_ack);
                        let state = PieceState::Copy(Box::new(copy));
                        self.pieces.insert(id.session, Piece { user: user.0, first_ack, state });
                        self.events.push_back(Event::Restored { id });
                    }
                    None => self.events.push_back(Event::RestoreFailed { id }),
                }
            }
            Action::Activate { id } => self.activate(id),
            // A copy is dropped silently.
            Action::Drop { id } => drop(self.pieces.remove(&id.session)),
            Action::Claim { id, from } => match self.flow_in(id) {
                Some(flow) => self.claim(Orphan { id, from: from.node, flow }),
                None => self.events.push_back(Event::Claimed { id, granted: false }),
            },
            Action::Send { to, message } => {
                if let Said::Go { id } = message
                    && let Some(Piece { state: PieceState::Silent(silent), .. }) = self.pieces.get_mut(&id.session)
                {
                    silent.to = Some(to.node);
                }
                if let Said::Done { id, alive: true } = message
                    && let Some(beginning) = self.beginning.get_mut(&id)
                {
                    beginning.told = Some(to);
                    return;
                }
                diary::said(to, &message, |id| self.flow_in(id));
                self.fleet.say(to, message);
            }
            Action::Answer { .. } => {}
            Action::InForce { epoch } => {
                tracing::debug!("ring of epoch {} is in force among the gateways", epoch.0);
                self.force.in_force(epoch);
            }
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

    fn ask(&self, id: MoveId, step: MoveStep, flow: FlowMove) {
        // The one who asks lives as long as we do.
        let _ = self.requests.send(Request { id, step, flow, promise: None });
    }

    fn claim(&self, orphan: Orphan) {
        // The one who asks lives as long as we do.
        let _ = self.claims.send(Wanted::Orphan(orphan));
    }

    /// Of gateways that have ended, and of which it is decided what here was theirs, nothing more is claimed.
    fn claim_no_more(&mut self) {
        let Self { ended, handoff, claims, .. } = self;
        ended.retain(|&gateway| {
            let some = handoff.has_copies_of(gateway);
            if !some {
                // The one who asks lives as long as we do.
                let _ = claims.send(Wanted::NoMore(gateway));
            }
            some
        });
    }

    /// The connection of a session in a move of it.
    fn flow_in(&self, id: MoveId) -> Option<FlowMove> {
        let Piece { state, first_ack, .. } = self.pieces.get(&id.session)?;
        let flow = match state {
            PieceState::Stands(rest) => rest.flow,
            PieceState::Silent(silent) => silent.flow,
            PieceState::Copy(copy) => copy.flow,
            _ => return None,
        };
        flow.in_move(id, *first_ack)
    }

    fn suspend(&mut self, id: MoveId) {
        let Some(Piece { user, first_ack, state }) = self.pieces.remove(&id.session) else {
            return self.events.push_back(Event::Failed { id, failure: Failure::Over });
        };
        let state = match state {
            PieceState::Runs(table) => {
                let (sessions, user, done) = (self.sessions.clone(), user.clone(), self.done.clone());
                let stopping = spawn(async move {
                    let moving = sessions.take(&user, table).await.map(Box::new);
                    // If this is not heard the session goes on, as its place in the message is dropped. See `stopped`.
                    let _ = done.send(Done::Stopped(id, moving));
                });
                PieceState::Stops { table, stopping: stopping.abort_handle() }
            }
            PieceState::Begins { .. } => PieceState::Begins { then: Some(id) },
            PieceState::Waits(newcomer) => match Ends::of(&newcomer.stream) {
                Ok(flow) => {
                    // It stands still anyway.
                    self.events.push_back(Event::Suspended { id });
                    let Misplaced { stream, asked } = *newcomer;
                    let since = std::time::Instant::now();
                    PieceState::Stands(Box::new(Rest { stream, load: Load::Newcomer(asked), flow, since }))
                }
                Err(_) => {
                    self.events.push_back(Event::Failed { id, failure: Failure::Never });
                    PieceState::Waits(newcomer)
                }
            },
            other => {
                self.events.push_back(Event::Failed { id, failure: Failure::Again });
                other
            }
        };
        self.pieces.insert(id.session, Piece { user, first_ack, state });
    }

    /// Takes a session out of the kernel, here and now: that takes tens of microseconds, and more only of one with much in
    /// its queues, while to have it done elsewhere the session would be silent for longer.
    fn take_out(&mut self, id: MoveId) {
        let Some(Piece { user, mut first_ack, state }) = self.pieces.remove(&id.session) else { return };
        let PieceState::Stands(rest) = state else {
            self.pieces.insert(id.session, Piece { user, first_ack, state });
            return self.events.push_back(Event::Failed { id, failure: Failure::Again });
        };
        let flow = rest.flow;
        let state = match steps::take(*rest, first_ack) {
            Ok((silent, dump)) => {
                first_ack = Some(silent.first_ack);
                self.events.push_back(Event::Dumped { id, dump: dump.into() });
                PieceState::Silent(Box::new(silent))
            }
            Err(NotTaken { rest: Some(rest), failure }) => {
                self.events.push_back(Event::Failed { id, failure });
                PieceState::Stands(rest)
            }
            Err(NotTaken { rest: None, .. }) => {
                // Its name goes with it, and without that nobody could end its hold later.
                if let Some(flow) = flow.in_move(id, first_ack) {
                    self.ask(id, MoveStep::Release, flow);
                }
                self.forget(id.session);
                return self.events.push_back(Event::Failed { id, failure: Failure::Over });
            }
        };
        self.pieces.insert(id.session, Piece { user, first_ack, state });
    }

    /// It is here as it was before it was to move, or lost. There may be events then.
    fn resume(&mut self, id: MoveId) {
        let Some(Piece { user, first_ack, state }) = self.pieces.remove(&id.session) else { return };
        let after = match state {
            PieceState::Stops { table, stopping } => {
                stopping.abort();
                Some(PieceState::Runs(table))
            }
            PieceState::Stands(rest) => steps::go_on(rest.stream, rest.load),
            PieceState::Silent(silent) => steps::revive(*silent),
            PieceState::Begins { .. } => Some(PieceState::Begins { then: None }),
            other => Some(other),
        };
        match after {
            Some(state) => {
                self.pieces.insert(id.session, Piece { user, first_ack, state });
                self.doubtful.push(id.session);
                self.judge_newcomer(id.session);
            }
            None => {
                self.forget(id.session);
                self.events.push_back(Event::Ended { session: id.session });
            }
        }
    }

    fn activate(&mut self, id: MoveId) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return };
        let before = std::mem::replace(&mut piece.state, PieceState::Begins { then: None });
        let PieceState::Copy(copy) = before else {
            tracing::error!("move {id}: no copy to go on with");
            self.pieces.remove(&id.session);
            return self.events.push_back(Event::Ended { session: id.session });
        };
        match copy.flow.in_move(id, Some(copy.first_ack)) {
            Some(flow) => {
                self.beginning.insert(id, Beginning { copy, told: None });
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
            Some(state) => {
                tracing::debug!("{client}: session is here now, by move {id}");
                match state {
                    PieceState::Runs(table) => {
                        self.names.insert(table, id.session);
                        self.doubtful.push(id.session);
                    }
                    _ => {
                        self.sessions.newcomer_taken();
                        self.newcomers.insert(id.session, Instant::now() + NEWCOMER_LIMIT);
                    }
                }
                piece.state = state;
                // A newcomer is answered now, unless it belongs elsewhere already.
                self.judge_newcomer(id.session);
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
            Done::LetIn(session, answer) => self.is_let_in(session, answer),
        }
    }

    fn stopped(&mut self, id: MoveId, moving: Option<Box<Moving>>) {
        let Some(piece) = self.pieces.get_mut(&id.session) else { return go_on(moving) };
        let PieceState::Stops { table, .. } = piece.state else { return go_on(moving) };
        let Some(moving) = moving else {
            self.forget(id.session);
            return self.happen(Event::Failed { id, failure: Failure::Over });
        };
        match steps::at_rest(*moving) {
            Ok(rest) => {
                tracing::debug!("{}: stands still for move {id}", rest.flow.client);
                piece.state = PieceState::Stands(Box::new(rest));
                self.happen(Event::Suspended { id });
            }
            Err(_) => {
                piece.state = PieceState::Runs(table);
                self.doubtful.push(id.session);
                self.happen(Event::Failed { id, failure: Failure::Again });
            }
        }
    }

    /// The agent has answered.
    fn answered(&mut self, answered: Answered) {
        let Answered { request: Request { id, step, flow, .. }, outcome } = answered;
        match step {
            MoveStep::Hold => {
                let event = match outcome {
                    Some(MoveOutcome::Done) => Event::Held { id },
                    Some(MoveOutcome::Held { first_ack }) => {
                        if let Some(piece) = self.pieces.get_mut(&id.session) {
                            piece.first_ack = piece.first_ack.filter(|&known| known != 0).or(Some(first_ack));
                        }
                        Event::Held { id }
                    }
                    Some(MoveOutcome::NoService) => Event::Failed { id, failure: Failure::Never },
                    _ => {
                        tracing::debug!("{}: cannot be held: {outcome:?}", flow.client);
                        Event::Failed { id, failure: Failure::Again }
                    }
                };
                if event == (Event::Held { id }) {
                    tracing::debug!("{}: is held for move {id}", flow.client);
                }
                self.happen(event);
            }
            MoveStep::Release => self.happen(Event::Released { id }),
            // Not asked from here.
            MoveStep::Accept { .. } => {}
            MoveStep::Move { .. } => {
                if outcome == Some(MoveOutcome::Done) {
                    tracing::debug!("{}: what comes for it is sent on, by move {id}", flow.client);
                } else {
                    tracing::warn!("{}: what comes for it is not sent on: {outcome:?}", flow.client);
                }
            }
            MoveStep::Take => {
                if outcome != Some(MoveOutcome::Done) {
                    tracing::warn!("{}: the agent does not take it: {outcome:?}", flow.client);
                }
                if let Some(Beginning { copy, told }) = self.beginning.remove(&id) {
                    self.begin(id, *copy);
                    if let Some(to) = told {
                        let alive = self.pieces.contains_key(&id.session);
                        self.fleet.say(to, Said::Done { id, alive });
                    }
                    // What beginning has brought about.
                    self.happen(Event::Tick);
                }
            }
        }
    }
}

/// What else waits in a line, up to so much that nothing in another one waits for long.
fn waiting<T>(next: impl FnMut() -> Option<T>) -> impl Iterator<Item = T> {
    iter::from_fn(next).take(AT_ONCE)
}

/// A session that was stopped and is not wanted any more.
fn go_on(moving: Option<Box<Moving>>) {
    if let Some(moving) = moving {
        let Moving { stream, suspended, place } = *moving;
        place.resume(stream, suspended);
    }
}
