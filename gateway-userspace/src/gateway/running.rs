//! A session that runs: the task between its socket, its line and its core.
//!
//! An idle session must cost little, for there are many of them. So its task holds no buffer to read into (what is read
//! goes through one that the thread's tasks share), nothing to write, and no timer.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
};

use ringsteer_openim::dispatch::{Question, Ticket};
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
};

use super::{
    Shared,
    http::Connection,
    line::Line,
    moving::{Moving, Place},
    openim::{self, Watcher},
};
use crate::{
    presence::{Platforms, watching::Knows},
    session::{
        application::Application,
        core::{Action, End, Session},
        message::Parcel,
        outgoing::MAX_SLICES,
        suspended::Suspended,
        table::{Outbox as _, SessionId},
    },
};

/// How much is read at once, in bytes.
const READ: usize = 64 * 1024;

thread_local! {
    /// Where bytes are read to before the session has looked at them.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A session's place in the table, given up when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) shared: Arc<Shared>,
    pub(super) user: Box<[u8]>,
    pub(super) id: SessionId,
    /// Users of whose status it is told.
    watched: Vec<String>,
    /// Users about whom it has asked and has no answer yet.
    asked: Vec<String>,
}

/// A session with its connection.
pub(super) struct Running {
    shared: Arc<Shared>,
    stream: TcpStream,
    line: Arc<Line>,
    session: Session,
    /// None once nothing more will be sent to it.
    registration: Option<Registration>,
}

/// What a session's task does next.
enum Next {
    /// Waits.
    Wait,
    /// Ends.
    End(End),
    /// Hands the session over.
    Rest,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.sessions().remove(&self.user, self.id);
        self.shared.unwatch(&self.watcher(), &self.watched);
        // Also if the session goes on elsewhere: others look there then.
        self.shared.presence_changed(&self.user);
    }
}

// === impl Registration ===

impl Registration {
    /// The place of a session that was put into the table.
    pub(super) fn new(shared: &Arc<Shared>, user: &[u8], id: SessionId) -> Self {
        Self { shared: Arc::clone(shared), user: user.into(), id, watched: Vec::new(), asked: Vec::new() }
    }

    /// The session as one that watches others.
    fn watcher(&self) -> Watcher {
        Watcher::new(self.id, &self.user)
    }

    /// The session is told of these users from now on, and of those no longer. It asks about the former.
    fn watch(&mut self, more: Vec<String>, fewer: &[String]) {
        let watcher = self.watcher();
        self.shared.unwatch(&watcher, fewer);
        self.shared.watch(&watcher, more.iter().map(|user| (user.as_bytes(), Knows::Nothing)));
        self.watched.retain(|user| !fewer.contains(user));
        self.watched.extend(more);
    }

    /// The session is back, or has come here, and was told that of those whom it watches.
    pub(super) fn watch_again(&mut self, watched: Vec<String>, told: Vec<Option<Platforms>>) {
        if !watched.is_empty() {
            let told = told.into_iter().chain(std::iter::repeat(None)).map(Knows::Told);
            self.shared.watch(&self.watcher(), watched.iter().map(String::as_bytes).zip(told));
            self.watched = watched;
        }
    }

    /// The session is told of nobody any more. What it was told of these.
    fn watch_no_more(&mut self, users: &[String]) -> Vec<Option<Platforms>> {
        self.watched.clear();
        self.shared.unwatch(&self.watcher(), users)
    }

    /// What it has asked is answered: a session asks one thing at a time.
    fn answered(&mut self) {
        if !self.asked.is_empty() {
            self.shared.status_answered(&self.watcher(), &std::mem::take(&mut self.asked));
        }
    }
}

// === impl Running ===

impl Running {
    /// A session whose client is about to learn of it, or has had it for long; it is in the table already.
    pub(super) fn new(stream: TcpStream, line: Arc<Line>, session: Session, registration: Registration) -> Self {
        let shared = Arc::clone(&registration.shared);
        Self { shared, stream, line, session, registration: Some(registration) }
    }

    /// Runs the session, as one of the gateway's tasks, to its end or until somebody takes it.
    pub(super) fn spawn(self) {
        let tasks = self.shared.tasks.clone();
        tasks.spawn(self.run());
    }

    async fn run(mut self) {
        let client = self.line.client();
        loop {
            match self.serve().await {
                Ok(Next::Wait) => {}
                Ok(Next::End(End::Agreed)) => return tracing::debug!("{client}: session ends"),
                Ok(Next::End(End::Cut)) => {
                    // Who has said close will say nothing more; RFC 6455 has the server end the connection first.
                    tracing::debug!("{client}: session ends with our word");
                    let close_timeout = self.shared.limits.close_timeout;
                    // Boxed, for it would make every session's task larger.
                    return Box::pin(Connection::new(self.stream, client).linger(close_timeout)).await;
                }
                Ok(Next::Rest) => match self.rest() {
                    Some(back) => self = back,
                    None => return tracing::debug!("{client}: session is taken"),
                },
                Err(error) => return tracing::debug!("{client}: session is lost: {error}"),
            }
        }
    }

