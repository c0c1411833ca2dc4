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
    /// What all processors of the machine worked in that time, whoever for, by message.
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

/// Everybody talks for `length`.
pub fn turn(fleet: &Fleet<'_>, address: SocketAddr, users: &[String], length: Duration) -> Result<Turn> {
    fleet.lab.client(0).block_on(async {
        let mut sockets = Vec::new();
        for user in users {
            sockets.push(connect(address, user).await.with_context(|| format!("{user} at {address}"))?);
        }
        let (busy, begin) = (busy_us()?, Instant::now());
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
        let (elapsed, busy) = (begin.elapsed(), busy_us()? - busy);
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e6;
        Ok(Turn {
            per_second: times.len() as f64 / elapsed.as_secs_f64(),
            p50_us: at(50),
            p99_us: at(99),
            cpu_us: busy / times.len() as f64,
        })
    })
}

async fn connect(address: SocketAddr, user: &str) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("ws://{address}/?sendID={user}&token=t&platformID=5&operationID=bench");
    Ok(client_async(request, stream).await?.0)
}

/// How long all processors of the machine have worked, in microseconds.
fn busy_us() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat says {line}");
    // user nice system idle iowait irq softirq steal, in ticks of a hundredth of a second (USER_HZ).
    Ok((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * 10_000.0)
}
