//! One push to many users, from its first look to its outcomes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    forward::{Batch, MAX_NAMES},
    lock,
};
use crate::{
    gateway::{Shared, moving::Delivering},
    push::{
        Outcome, Reached,
        memory::{Key, Known},
        round::{Ask, Local, Places, Round, Steps, Wanted, Went},
    },
    random::Spread,
    ring::NodeAddress,
    session::{
        message::Message,
        table::{Card, Delivery, Fate},
    },
};

/// How long to wait before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(25);

/// How long a push goes on after whoever wanted it has given up: so long its outcome is still looked for, and a repeat
/// waits for that instead of being a second push.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// A push to users.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Push {
    /// What it is called by who wants it made once only. Without, it is made each time.
    pub(in crate::gateway) id: Option<String>,
    /// Whom to.
    pub(in crate::gateway) users: Vec<Wanted>,
    /// What.
    pub(in crate::gateway) message: Message,
    /// The nodes that have been asked already.
    pub(in crate::gateway) via: Vec<NodeAddress>,
    /// How often it may still be passed on.
    pub(in crate::gateway) hops: u8,
    /// How long to wait for the outcomes.
    pub(in crate::gateway) patience: Duration,
}

/// A push that has begun. It goes on even if this is dropped.
#[must_use = "somebody wants to know what became of the push"]
pub(in crate::gateway) struct Pushing {
    outcomes: Vec<Slot>,
    went: PassedBack,
    patience: Duration,
}

/// Sessions that whoever asked us is to follow, by the index of their user; there when the outcomes are.
type PassedBack = Arc<Mutex<Vec<Vec<Went>>>>;

enum Slot {
    Known(Outcome),
    Waiting(oneshot::Receiver<Outcome>),
}

/// Somebody who waits for the outcome of a push to one user, and what it is remembered by.
struct Fresh {
    /// The index of the user.
    index: usize,
    key: Key,
    waiter: oneshot::Sender<Outcome>,
}

// === impl Pushing ===

impl Pushing {
    /// What became of it, in the order of the users. Whoever has no outcome in time is unknown.
    pub(in crate::gateway) async fn outcomes(self) -> Vec<Outcome> {
        self.outcomes_and_went().await.0
    }

    /// The same, and where sessions of the users went.
    pub(in crate::gateway) async fn outcomes_and_went(self) -> (Vec<Outcome>, Vec<Vec<Went>>) {
        let deadline = Instant::now() + self.patience;
        let mut outcomes = Vec::with_capacity(self.outcomes.len());
        for slot in self.outcomes {
            outcomes.push(match slot {
                Slot::Known(outcome) => outcome,
                Slot::Waiting(receiver) => match timeout_at(deadline, receiver).await {
                    Ok(Ok(outcome)) => outcome,
                    _ => Outcome::Unknown,
                },
            });
        }
        let went = std::mem::take(&mut *lock(&self.went));
        (outcomes, went)
    }
}

