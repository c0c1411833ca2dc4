//! The task: events in, actions begun.
//!
//! | file | subject |
//! |---|---|
//! | `acting` | what the core wants done, begun |
//! | `motion` | one session's way from step to step |
//! | `newcomers` | clients that came to the wrong node and have had no answer yet |

mod acting;
mod motion;
mod newcomers;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    iter,
    sync::Arc,
    time::Duration,
};

use ringsteer_handoff::{
    Event, Handoff, Host, Progress,
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
    agent::{self, Request},
    claims::{self, Judged, Taken, Wanted},
    diary::Diary,
    fleet::{self, Fleet},
    force::{Epochs, Telling},
    misheard::Misheard,
    piece::{Copied, Left, Piece, PieceState},
    remains::Remains,
    silence::Silence,
    word::{Heard, Said},
};
use crate::{
    control::{Order, Published},
    gateway::{
        misplaced::LetIn,
        moving::{Moving, Sessions},
    },
    session::table,
};

/// How often to look for sessions that belong elsewhere, and for those that are over, among those that have begun or ended
/// since. One may have begun by an older ring while we looked for all by the newer one.
pub(super) const LOOK: Duration = Duration::from_secs(1);

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
    /// Users whose sessions have to be looked at once more, for one of them was just coming.
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
        // Copies have a place in the table already, and newcomers that are being let in may have one: they have a name here,
        // but what they will be called there is not known yet.
        let comes = |piece: &&Piece| matches!(piece.state, PieceState::Copy(_) | PieceState::Begins { .. });
        let coming: HashSet<Box<[u8]>> = self.pieces.values().filter(comes).map(|piece| piece.user.clone()).collect();
        for user in users {
            if coming.contains(&user) {
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
}

/// What else waits in a line, up to so much that nothing in another one waits for long.
fn waiting<T>(next: impl FnMut() -> Option<T>) -> impl Iterator<Item = T> {
    iter::from_fn(next).take(AT_ONCE)
}
