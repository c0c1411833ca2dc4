//! Telling the other members which connections have moved, and removing what is over.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use ringsteer_ebpf::layout::moves::Move;
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, warn};

use super::{
    member,
    news::Item,
    others,
    rules::{self, LINGER},
};
use crate::{
    agent::shared::{Agent, lock, monotonic_ns},
    control::MOVES_MAX,
    inspect,
    peer::message::{Answer, MovedFlow, Question},
    ring::{MemberNumber, NodeAddress},
};

/// How often it is looked whether something is over.
const TICK: Duration = Duration::from_secs(1);

/// How long to leave a member alone that could not be told.
const RETRY: Duration = Duration::from_millis(250);

/// How long to gather news for a member that has just been told some. Meanwhile the node that had the connections sends on
/// what an edge still sends there, so nobody waits for this.
const GATHER: Duration = Duration::from_millis(10);

/// What became of telling a member.
type Telling = BoxFuture<'static, (NodeAddress, Vec<Item>, Result<(), String>)>;

/// Tells the others, and removes what is over, for as long as the agent runs.
pub(in crate::agent) async fn keep(agent: Arc<Agent>) {
    let mut in_force = agent.in_force.subscribe();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tellings: FuturesUnordered<Telling> = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    let mut resting: BTreeMap<NodeAddress, Instant> = BTreeMap::new();
    let mut lingering: VecDeque<(Instant, Item)> = VecDeque::new();
    let mut recalled = false;
    loop {
        let now = Instant::now();
        // Whom to tell is known with the first ring.
        if !recalled && agent.in_force().ring.is_some() {
            recalled = true;
            if let Err(error) = agent.recall() {
                warn!("cannot find out which connections have moved: {error:#}");
            }
        }
        resting.retain(|_, &mut until| until > now);
        let peers = lock(&agent.moving.news).peers();
        for peer in peers {
            if !resting.contains_key(&peer) && busy.insert(peer) {
                tellings.push(agent.tell(peer));
            }
        }
        lingering.extend(lock(&agent.moving.news).take_told().into_iter().map(|item| (now + LINGER, item)));
        let rested = resting.values().min().copied();
        tokio::select! {
            () = agent.moving.wake.notified() => {}
            Some((peer, batch, outcome)) = tellings.next() => {
                busy.remove(&peer);
                let mut news = lock(&agent.moving.news);
                match outcome {
                    Ok(()) => {
                        agent.counters.moves_told.add(batch.len() as u64);
                        resting.insert(peer, Instant::now() + GATHER);
                        news.acknowledged(peer, &batch);
                    }
                    Err(why) => {
                        debug!("cannot tell {peer} which connections have moved: {why}");
                        agent.counters.moves_untold.add(1);
                        resting.insert(peer, Instant::now() + RETRY);
                        news.failed(peer, &batch);
                    }
                }
            }
            Ok(()) = in_force.changed() => {
                let others = others(&in_force.borrow_and_update());
                lock(&agent.moving.news).only(&others);
            }
            () = sleep_until(rested.unwrap_or(now).into()), if rested.is_some() => {}
            _ = ticks.tick() => {
                let over = lingering.iter().take_while(|(until, _)| *until <= now).count();
                let over = lingering.drain(..over).map(|(_, item)| item).collect();
                let worker = Arc::clone(&agent);
                match spawn_blocking(move || worker.clear(over)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => warn!("cannot remove moves that are over: {error:#}"),
                    Err(_) => return,
                }
            }
        }
    }
}

impl Agent {
    /// Takes up what an earlier agent had to tell.
    fn recall(&self) -> Result<()> {
        let peers = others(&self.in_force());
        let entries = lock(&self.moving.maps).all()?;
        let mut news = lock(&self.moving.news);
        for (key, entry) in entries.into_iter().filter(|(_, entry)| entry.node != 0) {
            let count = u16::try_from(entry.count).unwrap_or(u16::MAX);
            let Move { node, since_ns, first_ack, .. } = entry;
            news.add(Item { key, count, node, moved_ns: since_ns, first_ack }, peers.iter().copied());
        }
        Ok(())
    }

    /// Tells a member what it has yet to be told.
    fn tell(self: &Arc<Self>, peer: NodeAddress) -> Telling {
        let batch = lock(&self.moving.news).next(peer, MOVES_MAX);
        let agent = Arc::clone(self);
        Box::pin(async move {
            let outcome = agent.ask_to_follow(peer, &batch).await;
            (peer, batch, outcome)
        })
    }

    async fn ask_to_follow(&self, peer: NodeAddress, batch: &[Item]) -> Result<(), String> {
        let Some(first) = batch.first() else { return Ok(()) };
        let in_force = self.in_force();
        let to = u16::try_from(first.node).ok().and_then(|number| MemberNumber::new(number).ok());
        let Some((to, address)) = to.and_then(|to| Some((to, member(&in_force, to)?))) else {
            // The node that has them is gone, and its clients are told so.
            return Ok(());
        };
        let names = inspect::flows::names(&self.readings, &self.config().services).map_err(|e| format!("{e:#}"))?;
        let now_ns = monotonic_ns();
        let moved = |item: &Item| {
            let client = SocketAddr::new(inspect::address::unmapped(&item.key.client), item.key.client_port);
            let (service, _) = names.get(&item.key.service)?;
            let moved_us_ago = now_ns.saturating_sub(item.moved_ns) / 1000;
            let Item { count, first_ack, .. } = *item;
            Some(MovedFlow { client, service: *service, count, moved_us_ago, first_ack })
        };
        let flows = batch.iter().filter_map(moved).collect();
        let network = self.network.get().ok_or("the links are not up yet")?;
        match network.ask(peer, Question::Follow { to, address, flows }).await? {
            Answer::Followed {} => Ok(()),
            Answer::Error(error) => Err(error),
            _ => Err("it answers something else".into()),
        }
    }

    /// Removes what is over: moves that everybody has known of for a while, holds that nothing has followed, and moves to
    /// nodes that are gone or that nothing has come for in a long time.
    fn clear(&self, known: Vec<Item>) -> Result<()> {
        let mut maps = lock(&self.moving.maps);
        if !maps.any() {
            lock(&self.moving.promised).clear();
            return Ok(());
        }
        for item in known {
            // It may have been told of a later move since. But it may also have come and gone once more, and not everybody
            // knows that.
            let untold = lock(&self.moving.news).has(&item.key);
            // What stands there may be a later connection's, too.
            let left = |entry: &Move| {
                entry.node != 0
                    && entry.count >= u32::from(item.count)
                    && !rules::is_another(entry.first_ack, item.first_ack)
            };
            if !untold && maps.get(&item.key)?.as_ref().is_some_and(left) {
                maps.remove(&item.key)?;
            }
        }
        let (in_force, now_ns) = (self.in_force(), monotonic_ns());
        let idle_ns = u64::from(self.config().node.flow_idle_s).saturating_mul(1_000_000_000);
        for (key, entry) in maps.all()? {
            let gone = entry.node != 0 && in_force.is_orphan(entry.node, entry.since_ns);
            let silent = now_ns.saturating_sub(entry.since_ns.max(entry.last_sent_ns)) >= idle_ns;
            if rules::is_forgotten(&entry, now_ns) {
                self.counters.holds_forgotten.add(1);
                warn!("a connection was held and then neither moved nor released; the hold ends");
                maps.remove(&key)?;
                lock(&self.moving.promised).forget(&key);
            } else if gone || silent {
                maps.remove(&key)?;
            }
        }
        self.release(&maps);
        Ok(())
    }
}