impl Shared {
    /// Begins a push. The users' sessions on this node have it when this returns, so that pushes which are begun one
    /// after the other arrive in that order.
    pub(in crate::gateway) fn push(self: &Arc<Self>, push: Push) -> Pushing {
        let Push { id, users, message, via, hops, patience } = push;
        let entered_here = via.is_empty();
        let went: PassedBack = Arc::new(Mutex::new(vec![vec![]; users.len()]));
        let nothing_known = |users: Vec<_>| Pushing {
            outcomes: users.iter().map(|_: &Wanted| Slot::Known(Outcome::Unknown)).collect(),
            went: Arc::default(),
            patience,
        };
        // Without a ring nobody can say who owns whom.
        let Some(published) = self.published() else { return nothing_known(users) };
        let Ok(place) = Arc::clone(&self.pushes.under_way).try_acquire_owned() else {
            return nothing_known(users);
        };
        let id = id.unwrap_or_else(|| format!("{:016x}{:016x}", Spread::seed(), Spread::seed()));
        let mut slots = Vec::with_capacity(users.len());
        let mut fresh = Vec::new();
        let mut wanted = Vec::new();
        {
            let now = self.pushes.started.elapsed();
            let mut memory = self.pushes.memory();
            for (index, user) in users.into_iter().enumerate() {
                let key = Key::new(&id, &user.user);
                let (waiter, receiver) = oneshot::channel();
                slots.push(match memory.begin(key, waiter, now) {
                    Known::New(waiter) => {
                        fresh.push(Fresh { index, key, waiter });
                        wanted.push(user);
                        Slot::Waiting(receiver)
                    }
                    Known::UnderWay => {
                        self.counters.push_repeated();
                        Slot::Waiting(receiver)
                    }
                    Known::Done(outcome) => {
                        self.counters.push_repeated();
                        Slot::Known(outcome)
                    }
                });
            }
        }
        let mut round = Round::new(wanted, published.address, via, hops);
        let looking = self.look(&mut round, &message);
        // Most pushes are over now: their users are here, and so they cost no task.
        let mut steps = Steps::default();
        if looking.is_empty() {
            steps = self.steps(&mut round);
            if steps.is_empty() {
                self.decided(fresh, round, &went, entered_here);
                return Pushing { outcomes: slots, went, patience };
            }
        }
        let shared = Arc::clone(self);
        let passed_back = Arc::clone(&went);
        let under_way = UnderWay { id, message, round, looking, steps, deadline: Instant::now() + patience };
        self.tasks.spawn(async move {
            let round = under_way.run(&shared).await;
            shared.decided(fresh, round, &passed_back, entered_here);
            drop(place);
        });
        Pushing { outcomes: slots, went, patience }
    }
}

/// A push whose outcomes take a while.
struct UnderWay {
    id: String,
    message: Message,
    round: Round,
    /// What our own sessions will say.
    looking: Vec<(usize, Delivering)>,
    /// What is to be done now.
    steps: Steps,
    /// When whoever wanted it will have given up.
    deadline: Instant,
}

// === impl UnderWay ===

impl UnderWay {
    async fn run(mut self, shared: &Arc<Shared>) -> Round {
        let end = self.deadline + AFTERWARDS;
        // What has been found by then counts.
        let _ = timeout_at(end, self.go(shared)).await;
        self.round
    }

    async fn go(&mut self, shared: &Arc<Shared>) {
        loop {
            let steps = std::mem::take(&mut self.steps);
            let mut looking = std::mem::take(&mut self.looking);
            looking.extend(shared.look_at(&self.round, &self.message, &steps.local));
            let looked =
                looking.into_iter().map(async |(index, delivering)| (index, found(delivering.decided().await)));
            let asked = join_all(steps.asks.iter().map(|ask| self.ask(shared, ask)));
            let (looked, asked) = tokio::join!(join_all(looked), asked);
            let mut failed = false;
            for (index, local) in looked {
                failed |= local == Local::Busy;
                self.round.local(index, local);
                self.round.went(index, shared.went_from_here(self.round.user(index)));
            }
            for (ask, outcomes) in steps.asks.iter().zip(asked) {
                match outcomes {
                    Some(answers) => {
                        for (&index, (outcome, went)) in ask.users.iter().zip(answers) {
                            self.round.answered(ask.node, index, outcome);
                            self.round.went(index, went);
                        }
                    }
                    None => failed = true,
                }
            }
            if failed {
                sleep(PAUSE).await;
            }
            self.steps = shared.steps(&mut self.round);
            if self.steps.is_empty() {
                return;
            }
        }
    }

