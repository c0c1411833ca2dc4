//! One connection to one of etcd's members, from its beginning to what ends it.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper,
    PutOptions, Txn, TxnOp, WatchOptions, WatchResponse, WatchStream,
};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info};

use super::{
    Running,
    connect::{connect, within, words},
    view::{Keys, RingKey, View, announced},
};
use crate::membership::{
    Event,
    reconcile::{Outlook, Proposal},
};

/// Proposals of several nodes are spread over this time, and that for each node there is: most of them need not be made
/// then.
const SPREAD: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(2));

/// How long to wait for what a proposal brings before the next one.
const AFTER_PROPOSAL: Duration = Duration::from_secs(1);

/// Most conditions that etcd takes in one transaction (`--max-txn-ops`). Were more members than this gone at once and
/// one of the others back in this instant, it would join anew.
const MAX_CONDITIONS: usize = 128;

/// Heartbeats in a lease's time.
const BEATS: u32 = 3;

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody listens any more.
    Unlistened,
    /// It has to be begun anew, and nothing is wrong with etcd.
    Anew(String),
    /// etcd cannot be reached, or does not answer as it should: a phrase that says why.
    Failed(String),
}

/// A connection, with all read, a watch on what changes after that, and a lease that holds our announcement.
pub(super) struct Session {
    client: Client,
    view: View,
    watch: WatchStream,
    keeper: LeaseKeeper,
    kept: LeaseKeepAliveStream,
    /// When to renew the lease, and to ask the watch whether it is there.
    beat: Interval,
    /// How long silence can mean that nothing happens.
    limit: Duration,
    lease_heard: Instant,
    watch_heard: Instant,
    /// When to propose what is to be proposed.
    propose_at: Option<Instant>,
    /// Whether the agent may still say that our state changes.
    state_lives: bool,
}

// === impl Session ===

impl Session {
    /// Connects, announces this node, reads everything and begins to watch.
    pub(super) async fn open(running: &mut Running, endpoint: &str) -> Result<Self, End> {
        let ttl = running.config.lease_ttl_s;
        let limit = Duration::from_secs(ttl.into()).max(Duration::from_secs(2));
        let mut client = connect(&running.config, endpoint, limit).await.map_err(End::Failed)?;
        let lease = within(limit, client.lease_grant(ttl.into(), None)).await.map_err(End::Failed)?;
        let (keeper, kept) = within(limit, client.lease_keep_alive(lease.id())).await.map_err(End::Failed)?;
        announce(&mut client, running, lease.id(), limit).await?;

        // Whoever is not there now may have been while we did not look.
        running.reconciler.lost_sight();
        let keys = Keys::below(&running.config.prefix);
        let read = within(limit, client.get(keys.all(), Some(GetOptions::new().with_prefix()))).await;
        let read = read.map_err(End::Failed)?;
        let mut view = View::new(keys.clone());
        for key in read.kvs() {
            view.put(key.key(), key.value(), key.mod_revision());
        }
        let revision = read.header().map_or(0, |header| header.revision());
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let watch = within(limit, client.watch(keys.all(), Some(options))).await.map_err(End::Failed)?;

        // A lease may be granted for longer than asked.
        let lease_ttl = Duration::from_secs(u64::try_from(lease.ttl()).unwrap_or(0)).max(Duration::from_secs(1));
        let mut beat = interval(lease_ttl / BEATS);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now();
        Ok(Self {
            client,
            view,
            watch,
            keeper,
            kept,
            beat,
            limit,
            lease_heard: now,
            watch_heard: now,
            propose_at: None,
            state_lives: true,
        })
    }

    /// Until something ends it.
    pub(super) async fn run(mut self, running: &mut Running) -> End {
        loop {
            if let Err(end) = self.turn(running).await {
                return end;
            }
        }
    }

