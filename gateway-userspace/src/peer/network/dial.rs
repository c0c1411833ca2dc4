//! Keeps a link up to every other member.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{Shared, Speech, speech::Dialled, talk};
use crate::{
    peer::{backoff::Backoff, counters::Way, link::Link},
    random::Spread,
    ring::NodeAddress,
};

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Dials whoever is a member, for as long as it is one.
pub(super) async fn keep<S: Speech>(shared: Arc<Shared<S>>) {
    let mut listening = shared.listening.subscribe();
    let mut view = shared.view.clone();
    // Dropped with this task, which ends them.
    let mut diallers = JoinSet::new();
    let mut running: BTreeMap<NodeAddress, AbortHandle> = BTreeMap::new();
    let mut from = None;
    loop {
        let wanted = Arc::clone(&view.borrow_and_update());
        let allowed = !S::LISTEN_FIRST || *listening.borrow_and_update();
        let here = wanted.here.filter(|_| allowed);
        if here != from {
            from = here;
            std::mem::take(&mut running).into_values().for_each(|dialler| dialler.abort());
        }
        running.retain(|address, dialler| {
            let keep = wanted.others.contains(address);
            if !keep {
                dialler.abort();
            }
            keep
        });
        if let Some(here) = from {
            for &to in &wanted.others {
                running.entry(to).or_insert_with(|| diallers.spawn(dial(here, to, Arc::clone(&shared))));
            }
        }
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            // The sender is ours.
            Ok(()) = listening.changed(), if S::LISTEN_FIRST => {}
            // One that was aborted, or all of them: with none left this waits for the view alone.
            Some(_) = diallers.join_next() => {}
        }
    }
}

/// Dials one member again and again.
async fn dial<S: Speech>(here: NodeAddress, to: NodeAddress, shared: Arc<Shared<S>>) {
    let mut backoff = Backoff::new(Spread::seed());
    // Which of the valid keys to dial with: the other end may know only one of them yet.
    let mut key = 0;
    // Said once, not at every attempt.
    let mut complaint = String::new();
    loop {
        let (opened, how) = attempt(here, to, key, &shared).await;
        if opened {
            backoff.reset();
            complaint.clear();
        } else {
            key += 1;
        }
        if how.error != complaint {
            tracing::info!("link to {to}: {}", how.error);
            complaint.clone_from(&how.error);
        }
        shared.speech.dialled(to, how).await;
        sleep(backoff.wait()).await;
    }
}

/// Dials once and stays on the link. Whether it came up, and why it ended.
async fn attempt<S: Speech>(
    here: NodeAddress,
    to: NodeAddress,
    key: usize,
    shared: &Arc<Shared<S>>,
) -> (bool, Dialled) {
    let keys = Arc::clone(&shared.keys.borrow());
    let keys: Vec<_> = keys.iter().collect();
    let failed = |reason: &'static str, error: String| {
        shared.counters.failed(Way::Out, reason);
        (false, Dialled { error, refused: false })
    };
    let stream = match timeout(CONNECT_TIMEOUT, connect(here, to, shared.port)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let refused = error.kind() == io::ErrorKind::ConnectionRefused;
            let (opened, how) = failed("unreachable", format!("cannot connect to port {}: {error}", shared.port));
            return (opened, Dialled { refused, ..how });
        }
        Err(_) => return failed("unreachable", format!("cannot connect to port {}: no answer", shared.port)),
    };
    // Only now: a handshake begins with the making of keys, and many nodes may be out of reach.
    match Link::dial(keys[key % keys.len()], shared.hello()) {
        Ok(link) => {
            let ended = talk::run(stream, link, to, Way::Out, shared, None).await;
            (ended.opened, Dialled { error: ended.why.to_string(), refused: false })
        }
        Err(error) => failed(error.reason(), error.to_string()),
    }
}

/// Connects from our node address: by it the other end knows us.
async fn connect(here: NodeAddress, to: NodeAddress, port: u16) -> io::Result<TcpStream> {
    let socket = if to.ip().is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if here.ip().is_ipv4() == to.ip().is_ipv4() {
        socket.bind(SocketAddr::new(here.ip(), 0))?;
    }
    socket.connect(SocketAddr::new(to.ip(), port)).await
}
