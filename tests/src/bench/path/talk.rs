//! A turn: users who send a message, wait for its echo and send the next, as fast as it goes.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::ways::{self, OWNER};
use crate::fleet::Fleet;

/// Bytes in a message.
pub const MESSAGE: usize = 128;

/// One turn's figures.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Messages that went there and back, in a second.
    pub per_second: f64,
    /// Of the time there and back, half took at most this long.
    pub p50_us: f64,
    /// 99 of 100 took at most this long.
    pub p99_us: f64,
    /// How long the client, the gateways and the proxy ran in that time, by message. What else the machine does hardly
    /// shows in it.
    pub cpu_us: f64,
}

/// Users that live on the owner's node by our ring and by HAProxy's hash, so that every way ends at the same gateway.
pub fn users(fleet: &Fleet<'_>, count: usize) -> Result<Vec<String>> {
    let proxy = ways::proxy(fleet.lab);
    fleet.lab.client(0).block_on(async {
        let mut users = Vec::new();
        for index in 0..100_000 {
            let user = format!("bench-{index}");
            let number = usize::from(fleet.ring.owner(user.as_bytes()).number.get());
            if number == OWNER + 1 && connect(proxy, &user).await.is_ok() {
                users.push(user);
            }
            if users.len() == count {
                return Ok(users);
            }
        }
        bail!("HAProxy places too few users on node {OWNER}")
    })
}

/// Everybody talks for `length`. The processes are those that take part, besides this one.
pub fn turn(
    fleet: &Fleet<'_>,
    address: SocketAddr,
    users: &[String],
    length: Duration,
    processes: &[u32],
) -> Result<Turn> {
    fleet.lab.client(0).block_on(async {
        let mut sockets = Vec::new();
        for user in users {
            sockets.push(connect(address, user).await.with_context(|| format!("{user} at {address}"))?);
        }
        let (ran, begin) = (ran_us(processes)?, Instant::now());
        let mut talking = JoinSet::new();
        for mut socket in sockets {
            talking.spawn(async move {
                let mut times = Vec::new();
                while begin.elapsed() < length {
                    let sent = Instant::now();
                    socket.send(Message::binary(vec![7u8; MESSAGE])).await?;
                    let echo = socket.next().await.context("the gateway closed")??;
                    ensure!(echo.len() == MESSAGE, "another message came back");
                    times.push(sent.elapsed());
                }
                Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(done) = talking.join_next().await {
            times.extend(done??);
        }
        let (elapsed, ran) = (begin.elapsed(), ran_us(processes)? - ran);
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
        Ok(Turn {
            per_second: times.len() as f64 / elapsed.as_secs_f64(),
            p50_us: at(50),
            p99_us: at(99),
            cpu_us: ran / times.len() as f64,
        })
    })
}

async fn connect(address: SocketAddr, user: &str) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("ws://{address}/?sendID={user}&token=t&platformID=5&operationID=bench");
    Ok(client_async(request, stream).await?.0)
}

/// How long these processes and our own have run, all threads of them, in microseconds. The kernel's work on a packet
/// counts for whoever sent it on its way, unless the kernel is built to count that apart (CONFIG_IRQ_TIME_ACCOUNTING).
fn ran_us(processes: &[u32]) -> Result<f64> {
    let mut ran_ns = 0;
    for process in processes.iter().copied().chain([std::process::id()]) {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let path = thread?.path().join("schedstat");
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            // Nanoseconds on a processor, nanoseconds of waiting for one, turns.
            let first = text.split_whitespace().next().with_context(|| format!("{} is empty", path.display()))?;
            ran_ns += first.parse::<u64>()?;
        }
    }
    Ok(ran_ns as f64 / 1e3)
}
