//! Mode "accept": the agent is told of each connection that this node's TCP has accepted, so that all edges know where it
//! is before the gateway looks at it.
//!
//! The agent hears of the connection before it hears of its first move, or a move could be taken for an earlier
//! connection's. So a connection waits for that, but not long: without an agent its packets go by their addresses, as
//! they have come.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::control::{FlowMove, MOVES_MAX, MoveClient, MoveStep, Moves};

/// Connections that may wait to be told of; more wait for room.
const AHEAD: usize = 4096;

/// How long a connection waits until the agent knows of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait before an agent that could not be reached is told again.
const PAUSE: Duration = Duration::from_millis(50);

/// For whoever accepts connections.
#[derive(Clone, Debug)]
pub(super) struct Accepted(mpsc::Sender<Telling>);

/// A connection that the agent is to know of.
#[derive(Debug)]
struct Telling {
    flow: FlowMove,
    since: Instant,
    done: oneshot::Sender<()>,
}

// === impl Accepted ===

impl Accepted {
    /// Starts the task that tells the agent on this socket; it ends when nobody accepts any more. Must be called within a
    /// tokio runtime.
    pub(super) fn start(agent: PathBuf) -> Self {
        let (sender, tellings) = mpsc::channel(AHEAD);
        tokio::spawn(tell_all(agent, tellings));
        Self(sender)
    }

    /// Returns when the agent knows of the connection, or when that takes too long; then it is told later.
    pub(super) async fn tell(&self, client: SocketAddr, service: SocketAddr) {
        let (done, told) = oneshot::channel();
        let telling =
            Telling { flow: FlowMove { client, service, count: 0, first_ack: 0 }, since: Instant::now(), done };
        let telling = async {
            // The task ends after us.
            let _ = self.0.send(telling).await;
            let _ = told.await;
        };
        if timeout(PATIENCE, telling).await.is_err() {
            tracing::debug!("{client}: the agent does not know of it yet");
        }
    }
}

/// Tells the agent until nobody accepts any more.
async fn tell_all(agent: PathBuf, mut tellings: mpsc::Receiver<Telling>) {
    let mut agent = MoveClient::new(agent);
    let mut batch = Vec::new();
    while tellings.recv_many(&mut batch, MOVES_MAX).await > 0 {
        tell(&mut agent, &batch).await;
        for Telling { done, .. } in batch.drain(..) {
            // It may have waited long enough.
            let _ = done.send(());
        }
    }
}

/// Tells the agent of some connections, again and again while there is none.
async fn tell(agent: &mut MoveClient, batch: &[Telling]) {
    let Some(first) = batch.iter().map(|telling| telling.since).min() else { return };
    let flows: Vec<_> = batch.iter().map(|telling| telling.flow).collect();
    let mut attempts = 0;
    loop {
        let ms_ago = u32::try_from(first.elapsed().as_millis()).unwrap_or(u32::MAX);
        let accepted = Moves { step: MoveStep::Accept { ms_ago }, flows: flows.clone(), promise: None };
        let error = match agent.ask(accepted).await {
            Ok(_) => return,
            Err(error) => error,
        };
        attempts += 1;
        if attempts == 1 {
            tracing::warn!("telling of accepted connections: {error}");
        }
        if !error.agent_is_gone() {
            return;
        }
        sleep(PAUSE).await;
    }
}
