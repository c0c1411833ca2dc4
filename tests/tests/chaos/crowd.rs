//! Users who talk and are pushed to without a pause, what they keep account of, and what must be true of it.
//!
//! What a user says is numbered and comes back as an echo, in order. Pushes to a user are numbered, too; the next one is
//! sent when the one before has been answered. Who has been disconnected logs in again.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::ring::Ring;
use ringsteer_tests::{
    client::{BatchPusher, Connection, Dial, Login, Message, Opening, PushStatus, Shape, open},
    fleet::Fleet,
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_tungstenite::tungstenite;

use super::{LIMIT, LOOK, trail::Trail};

/// A user says something this often.
const TALK: Duration = Duration::from_millis(100);

/// Messages that may be under way before a user waits for an echo.
const AHEAD: usize = 4;

/// Between two pushes to all users together.
const PUSH: Duration = Duration::from_millis(4);

/// The users of a round.
pub struct Crowd {
    users: Vec<Arc<User>>,
    ending: Arc<Ending>,
    talkers: Mutex<Vec<JoinHandle<Result<()>>>>,
    pushers: Mutex<Vec<JoinHandle<Result<()>>>>,
}

/// What has been told to end.
#[derive(Default)]
struct Ending {
    pushes: AtomicBool,
    talk: AtomicBool,
}

struct User {
    name: String,
    account: Mutex<Account>,
}

#[derive(Default)]
struct Account {
    lives: Vec<Life>,
    pushes: Vec<Pushed>,
    /// The last echo of anything.
    echoed: Option<Instant>,
}

/// One connection.
struct Life {
    client: SocketAddr,
    opened: Instant,
    /// When and how it ended, if the user did not want that.
    ended: Option<(Instant, End)>,
    /// Numbers of pushes, as they came.
    got: Vec<usize>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With a close frame.
    Said,
    /// By the end of the stream.
    Closed,
    Reset,
}

/// A push, by its place in the account.
struct Pushed {
    sent: Instant,
    attempts: u32,
    delivered: bool,
}

// === impl Crowd ===

impl Crowd {
    /// Has users come, and returns when each has heard an echo and got a push.
    pub fn gather(fleet: &Fleet<'_>, names: Vec<String>) -> Result<Self> {
        let ending = Arc::new(Ending::default());
        let user = |name| Arc::new(User { name, account: Mutex::default() });
        let users: Vec<_> = names.into_iter().map(user).collect();
        let (websocket, service) = (fleet.websocket(), fleet.push());
        let pause = PUSH * u32::try_from(users.len())?;
        let spawn_talker =
            |user: &Arc<User>| fleet.lab.client(0).spawn(talk(websocket, Arc::clone(user), Arc::clone(&ending)));
        let spawn_pusher =
            |user: &Arc<User>| fleet.lab.pusher().spawn(push(service, pause, Arc::clone(user), Arc::clone(&ending)));
        let talkers = users.iter().map(spawn_talker).collect::<Result<_>>()?;
        let crowd =
            Self { users, ending: Arc::clone(&ending), talkers: Mutex::new(talkers), pushers: Mutex::default() };
        crowd.wait_for("that all have come", |account| account.echoed.is_some())?;
        // Pushes from now on: before, they would have been called offline, and rightly.
        *crowd.pushers.lock().expect("nobody panics with it") =
            crowd.users.iter().map(spawn_pusher).collect::<Result<_>>()?;
        crowd.talk_goes_on()?;
        Ok(crowd)
    }

    /// How many of them a node owns.
    pub fn owned(&self, ring: &Ring, node: usize) -> u64 {
        let number = ring.members()[node].number;
        self.users.iter().filter(|user| ring.owner(user.name.as_bytes()).number == number).count() as u64
    }

    /// The connections of those.
    pub fn clients_of(&self, ring: &Ring, node: usize) -> Vec<SocketAddr> {
        let number = ring.members()[node].number;
        let owned = self.users.iter().filter(|user| ring.owner(user.name.as_bytes()).number == number);
        owned.filter_map(|user| user.account().lives.last().map(|life| life.client)).collect()
    }

    /// Waits until each user has heard an echo, and got a push that was called delivered, both begun after this was called.
    pub fn talk_goes_on(&self) -> Result<()> {
        let since = Instant::now();
        self.wait_for("that talk and pushes go on", |account| {
            let whole = |(number, pushed): (usize, &Pushed)| {
                let life = account.lives.last();
                pushed.sent > since && pushed.delivered && life.is_some_and(|life| life.got.contains(&number))
            };
            // With so many messages under way an echo may be of one said before.
            account.echoed.is_some_and(|at| at > since + TALK * AHEAD as u32)
                && account.pushes.iter().enumerate().rev().take(8).any(whole)
        })
    }

    /// An error if one of the users has given up.
    pub fn nobody_has_failed(&self) -> Result<()> {
        for tasks in [&self.talkers, &self.pushers] {
            let mut tasks = tasks.lock().expect("nobody panics with it");
            if let Some(index) = tasks.iter().position(JoinHandle::is_finished) {
                let ended = tasks.remove(index);
                let runtime = tokio::runtime::Builder::new_current_thread().build()?;
                runtime.block_on(ended)??;
                bail!("a user has gone before the end");
            }
        }
        Ok(())
    }

    /// Everybody leaves, once all pushes are answered and have come.
    pub fn disperse(&self, fleet: &Fleet<'_>) -> Result<()> {
        let join = |tasks: &Mutex<Vec<JoinHandle<Result<()>>>>| {
            let tasks = std::mem::take(&mut *tasks.lock().expect("nobody panics with it"));
            let joined = tasks.into_iter().map(|task| fleet.lab.router().block_on(task)?);
            // All are waited for, whatever the first has come to.
            joined.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()
        };
        self.ending.pushes.store(true, Ordering::SeqCst);
        let pushed = join(&self.pushers);
        // A push is called delivered when it is queued; what is missing afterwards is for `judge` to say.
        let since = Instant::now();
        while self.users.iter().any(|user| user.account().missing() > 0) && since.elapsed() < LIMIT {
            std::thread::sleep(LOOK);
        }
        self.ending.talk.store(true, Ordering::SeqCst);
        join(&self.talkers).and(pushed)
    }

    /// What must be true of each account; a word about all of them.
    pub fn judge(&self, trail: &Trail) -> Result<String> {
        let (mut pushes, mut died, mut again) = (0, 0, 0);
        let mut ends: BTreeMap<String, usize> = BTreeMap::new();
        for user in &self.users {
            let account = user.account();
            for (index, life) in account.lives.iter().enumerate() {
                let Some((_, how)) = life.ended else { continue };
                *ends.entry(format!("{how:?}")).or_default() += 1;
                // Whoever logs in again, does so at a gateway that lives on.
                let may = index == 0 && trail.may_end(life.client);
                ensure!(may, "{} at {} was disconnected ({how:?}), connection {index}", user.name, life.client);
            }
            account.pushes_are_right().with_context(|| user.name.clone())?;
            pushes += account.pushes.len();
            died += account.died();
            again += account.pushes.iter().filter(|push| push.attempts > 1).count();
        }
        Ok(format!(
            "{} users, ends {ends:?}; {pushes} pushes, {again} sent again, {died} queued for connections that ended",
            self.users.len()
        ))
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Account) -> bool) -> Result<()> {
        let since = Instant::now();
        for user in &self.users {
            while !is_so(&user.account()) {
                self.nobody_has_failed()?;
                ensure!(since.elapsed() < 2 * LIMIT, "waiting for {what}: {} does not", user.name);
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

// === impl User ===

impl User {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("nobody panics with it")
    }
}

// === impl Account ===

impl Account {
    /// The connection that was there when a push was sent.
    fn life_at(&self, when: Instant) -> Option<&Life> {
        self.lives.iter().rev().find(|life| life.opened <= when)
    }

    /// Whether the connection that a push was for has ended: then it may have been queued there, and died with it.
    fn is_excused(&self, push: &Pushed) -> bool {
        self.life_at(push.sent).is_none_or(|life| life.ended.is_some())
    }

    fn has_come(&self, number: usize) -> bool {
        self.lives.iter().any(|life| life.got.contains(&number))
    }

    /// Pushes called delivered to a connection that lives, which have not come.
    fn missing(&self) -> usize {
        let missing =
            |(number, push): &(usize, &Pushed)| push.delivered && !self.is_excused(push) && !self.has_come(*number);
        self.pushes.iter().enumerate().filter(missing).count()
    }

    /// Pushes called delivered that were queued for a connection that ended, and did not come.
    fn died(&self) -> usize {
        let died =
            |(number, push): &(usize, &Pushed)| push.delivered && self.is_excused(push) && !self.has_come(*number);
        self.pushes.iter().enumerate().filter(died).count()
    }

    fn pushes_are_right(&self) -> Result<()> {
        for (number, push) in self.pushes.iter().enumerate() {
            let Pushed { delivered, attempts, .. } = push;
            if self.is_excused(push) {
                continue;
            }
            ensure!(*delivered, "push {number} was called offline, and the user was there");
            ensure!(self.has_come(number), "push {number} was called delivered after {attempts} attempts, and was not");
        }
        for life in &self.lives {
            let mut last = None;
            for (index, &number) in life.got.iter().enumerate() {
                let once = self.pushes.get(number).is_some_and(|push| push.attempts == 1);
                let twice = life.got[..index].contains(&number);
                // One whose answer was lost with a gateway is sent again, and may come again.
                ensure!(!once || !twice, "push {number} came twice");
                ensure!(!once || last < Some(number), "push {number} came after push {last:?}");
                last = last.max(Some(number));
            }
        }
        Ok(())
    }
}

// === talking ===

/// Logs in. Refused or reset, it tries again: a ring may be changing, a gateway may be starting.
async fn login(websocket: SocketAddr, user: &str) -> Result<Connection> {
    let since = Instant::now();
    loop {
        let opening = async {
            let stream = Dial::new(websocket).connect().await?;
            open(stream, &[&Login::new(user).request(Shape::Native)]).await
        };
        match opening.await {
            Ok(Opening::Open(connection)) => return Ok(*connection),
            other => ensure!(since.elapsed() < 2 * LIMIT, "{user} cannot log in: {other:?}"),
        }
        sleep(LOOK).await;
    }
}

/// Talks until told to stop, and logs in again whenever the connection has ended.
async fn talk(websocket: SocketAddr, user: Arc<User>, ending: Arc<Ending>) -> Result<()> {
    loop {
        let mut connection = login(websocket, &user.name).await?;
        let life =
            Life { client: connection.stream().local_addr()?, opened: Instant::now(), ended: None, got: Vec::new() };
        user.account().lives.push(life);
        let ended = live(&mut connection, &user, &ending).await.with_context(|| user.name.clone())?;
        let Some(end) = ended else {
            return connection.close().await.with_context(|| format!("{} says goodbye", user.name));
        };
        user.account().lives.last_mut().expect("it was just pushed").ended = Some((Instant::now(), end));
    }
}

/// One connection; how it ended, unless the user is to go.
async fn live(connection: &mut Connection, user: &User, ending: &Ending) -> Result<Option<End>> {
    let mut pace = interval(TALK);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said: VecDeque<(Instant, String)> = VecDeque::new();
    let mut number = 0usize;
    loop {
        tokio::select! {
            heard = connection.receive() => match heard {
                Ok(Message::Text(text)) => match text.strip_prefix("push ") {
                    Some(number) => {
                        let number = number.parse().with_context(|| format!("no push: {text:.60}"))?;
                        user.account().lives.last_mut().expect("there is one").got.push(number);
                    }
                    None => {
                        let (_, wanted) = said.pop_front().with_context(|| format!("unasked: {text:.60}"))?;
                        ensure!(*text == *wanted, "said {wanted:.60}, heard {text:.60}");
                        user.account().echoed = Some(Instant::now());
                    }
                },
                Ok(Message::Close(_)) => return Ok(Some(End::Said)),
                Ok(_) => {}
                Err(error) => return End::of(error).map(Some),
            },
            _ = pace.tick() => {
                if ending.talk.load(Ordering::SeqCst) && said.is_empty() {
                    return Ok(None);
                }
                // An end that nobody tells is silence.
                ensure!(said.front().is_none_or(|(at, _)| at.elapsed() < LIMIT), "left in silence");
                if said.len() < AHEAD {
                    // Most in one segment, some in many.
                    let padding = "x".repeat([10, 1_000, 10, 20_000][number % 4]);
                    let text = format!("{} says {number} {padding}", user.name);
                    number += 1;
                    said.push_back((Instant::now(), text.clone()));
                    if let Err(error) = connection.send(Message::text(text)).await {
                        return End::of(error).map(Some);
                    }
                }
            }
        }
    }
}

impl End {
    /// What kind of end an error is.
    ///
    /// # Errors
    /// If it is none that a gateway or a kernel makes in order.
    fn of(error: anyhow::Error) -> Result<Self> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        use tungstenite::{Error, error::ProtocolError};
        match error.downcast_ref::<Error>() {
            Some(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(Self::Closed),
            Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Ok(Self::Closed),
            Some(Error::Io(error)) if matches!(error.kind(), ConnectionReset | BrokenPipe) => Ok(Self::Reset),
            None if error.to_string() == "closed" => Ok(Self::Closed),
            _ => Err(error.context("not a clean end")),
        }
    }
}

// === pushing ===

/// Pushes to a user, one numbered push after the other, until told to stop.
async fn push(service: SocketAddr, pause: Duration, user: Arc<User>, ending: Arc<Ending>) -> Result<()> {
    let mut pusher = None;
    for number in 0.. {
        let (id, text) = (format!("{}-{number}", user.name), format!("push {number}"));
        let sent = Instant::now();
        let mut attempts = 0;
        let delivered = loop {
            attempts += 1;
            match attempt(service, &mut pusher, &id, &user.name, &text).await {
                Ok(PushStatus::Delivered) => break true,
                Ok(PushStatus::Offline) => break false,
                Ok(PushStatus::Unknown) => {}
                Err(error) => {
                    pusher = None;
                    ensure!(sent.elapsed() < 2 * LIMIT, "push {number} to {}: {error:#}", user.name);
                }
            }
            ensure!(sent.elapsed() < 2 * LIMIT, "nobody knows what became of push {number} to {}", user.name);
            sleep(LOOK).await;
        };
        user.account().pushes.push(Pushed { sent, attempts, delivered });
        if ending.pushes.load(Ordering::SeqCst) {
            break;
        }
        sleep(pause).await;
    }
    Ok(())
}

async fn attempt(
    service: SocketAddr,
    pusher: &mut Option<BatchPusher>,
    id: &str,
    user: &str,
    text: &str,
) -> Result<PushStatus> {
    let connected = match pusher.take() {
        Some(connected) => connected,
        None => BatchPusher::connect(service).await?,
    };
    let connected = pusher.insert(connected);
    let statuses = connected.push(id, &[user], text).await?;
    statuses.first().copied().context("an answer about nobody")
}
