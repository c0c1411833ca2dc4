//! The users: one websocket each, through the virtual address, with an ordinary websocket library.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use tokio::{net::TcpStream, sync::mpsc, task::JoinSet};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::fleet::Fleet;

/// How many connections are being set up at any one time.
const AT_ONCE: usize = 32;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The users of a demo, connected.
pub struct Users {
    /// Their ids.
    pub names: Vec<String>,
    /// How long each connection took, from the SYN to the 101.
    pub setup: Vec<Duration>,
    /// User and text of every message that arrived.
    arrived: mpsc::UnboundedReceiver<(usize, String)>,
    seen: HashSet<(usize, String)>,
}

/// Connects `count` users from the lab's first client host. The connections stay open until the lab ends.
pub fn connect(fleet: &Fleet<'_>, count: usize) -> Result<Users> {
    let names: Vec<String> = (0..count).map(|index| format!("user-{index}")).collect();
    let address = fleet.websocket();
    let (arrivals, arrived) = mpsc::unbounded_channel();
    let wanted = names.clone();
    let connecting = fleet.lab.client(0).spawn(async move {
        let mut setup = Vec::new();
        let mut under_way = JoinSet::new();
        for (index, name) in wanted.into_iter().enumerate() {
            if under_way.len() >= AT_ONCE
                && let Some(done) = under_way.join_next().await
            {
                setup.push(done??);
            }
            under_way.spawn(one(index, name, address, arrivals.clone()));
        }
        while let Some(done) = under_way.join_next().await {
            setup.push(done??);
        }
        anyhow::Ok(setup)
    })?;
    let setup = fleet.lab.router().block_on(connecting)??;
    Ok(Users { names, setup, arrived, seen: HashSet::new() })
}

/// Connects one user and reads its messages from then on.
async fn one(
    index: usize,
    name: String,
    address: std::net::SocketAddr,
    arrivals: mpsc::UnboundedSender<(usize, String)>,
) -> Result<Duration> {
    let begin = Instant::now();
    let connected = async {
        let stream = TcpStream::connect(address).await?;
        let request = format!("ws://{address}/?sendID={name}&token=t&platformID=5&operationID=demo-{index}");
        anyhow::Ok(client_async(request, stream).await?.0)
    };
    let mut socket = tokio::time::timeout(PATIENCE, connected)
        .await
        .with_context(|| format!("{name} got no answer"))?
        .with_context(|| format!("{name} was not let in"))?;
    let took = begin.elapsed();
    tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message {
                let _ = arrivals.send((index, text.to_string()));
            }
        }
    });
    Ok(took)
}

/// How many users have got their push of `round`; waits up to `limit` for the last.
pub fn arrivals(fleet: &Fleet<'_>, users: &mut Users, round: &str, limit: Duration) -> usize {
    let deadline = Instant::now() + limit;
    let expected = |users: &Users| {
        (0..users.names.len()).filter(|&index| users.seen.contains(&(index, text(round, &users.names[index])))).count()
    };
    fleet.lab.client(0).block_on(async {
        // What is there already, and then what still comes.
        loop {
            while let Ok(one) = users.arrived.try_recv() {
                users.seen.insert(one);
            }
            let count = expected(users);
            if count == users.names.len() || round == "portless" {
                return count;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, users.arrived.recv()).await {
                Ok(Some(one)) => users.seen.insert(one),
                _ => return count,
            };
        }
    })
}

/// What the push of `round` to `user` says.
pub fn text(round: &str, user: &str) -> String {
    format!("{round} push to {user}")
}
