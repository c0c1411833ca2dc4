//! The users: one websocket each, through the virtual address, with an ordinary websocket library. They keep account of
//! everything that arrives, and, once they are told to, they talk: each message is numbered and comes back as an echo.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message},
};

use crate::fleet::Fleet;

/// How many connections are being set up at any one time.
const AT_ONCE: usize = 32;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is refused waits this long before dialling again.
const AGAIN: Duration = Duration::from_millis(20);

/// A talking user says something this often.
pub const TALK: Duration = Duration::from_millis(200);

/// How often what has arrived is looked at, by who waits for it.
const LOOK: Duration = Duration::from_millis(5);

/// The users of a demo, connected.
pub struct Users {
    crowd: Arc<Crowd>,
    /// How long each connection took, from the SYN to the 101.
    pub setup: Vec<Duration>,
}

/// All users, for the tasks.
pub struct Crowd {
    address: SocketAddr,
    /// What times are counted from.
    began: Instant,
    talking: AtomicBool,
    users: Mutex<Vec<Arc<User>>>,
}

/// One of them.
pub struct User {
    /// The id.
    pub name: String,
    /// Whether a push is on its way, whose answer has not come yet.
    pub pushed_to: AtomicBool,
    account: Mutex<Account>,
}

/// What a user has sent and seen.
#[derive(Debug, Default)]
pub struct Account {
    /// What is no numbered push and no echo.
    texts: Vec<String>,
    /// Numbers of pushes that were answered as delivered.
    delivered: Vec<u32>,
    /// Numbers of pushes that arrived.
    arrived: BTreeSet<u32>,
    /// Pushes that had arrived before.
    pub duplicated: usize,
    /// Pushes that arrived after a later one.
    pub reordered: usize,
    /// Messages said, and those of them that came back, in order.
    said: u32,
    echoed: u32,
    /// Messages that came back in another order or more than once.
    pub garbled: usize,
    /// The longest that a message was on its way since somebody last asked.
    longest: Duration,
    /// Why the connection ended, if it did.
    pub gone: Option<String>,
}

/// A user who got in.
struct Arrival {
    took: Duration,
    refusals: usize,
}

// === impl Users ===

impl Users {
    /// All of them.
    pub fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    /// Their ids.
    pub fn names(&self) -> Vec<String> {
        self.crowd.users().iter().map(|user| user.name.clone()).collect()
    }
}

/// Connects `count` users from the lab's first client host. The connections stay open until the lab ends.
pub fn connect(fleet: &Fleet<'_>, count: usize) -> Result<Users> {
    let crowd = Arc::new(Crowd {
        address: fleet.websocket(),
        began: Instant::now(),
        talking: AtomicBool::new(false),
        users: Mutex::default(),
    });
    let names: Vec<String> = (0..count).map(|index| format!("user-{index}")).collect();
    let joined = fleet.lab.client(0).spawn(Arc::clone(&crowd).join(names, AT_ONCE))?;
    let arrivals = fleet.lab.router().block_on(joined)??;
    Ok(Users { crowd, setup: arrivals.iter().map(|arrival| arrival.took).collect() })
}

/// How many users have got their push of `round`; waits up to `limit` for the last.
pub fn arrivals(fleet: &Fleet<'_>, users: &Users, round: &str, limit: Duration) -> usize {
    let deadline = Instant::now() + limit;
    let has_it = |user: &&Arc<User>| user.account().texts.contains(&text(round, &user.name));
    fleet.lab.client(0).block_on(async {
        loop {
            let all = users.crowd.users();
            let count = all.iter().filter(has_it).count();
            if count == all.len() || round == "portless" || Instant::now() >= deadline {
                return count;
            }
            sleep(LOOK).await;
        }
    })
}

/// What the push of `round` to `user` says.
pub fn text(round: &str, user: &str) -> String {
    format!("{round} push to {user}")
}

// === impl Crowd ===

impl Crowd {
    /// All who are there.
    pub fn users(&self) -> Vec<Arc<User>> {
        self.users.lock().expect("nobody panics with it").clone()
    }

    /// Has everybody talk, or be silent.
    pub fn talk(&self, talking: bool) {
        self.talking.store(talking, Ordering::SeqCst);
    }

    /// The text of a push with this number, sent now.
    pub fn push_text(&self, number: u32) -> String {
        format!("push {number} {}", self.now_us())
    }

    /// Connects users who come now, `at_once` at a time; how often they were refused before they got in.
    pub async fn newcomers(self: Arc<Self>, names: Vec<String>, at_once: usize) -> Result<usize> {
        Ok(self.join(names, at_once).await?.iter().map(|arrival| arrival.refusals).sum())
    }

    async fn join(self: Arc<Self>, names: Vec<String>, at_once: usize) -> Result<Vec<Arrival>> {
        let mut arrivals = Vec::new();
        let mut under_way = JoinSet::new();
        for name in names {
            if under_way.len() >= at_once
                && let Some(done) = under_way.join_next().await
            {
                arrivals.push(done??);
            }
            under_way.spawn(Arc::clone(&self).one(name));
        }
        while let Some(done) = under_way.join_next().await {
            arrivals.push(done??);
        }
        Ok(arrivals)
    }

