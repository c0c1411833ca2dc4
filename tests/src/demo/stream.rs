//! Pushes all the time: numbered, to everybody in turn, so many a second. A user gets the next one when the one before
//! has been answered, so they have to arrive in the order of their numbers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ringsteer::ring::{Epoch, MemberNumber, Ring};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};

use super::users::{Crowd, User};
use crate::{
    client::{BatchPusher, PushStatus},
    fleet::Fleet,
};

/// How often pushes are sent off.
const TICK: Duration = Duration::from_millis(10);

/// Most users of one batch.
const BATCH: usize = 50;

/// What was not sent in time is caught up with to this extent.
const BEHIND: Duration = Duration::from_millis(100);

/// How long a push is repeated until somebody knows what became of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait before it is.
const AGAIN: Duration = Duration::from_millis(20);

/// Pushes, until they are stopped.
pub struct Stream {
    shared: Arc<Shared>,
    task: JoinHandle<Result<()>>,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Counts {
    /// Answered as delivered.
    pub delivered: AtomicU64,
    /// Answered as offline, though everybody is there.
    pub offline: AtomicU64,
    /// Answered as unknown, or not at all, and sent again with the same id.
    pub again: AtomicU64,
    /// Nobody knew in the end.
    pub unknown: AtomicU64,
}

struct Shared {
    crowd: Arc<Crowd>,
    service: SocketAddr,
    /// By which batches are made: users of one owner go together.
    ring: Mutex<Ring>,
    counts: Counts,
    stopping: AtomicBool,
    /// Connections that wait for another batch, by the ring and the owner they were made for.
    idle: Mutex<BTreeMap<(Epoch, MemberNumber), Vec<BatchPusher>>>,
    /// What the last failure was, for people.
    trouble: Mutex<Option<String>>,
}

// === impl Stream ===

impl Stream {
    /// Begins, at this rate.
    pub fn start(fleet: &Fleet<'_>, crowd: &Arc<Crowd>, ring: &Ring, per_s: u32) -> Result<Self> {
        let shared = Arc::new(Shared {
            crowd: Arc::clone(crowd),
            service: fleet.push(),
            ring: Mutex::new(ring.clone()),
            counts: Counts::default(),
            stopping: AtomicBool::new(false),
            idle: Mutex::default(),
            trouble: Mutex::default(),
        });
        let task = fleet.lab.pusher().spawn(Arc::clone(&shared).run(per_s))?;
        Ok(Self { shared, task })
    }

    /// There is another ring.
    pub fn follow(&self, ring: &Ring) {
        *self.shared.ring.lock().expect("nobody panics with it") = ring.clone();
        self.shared.idle.lock().expect("nobody panics with it").clear();
    }

    /// Pushes delivered so far.
    pub fn delivered(&self) -> u64 {
        self.shared.counts.delivered.load(Ordering::SeqCst)
    }

    /// What the last failure was, if one was.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().expect("nobody panics with it").clone()
    }

    /// Sends no more and waits for the last answers; all counts.
    pub fn stop(self, fleet: &Fleet<'_>) -> Result<[u64; 4]> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        fleet.lab.router().block_on(self.task)??;
        let Counts { delivered, offline, again, unknown } = &self.shared.counts;
        Ok([delivered, offline, again, unknown].map(|count| count.load(Ordering::SeqCst)))
    }

    /// Nobody says anything any more; what is still on its way arrives within `limit`, and then everything was there, once
    /// and in order, and nobody was disconnected. `between` is what happened meanwhile.
    ///
    /// # Errors
    /// If not, or if that went wrong: whoever has lost something comes first.
    pub fn finish(self, fleet: &Fleet<'_>, crowd: &Crowd, between: Result<()>, limit: Duration) -> Result<()> {
        crowd.talk(false);
        let trouble = self.trouble();
        let [delivered, offline, _, unknown] = self.stop(fleet)?;
        fleet.lab.router().block_on(async {
            // What is still on its way arrives, or does not.
            let since = Instant::now();
            let waits = |user: &Arc<User>| {
                let account = user.account();
                account.missing() + account.unanswered() > 0
            };
            while crowd.users().iter().any(waits) && since.elapsed() < limit {
                sleep(Duration::from_millis(5)).await;
            }
        });
        let mut said = 0;
        for user in crowd.users() {
            let account = user.account();
            ensure!(account.gone.is_none(), "{} was disconnected: {:?}", user.name, account.gone);
            let wrong =
                [account.missing(), account.duplicated, account.reordered, account.unanswered(), account.garbled];
            ensure!(wrong == [0; 5], "{}: pushes lost, twice, out of order, echoes lost, wrong: {wrong:?}", user.name);
            said += account.said();
        }
        between?;
        ensure!(
            offline == 0 && unknown == 0,
            "{offline} pushes were answered offline, {unknown} not at all: {trouble:?}"
        );
        println!("{delivered} pushes and {said} messages were all there");
        ensure!(delivered > 0 && said > 0);
        Ok(())
    }
}