    /// Asks a node for some of the users. None if one part of it gave no answer.
    async fn ask(&self, shared: &Arc<Shared>, ask: &Ask) -> Option<Vec<(Outcome, Vec<Went>)>> {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(PAUSE * 4);
        let mut parts: Vec<Vec<Wanted>> = vec![];
        let mut bytes = MAX_NAMES;
        for &index in &ask.users {
            let wanted = self.round.wanted(index);
            let length = wanted.user.len() + wanted.except.iter().map(|name| name.len() + 4).sum::<usize>() + 8;
            bytes += length;
            if bytes > MAX_NAMES {
                parts.push(vec![]);
                bytes = length;
            }
            parts.last_mut()?.push(wanted);
        }
        shared.counters.push_forwarded(ask.users.len());
        let asked = parts.into_iter().map(async |users| {
            let batch = Batch {
                id: self.id.clone(),
                users,
                message: self.message.to_parcel(),
                via: ask.via.clone(),
                hops: ask.hops,
                patience_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
            };
            // A little longer: that it does not know in time is an answer, too.
            shared.ask_to_push(ask.node, &batch, left + PAUSE * 4).await
        });
        Some(join_all(asked).await.into_iter().collect::<Option<Vec<_>>>()?.concat())
    }
}

impl Shared {
    /// Gives the message to the sessions here of some of the round's users.
    fn look_at(&self, round: &Round, message: &Message, users: &[usize]) -> Vec<(usize, Delivering)> {
        let look = |&index: &usize| {
            let wanted = |card: &Card| !round.has_it(index, &card.connection);
            (index, self.deliver_to(round.user(index), message, wanted))
        };
        users.iter().map(look).collect()
    }

    /// The round's first look. What is decided at once is noted; the rest is given back.
    fn look(&self, round: &mut Round, message: &Message) -> Vec<(usize, Delivering)> {
        // Whoever owns the user: a session here is here.
        let steps = round.steps(|_| Places::default());
        let mut looking = self.look_at(round, message, &steps.local);
        looking.retain_mut(|(index, delivering)| match delivering.at_once() {
            Some(deliveries) => {
                round.local(*index, found(deliveries));
                let went = self.went_from_here(round.user(*index));
                round.went(*index, went);
                false
            }
            None => true,
        });
        looking
    }

    /// What is to be done by the rings now.
    fn steps(&self, round: &mut Round) -> Steps {
        let ahead = self.ahead();
        let published = self.published();
        self.pushes.rings(published.as_ref(), |rings| {
            // There is a ring: a push does not begin without.
            round.steps(|user| rings.places(user, &ahead).unwrap_or_default())
        })
    }

    /// All outcomes are there.
    fn decided(&self, fresh: Vec<Fresh>, mut round: Round, passed_back: &PassedBack, entered_here: bool) {
        {
            let mut passed_back = lock(passed_back);
            for (Fresh { index, .. }, went) in fresh.iter().zip(round.passed_back()) {
                // Nothing is there any more if whoever asked has given up waiting.
                if let Some(slot) = passed_back.get_mut(*index) {
                    *slot = went;
                }
            }
        }
        let mut memory = self.pushes.memory();
        for (Fresh { key, waiter, .. }, outcome) in fresh.into_iter().zip(round.finish()) {
            if entered_here {
                self.counters.pushed(&outcome);
            }
            let nobody_here = !entered_here && outcome == Outcome::Offline;
            if nobody_here {
                // Another gateway may ask once more, when a session has come here. Who has asked meanwhile hears that nobody
                // knows.
                drop(memory.finish(key, &Outcome::Unknown));
                let _ = waiter.send(outcome);
                continue;
            }
            for waiter in memory.finish(key, &outcome).into_iter().chain([waiter]) {
                // Nobody may wait any more.
                let _ = waiter.send(outcome.clone());
            }
        }
    }
}

/// What our own sessions made of it.
fn found(deliveries: Vec<Delivery>) -> Local {
    let busy = deliveries.iter().any(|one| one.fate == Some(Fate::Busy));
    let took = deliveries.into_iter().filter(|one| one.fate == Some(Fate::Taken));
    let reached = |Delivery { connection, platform, background, .. }| Reached { connection, platform, background };
    let reached: Vec<_> = took.map(reached).collect();
    if reached.is_empty() && busy { Local::Busy } else { Local::Took(reached) }
}