    /// Does what can be done now, then waits until there is more.
    ///
    /// # Errors
    /// If the connection is lost, or the client does not take our last words in time.
    async fn serve(&mut self) -> io::Result<Next> {
        loop {
            self.obey();
            self.act();
            self.write()?;
            // Writing may have made room for more of everything.
            let room = self.session.wants_messages() && !self.line.is_quiet();
            if !room && !self.session.is_leaving() && !self.session.has_actions() {
                break;
            }
        }
        if let Some(end) = self.session.ended() {
            self.registration = None;
            return Ok(Next::End(end));
        }
        if self.session.can_suspend() {
            return Ok(Next::Rest);
        }
        let now_ms = self.shared.sweeper.now_ms();
        if now_ms >= self.session.deadline_ms() {
            self.session.expire(now_ms).map_err(|_| ErrorKind::TimedOut)?;
            return Ok(Next::Wait);
        }
        self.shared.sweeper.set_deadline(&self.line, self.session.deadline_ms());

        let interest = match (self.session.wants_bytes(), self.session.wants_to_write()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => {
                self.line.changed().await;
                return Ok(Next::Wait);
            }
        };
        let ready = tokio::select! {
            ready = self.stream.ready(interest) => ready?,
            () = self.line.changed() => Ready::EMPTY,
        };
        if ready.is_readable() && self.session.wants_bytes() {
            self.read()?;
        }
        Ok(Next::Wait)
    }

    /// Takes what waits for the session, as long as there is room.
    fn obey(&mut self) {
        let now_ms = self.shared.sweeper.now_ms();
        while self.session.wants_messages() {
            match self.line.next() {
                Some(message) => self.session.send(&message),
                None => break,
            }
        }
        let orders = self.line.orders();
        for (ticket, answer) in orders.answers {
            self.session.answered(ticket, answer, now_ms);
            if let Some(registration) = &mut self.registration {
                registration.answered();
            }
        }
        if let Some(farewell) = orders.farewell {
            self.session.end(farewell);
        }
        match orders.is_wanted {
            true => self.session.halt(),
            false => self.session.unhalt(now_ms),
        }
        if self.session.is_leaving() {
            // Out of the table first: what is pushed from now on must not count as delivered.
            self.registration = None;
            while let Some(message) = self.line.next() {
                self.session.send(&message);
            }
            if let Some(code) = self.session.leave(now_ms) {
                self.shared.counters.violated(code);
            }
        }
    }

    /// Does what the session wants of others.
    fn act(&mut self) {
        for action in self.session.actions() {
            match (action, &mut self.registration) {
                (Action::Ask(ticket, question), _) => self.ask(ticket, question),
                (Action::Background(background), Some(Registration { shared, user, id, .. })) => {
                    shared.sessions().set_background(user, *id, background);
                }
                (Action::Watch { more, fewer }, Some(registration)) => registration.watch(more, &fewer),
                // It is leaving.
                (_, None) => {}
            }
        }
    }

    fn ask(&mut self, ticket: Ticket, question: Question) {
        let Application::OpenIm(openim) = self.session.application() else { return };
        let watcher = self.registration.as_ref().map(Registration::watcher);
        if let (Question::OnlineStatus(users), Some(registration)) = (&question, &mut self.registration) {
            registration.asked = users.clone();
        }
        let caller = openim::caller(openim.client(), &ticket.operation_id);
        let (shared, line) = (Arc::clone(&self.shared), Arc::clone(&self.line));
        self.shared.tasks.spawn(async move {
            let answer = shared.ask_for(caller, watcher, question).await;
            line.answer((ticket, answer));
        });
    }

    fn write(&mut self) -> io::Result<()> {
        while self.session.wants_to_write() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let written = match self.session.to_write(&mut slices) {
                [one] => self.stream.try_write(one),
                several => self.stream.try_write_vectored(several),
            };
            match written {
                Ok(bytes) => self.session.written(bytes, self.shared.sweeper.now_ms()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| match self.stream.try_read(buffer) {
            Ok(0) => {
                self.registration = None;
                self.session.client_is_gone();
                Ok(())
            }
            Ok(length) => {
                self.session.receive(&buffer[..length], self.shared.sweeper.now_ms());
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Takes the session apart for who wants it; gives it back if nobody does any more, or it ends.
    fn rest(self) -> Option<Self> {
        let Self { shared, stream, line, session, registration } = self;
        let Some(mut registration) = registration else { unreachable!("it is not leaving, or it could not rest") };
        // An end that was ordered comes first: the session is out of the table already.
        let moved = if line.is_ending() { None } else { line.taker() };
        let Some(taker) = moved else {
            drop(line.taker());
            return Some(Self { shared, stream, line, session, registration: Some(registration) });
        };
        // What is told from here on is told where it goes on.
        let told = registration.watch_no_more(&session.application().watched());
        // From here on nothing is added to the queue.
        let Some(place) = Place::begin_move(registration) else {
            // Somebody took it out of the table, which comes with an end.
            drop(taker);
            return Some(Self { registration: None, shared, stream, line, session });
        };
        let now_ms = shared.sweeper.now_ms();
        let core = match session.suspend(now_ms) {
            Ok(core) => core,
            Err(_) => unreachable!("asked before"),
        };
        let queue = std::iter::from_fn(|| line.next()).map(|message| message.to_parcel()).collect();
        let suspended = Suspended {
            user: place.user().to_vec(),
            card: place.card().clone(),
            age_ms: now_ms.saturating_sub(line.since_ms()),
            queue,
            core,
            told,
        };
        match taker.send(Moving { stream, suspended, place }) {
            Ok(()) => None,
            // Nobody waits any more: it goes on.
            Err(Moving { stream, suspended, place }) => place.go_on(stream, line.client(), suspended),
        }
    }
}

/// Queues the messages of a suspended session again. They had a place; so they have one now, unless this node's limits are
/// lower than the other's: then the oldest are sent.
pub(super) fn requeue(line: &Arc<Line>, queue: Vec<Parcel>) {
    for parcel in queue {
        if line.offer(parcel.into()).is_err() {
            break;
        }
    }
}