    /// Tells what there is to tell, and does the next thing there is to do.
    async fn turn(&mut self, running: &mut Running) -> Result<(), End> {
        let outlook = self.look(running);
        self.tell(running, &outlook).await?;
        let now = Instant::now();
        if outlook.proposal.is_none() {
            self.propose_at = None;
        } else if self.propose_at.is_none() {
            let nodes = u32::try_from(self.view.candidates().len()).unwrap_or(u32::MAX);
            let spread = SPREAD.0 + SPREAD.1.saturating_mul(nodes);
            self.propose_at = Some(now + running.jitter.up_to(spread));
        }
        let again = outlook.again.map(|again| Instant::from_std(running.started + again));
        let wake = [self.propose_at, again].into_iter().flatten().min();
        tokio::select! {
            message = self.watch.message() => self.hear(running, message.map_err(failed)?).await,
            kept = self.kept.message() => self.keep(kept.map_err(failed)?),
            _ = self.beat.tick() => self.beat().await,
            changed = running.state.changed(), if self.state_lives => {
                self.state_lives = changed.is_ok();
                announce(&mut self.client, running, self.keeper.id(), self.limit).await
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => match outlook.proposal {
                Some(proposal) if self.propose_at.is_some_and(|at| at <= Instant::now()) => {
                    self.propose_at = Some(Instant::now() + AFTER_PROPOSAL);
                    self.propose(&proposal).await
                }
                _ => Ok(()),
            },
        }
    }

    /// What should become of the ring.
    fn look(&self, running: &mut Running) -> Outlook {
        let stored = match self.view.ring() {
            RingKey::Absent => None,
            RingKey::Good(object) => Some(object),
            // Whatever it is, somebody has written it, a later version perhaps: it is not ours to overwrite.
            RingKey::Broken(_) => return Outlook::default(),
        };
        running.reconciler.look(stored, &self.view.candidates(), running.started.elapsed())
    }

    async fn tell(&self, running: &mut Running, outlook: &Outlook) -> Result<(), End> {
        let ring = match self.view.ring() {
            RingKey::Good(object) => running.order.newer(object.ring()),
            RingKey::Absent | RingKey::Broken(_) => None,
        };
        let state = match self.trouble(running, outlook) {
            Some(what) => running.order.trouble(what),
            None => running.order.well(),
        };
        for event in ring.into_iter().chain(state) {
            if let Event::Ring(ring) = &event {
                debug!(epoch = ring.epoch().0, "etcd has a ring");
            }
            running.told.send(event).await.map_err(|_| End::Unlistened)?;
        }
        Ok(())
    }

    /// What an operator should know first.
    fn trouble(&self, running: &Running, outlook: &Outlook) -> Option<String> {
        if let RingKey::Broken(what) = self.view.ring() {
            return Some(format!(
                "{what}; the last ring stays in force: correct the key, or delete it and the nodes write it anew"
            ));
        }
        let this = &running.this;
        let usurper = self.view.member(&this.identity).filter(|member| member.address != this.address);
        if let Some(usurper) = usurper {
            return Some(format!(
                "another node, at {}, announces itself as {}, which is this one's name; give one of them another \
                 `identity`",
                usurper.address, this.identity
            ));
        }
        outlook.complaints.first().or(self.view.complaints().next()).cloned()
    }

    /// Something has changed in etcd, or the watch says that it is there.
    async fn hear(&mut self, running: &mut Running, message: Option<WatchResponse>) -> Result<(), End> {
        let Some(message) = message else { return Err(End::Failed("it ended the watch".into())) };
        self.watch_heard = Instant::now();
        if message.compact_revision() > 0 {
            return Err(End::Anew(format!(
                "what the watch had to tell was compacted ({})",
                message.compact_revision()
            )));
        }
        if message.canceled() {
            return Err(End::Failed(format!("it ended the watch: {}", message.cancel_reason())));
        }
        let before = self.view.ring_revision();
        for event in message.events() {
            let Some(key) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => {
                    if let Some(seen) = self.view.put(key.key(), key.value(), key.mod_revision()) {
                        running.reconciler.seen(&seen);
                    }
                }
                EventType::Delete => self.view.delete(key.key()),
            }
        }
        if self.view.ring_revision() != before {
            // Whatever is to be proposed now, others see it as well.
            self.propose_at = None;
        }
        if self.view.member(&running.this.identity).is_none() {
            // Somebody has taken the key or the lease away.
            return Err(End::Anew("this node's announcement is gone".into()));
        }
        Ok(())
    }

    /// The lease goes on, or it does not.
    fn keep(&mut self, kept: Option<LeaseKeepAliveResponse>) -> Result<(), End> {
        let Some(kept) = kept else { return Err(End::Failed("it ended the stream that keeps the lease".into())) };
        if kept.ttl() <= 0 {
            return Err(End::Anew("the lease has ended".into()));
        }
        self.lease_heard = Instant::now();
        Ok(())
    }

    /// Renews the lease and asks the watch for a sign; without an answer to the last ones, etcd is out of reach.
    async fn beat(&mut self) -> Result<(), End> {
        let silence = self.lease_heard.min(self.watch_heard).elapsed();
        if silence > self.limit {
            return Err(End::Failed(format!("silent for {} s", silence.as_secs())));
        }
        self.keeper.keep_alive().await.map_err(failed)?;
        self.watch.request_progress().await.map_err(failed)
    }

    /// Puts a ring object in place of the one we know, if that is still there and nobody it leaves out is back.
    async fn propose(&mut self, proposal: &Proposal) -> Result<(), End> {
        let keys = self.view.keys();
        let unchanged = Compare::mod_revision(keys.ring(), CompareOp::Equal, self.view.ring_revision());
        let still_gone =
            proposal.gone.iter().map(|identity| Compare::version(keys.member(identity), CompareOp::Equal, 0));
        let conditions: Vec<_> = [unchanged].into_iter().chain(still_gone).take(MAX_CONDITIONS).collect();
        let put = TxnOp::put(keys.ring(), proposal.object.to_text(), None);
        let answer = within(self.limit, self.client.txn(Txn::new().when(conditions).and_then([put]))).await;
        let taken = answer.map_err(End::Failed)?.succeeded();
        let epoch = proposal.object.ring().epoch().0;
        if taken {
            info!(epoch, "wrote a new ring to etcd");
        } else {
            debug!(epoch, "another node has changed the ring first");
        }
        Ok(())
    }
}

/// Writes this node's key, bound to that lease.
async fn announce(client: &mut Client, running: &mut Running, lease: i64, limit: Duration) -> Result<(), End> {
    let state = *running.state.borrow_and_update();
    let key = Keys::below(&running.config.prefix).member(&running.this.identity);
    let put = client.put(key, announced(&running.this, state), Some(PutOptions::new().with_lease(lease)));
    within(limit, put).await.map(drop).map_err(End::Failed)
}

fn failed(error: etcd_client::Error) -> End {
    End::Failed(words(error))
}
