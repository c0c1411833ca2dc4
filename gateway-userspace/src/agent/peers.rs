//! What the other nodes say: takes it down, tells them what we say, and answers what they ask.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::shared::{Agent, lock};
use crate::{
    config::Secrets,
    peer::{
        self, Heard, View, Wiring,
        agreement::Standing,
        key::{Between, LinkKeys},
        message::{Answer, Question},
    },
    ring::{NodeAddress, Ring, RingName},
};

/// How often time is noticed to have passed: a node that falls silent is seen this much later at most.
const TICK: Duration = Duration::from_millis(250);

/// What may wait to be taken down.
const HEARD_AHEAD: usize = 1024;

/// Our ring and that of our gateway.
type Rings = (Option<RingName>, Option<RingName>);

/// Starts the links, and keeps what is heard over them.
pub(super) fn start(agent: &Arc<Agent>, secrets: &Secrets) -> impl Future<Output = ()> + Send + use<> {
    let (tell, heard) = mpsc::channel(HEARD_AHEAD);
    let view = watch::Sender::new(Arc::new(view_of(agent)));
    let keys = watch::Sender::new(Arc::new(LinkKeys::of(secrets, Between::Agents)));
    let rings = watch::Sender::new((None, None));
    let network = peer::start(Wiring {
        port: agent.config().peers.port,
        view: view.subscribe(),
        keys: keys.subscribe(),
        rings: rings.subscribe(),
        heard: tell,
        desk: Arc::new(Desk { agent: Arc::downgrade(agent) }),
    });
    // Empty: this is called once.
    let _ = agent.network.set(network);
    keep(Arc::clone(agent), heard, view, keys, rings)
}

async fn keep(
    agent: Arc<Agent>,
    mut heard: mpsc::Receiver<Heard>,
    view: watch::Sender<Arc<View>>,
    keys: watch::Sender<Arc<LinkKeys>>,
    rings: watch::Sender<Rings>,
) {
    let mut in_force = agent.in_force.subscribe();
    let mut configuration = agent.configuration.subscribe();
    let mut gateway = agent.gateways.following();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = Vec::new();
    // What is in force already, and followed, is news as well.
    in_force.mark_changed();
    gateway.mark_changed();
    loop {
        tokio::select! {
            one = heard.recv() => match one {
                Some(one) => hear(&agent, one),
                None => return,
            },
            Ok(()) = in_force.changed() => {
                let ours = in_force.borrow_and_update().ring.as_ref().map(Ring::name);
                let new = view_of(&agent);
                agent.agreement().follow(ours, new.others.iter().copied(), agent.now());
                // First who may know, then what: nobody should be told by a stranger's name.
                view.send_if_modified(|view| (**view != new).then(|| *view = Arc::new(new)).is_some());
                rings.send_if_modified(|rings| std::mem::replace(&mut rings.0, ours) != ours);
            }
            Ok(()) = gateway.changed() => {
                let theirs = *gateway.borrow_and_update();
                let mut following = lock(&agent.gateway);
                (following.ring, following.since) = (theirs, agent.now());
                rings.send_if_modified(|rings| std::mem::replace(&mut rings.1, theirs) != theirs);
            }
            Ok(()) = configuration.changed() => {
                let config = Arc::clone(&configuration.borrow_and_update());
                match config.secrets() {
                    Ok(secrets) => {
                        let new = LinkKeys::of(&secrets, Between::Agents);
                        keys.send_if_modified(|keys| (**keys != new).then(|| *keys = Arc::new(new)).is_some());
                    }
                    // They could be read a moment ago.
                    Err(error) => warn!("the links keep their keys: {error}"),
                }
            }
            _ = ticks.tick() => {
                agent.agreement().judge(agent.now());
                // Not with every word of every node: there may be a thousand.
                show_changes(&agent, &mut shown);
            }
        }
    }
}

fn hear(agent: &Agent, heard: Heard) {
    let now = agent.now();
    match heard {
        Heard::Greeting(from, hello) => agent.agreement().greeted(from, &hello),
        Heard::State(from, state, clock_ms) => agent.agreement().heard(from, state, clock_ms, now),
        Heard::Link(to, link) => agent.agreement().linked(to, link),
    }
}

/// The fleet as our links need to know it.
fn view_of(agent: &Agent) -> View {
    let in_force = agent.in_force();
    View::new(in_force.address, in_force.ring.as_ref(), in_force.previous.as_ref())
}

/// Logs who stands otherwise than before.
fn show_changes(agent: &Agent, shown: &mut Vec<(NodeAddress, Standing)>) {
    let now: Vec<_> = agent.agreement().peers().map(|(address, peer)| (address, peer.standing)).collect();
    if *shown == now {
        return;
    }
    for &(address, standing) in &now {
        let before = shown.iter().find(|(known, _)| *known == address).map(|&(_, standing)| standing);
        match (before, standing) {
            (before, standing) if before == Some(standing) => {}
            // Everybody begins so.
            (None, Standing::Silent) => {}
            (_, Standing::Differs) => warn!("node {address} has another ring of the same epoch"),
            (_, standing) => info!("node {address} {}", words(standing)),
        }
    }
    *shown = now;
}

fn words(standing: Standing) -> &'static str {
    match standing {
        Standing::Agrees => "agrees on the ring",
        Standing::Lags => "lags behind our ring",
        Standing::Ahead => "has a newer ring than we",
        Standing::Differs => "has another ring of the same epoch",
        Standing::Silent => "is silent",
    }
}

/// Answers the other agents.
struct Desk {
    /// Which has the links, and those this.
    agent: Weak<Agent>,
}

impl peer::Desk for Desk {
    fn answer(&self, question: Question) -> BoxFuture<'static, Answer> {
        let agent = self.agent.upgrade();
        Box::pin(async move {
            let Some(agent) = agent else { return Answer::Error("the agent is stopping".into()) };
            match question {
                Question::Sessions { user } => match agent.gateways.sessions(&user).await {
                    Ok(sessions) => Answer::Sessions(sessions),
                    Err(error) => Answer::Error(error),
                },
                Question::Moves { order } => match agent.gateways.moves(order).await {
                    Ok(moves) => Answer::Moves(moves),
                    Err(error) => Answer::Error(error),
                },
                Question::Announce { state } => match agent.announce(state) {
                    Ok(state) => Answer::Announced { state },
                    Err(refusal) => Answer::Error(format!("{refusal:#}")),
                },
                Question::Claim { to, address, flows, last_of } => {
                    blocking(move || agent.judge_claim(to, address, flows, last_of).map(Answer::Claimed)).await
                }
                Question::Follow { to, address, flows } => {
                    blocking(move || agent.follow(to, address, &flows).map(|()| Answer::Followed {})).await
                }
            }
        })
    }
}

/// Does what may take a while on a thread where it may.
async fn blocking(work: impl FnOnce() -> anyhow::Result<Answer> + Send + 'static) -> Answer {
    match spawn_blocking(work).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(failure)) => Answer::Error(format!("{failure:#}")),
        Err(failure) => Answer::Error(failure.to_string()),
    }
}