// === impl Shared ===

impl Shared {
    async fn run(self: Arc<Self>, per_s: u32) -> Result<()> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        let (mut cursor, mut number) = (0, 0);
        let mut paid = Instant::now();
        let each = Duration::from_secs(1) / per_s;
        while !self.stopping.load(Ordering::SeqCst) {
            tick.tick().await;
            while let Some(done) = under_way.try_join_next() {
                done?;
            }
            // What could not be sent for longer than that is not made good: then the rate is what it is.
            paid = paid.max(Instant::now().checked_sub(BEHIND).unwrap_or(paid));
            let users = self.crowd.users();
            let mut chosen = Vec::new();
            for _ in 0..users.len() {
                if paid.elapsed() < each {
                    break;
                }
                let user = &users[cursor % users.len()];
                cursor += 1;
                if !user.pushed_to.swap(true, Ordering::SeqCst) {
                    chosen.push(Arc::clone(user));
                    paid += each;
                }
            }
            number += 1;
            let ring = self.ring.lock().expect("nobody panics with it").clone();
            let mut by_owner: BTreeMap<MemberNumber, Vec<Arc<User>>> = BTreeMap::new();
            for user in chosen {
                by_owner.entry(ring.owner(user.name.as_bytes()).number).or_default().push(user);
            }
            for (owner, users) in by_owner {
                for (part, users) in users.chunks(BATCH).enumerate() {
                    let id = format!("demo-{number}-{owner}-{part}");
                    let text = self.crowd.push_text(number);
                    let place = (ring.epoch(), owner);
                    under_way.spawn(Arc::clone(&self).batch(place, id, number, text, users.to_vec()));
                }
            }
        }
        while let Some(done) = under_way.join_next().await {
            done?;
        }
        Ok(())
    }

    /// One push to some users, until it is known what became of it.
    async fn batch(
        self: Arc<Self>,
        place: (Epoch, MemberNumber),
        id: String,
        number: u32,
        text: String,
        mut users: Vec<Arc<User>>,
    ) {
        let since = Instant::now();
        loop {
            let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
            let left = match self.send(place, &id, &names, &text).await {
                Ok(statuses) => self.answered(number, &users, &statuses),
                Err(error) => {
                    *self.trouble.lock().expect("nobody panics with it") = Some(format!("{error:#}"));
                    users
                }
            };
            if left.is_empty() {
                return;
            }
            users = left;
            if since.elapsed() > PATIENCE {
                self.counts.unknown.fetch_add(users.len() as u64, Ordering::SeqCst);
                users.iter().for_each(|user| user.pushed_to.store(false, Ordering::SeqCst));
                return;
            }
            self.counts.again.fetch_add(users.len() as u64, Ordering::SeqCst);
            sleep(AGAIN).await;
        }
    }

    async fn send(
        &self,
        place: (Epoch, MemberNumber),
        id: &str,
        users: &[&str],
        text: &str,
    ) -> Result<Vec<PushStatus>> {
        let idle = self.idle.lock().expect("nobody panics with it").get_mut(&place).and_then(Vec::pop);
        let mut pusher = match idle {
            Some(pusher) => pusher,
            None => BatchPusher::connect(self.service).await.context("no connection to push on")?,
        };
        let statuses = pusher.push(id, users, text).await?;
        if self.ring.lock().expect("nobody panics with it").epoch() == place.0 {
            self.idle.lock().expect("nobody panics with it").entry(place).or_default().push(pusher);
        }
        Ok(statuses)
    }

    /// Takes the answers in; those of the users about whom nobody knows.
    fn answered(&self, number: u32, users: &[Arc<User>], statuses: &[PushStatus]) -> Vec<Arc<User>> {
        let mut left = Vec::new();
        for (user, status) in users.iter().zip(statuses) {
            match status {
                PushStatus::Delivered => {
                    self.counts.delivered.fetch_add(1, Ordering::SeqCst);
                    user.account().delivered(number);
                }
                PushStatus::Offline => {
                    self.counts.offline.fetch_add(1, Ordering::SeqCst);
                    *self.trouble.lock().expect("nobody panics with it") = Some(format!("{} is offline", user.name));
                }
                PushStatus::Unknown => {
                    left.push(Arc::clone(user));
                    continue;
                }
            }
            user.pushed_to.store(false, Ordering::SeqCst);
        }
        left
    }
}