    /// Connects one user, who is there from then on.
    async fn one(self: Arc<Self>, name: String) -> Result<Arrival> {
        let mut refusals = 0;
        let deadline = Instant::now() + PATIENCE;
        let (socket, took) = loop {
            let begin = Instant::now();
            let left = deadline.saturating_duration_since(begin);
            let dialled = timeout(left, self.dial(&name)).await.with_context(|| format!("{name} got no answer"))?;
            match dialled.with_context(|| format!("{name} was not let in"))? {
                Some(socket) => break (socket, begin.elapsed()),
                None => refusals += 1,
            }
            sleep(AGAIN).await;
        };
        let user = Arc::new(User { name, pushed_to: AtomicBool::new(false), account: Mutex::default() });
        self.users.lock().expect("nobody panics with it").push(Arc::clone(&user));
        tokio::spawn(async move {
            let why = self.live(&user, socket).await;
            user.account().gone = Some(why);
        });
        Ok(Arrival { took, refusals })
    }

    /// One attempt. None if the node is not, or not yet, the one for this user.
    async fn dial(&self, name: &str) -> Result<Option<WebSocketStream<TcpStream>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let request = format!("ws://{}/?sendID={name}&token=t&platformID=5&operationID=demo", self.address);
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Some(socket)),
            Err(Error::Http(answer)) if matches!(answer.status().as_u16(), 421 | 503) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Listens and talks for as long as the connection lives; why it ended.
    async fn live(&self, user: &User, mut socket: WebSocketStream<TcpStream>) -> String {
        // Not all at the same time.
        let first = TALK.mul_f64(fastrand::f64());
        let mut pace = interval_at((Instant::now() + first).into(), TALK);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                heard = socket.next() => match heard {
                    Some(Ok(Message::Text(text))) => user.account().heard(&text, self.now_us()),
                    Some(Ok(Message::Close(close))) => return format!("closed: {close:?}"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.to_string(),
                    None => return "ended".to_owned(),
                },
                _ = pace.tick() => if self.talking.load(Ordering::Relaxed) {
                    let number = user.account().say();
                    let text = format!("said {number} {}", self.now_us());
                    if let Err(error) = socket.send(Message::text(text)).await {
                        return error.to_string();
                    }
                },
            }
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

// === impl User ===

impl User {
    /// The account. Held for moments only.
    pub fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("nobody panics with it")
    }
}

// === impl Account ===

impl Account {
    /// A push with this number was answered as delivered.
    pub fn delivered(&mut self, number: u32) {
        self.delivered.push(number);
    }

    /// The longest that a message was on its way since this was last asked.
    pub fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// Pushes that were answered as delivered and have not arrived.
    pub fn missing(&self) -> usize {
        self.delivered.iter().filter(|number| !self.arrived.contains(number)).count()
    }

    /// Messages said that have not come back.
    pub fn unanswered(&self) -> usize {
        (self.said - self.echoed) as usize
    }

    /// Messages said.
    pub fn said(&self) -> usize {
        self.said as usize
    }

    /// Another one is said.
    fn say(&mut self) -> u32 {
        self.said += 1;
        self.said
    }

    fn heard(&mut self, text: &str, now_us: u64) {
        let Some((kind, numbers)) = text.split_once(' ') else { return self.texts.push(text.to_owned()) };
        let mut numbers = numbers.split(' ').map(str::parse::<u64>);
        match (kind, numbers.next(), numbers.next()) {
            ("push", Some(Ok(number)), Some(Ok(sent_us))) => self.pushed(number as u32, sent_us, now_us),
            ("said", Some(Ok(number)), Some(Ok(sent_us))) => self.answered(number as u32, sent_us, now_us),
            _ => self.texts.push(text.to_owned()),
        }
    }

    fn pushed(&mut self, number: u32, sent_us: u64, now_us: u64) {
        let late = self.arrived.last().is_some_and(|last| *last > number);
        match self.arrived.insert(number) {
            false => self.duplicated += 1,
            true => self.reordered += usize::from(late),
        }
        self.took(sent_us, now_us);
    }

    fn answered(&mut self, number: u32, sent_us: u64, now_us: u64) {
        if number == self.echoed + 1 {
            self.echoed = number;
        } else {
            self.garbled += 1;
        }
        self.took(sent_us, now_us);
    }

    fn took(&mut self, sent_us: u64, now_us: u64) {
        self.longest = self.longest.max(Duration::from_micros(now_us.saturating_sub(sent_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn whatever_goes_wrong_with_pushes_is_counted() {
        let mut account = Account::default();
        (1..=6).for_each(|number| account.delivered(number));
        for (number, sent_us) in [(1, 10), (2, 20), (2, 30), (4, 40), (3, 50), (6, 60)] {
            account.heard(&format!("push {number} {sent_us}"), 1060);
        }
        assert_eq!((account.missing(), account.duplicated, account.reordered), (1, 1, 1));
        assert_eq!(account.take_longest().as_micros(), 1050);
        assert_eq!(account.take_longest().as_micros(), 0);
    }

    #[test]
    fn echoes_have_to_come_back_once_and_in_order() {
        let mut account = Account::default();
        for _ in 0..4 {
            account.say();
        }
        for number in [1, 2, 2, 4] {
            account.heard(&format!("said {number} 0"), 0);
        }
        assert_eq!((account.unanswered(), account.garbled, account.said()), (2, 2, 4));
        account.heard("portless push to user-7", 0);
        assert_eq!(account.texts, ["portless push to user-7"]);
    }
}
