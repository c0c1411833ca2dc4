//! `bench path`: one websocket message there and back, end to end in the lab, over three ways to the same gateway.
//!
//! * direct: to the gateway's own address, nothing in between;
//! * steered: to the virtual address, through the edge, the tunnel and admission;
//! * proxied: through HAProxy on the edge's node, which picks the backend by `url_param sendID`.
//!
//! The ways take turns within one run, and the table shows medians over the rounds.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    fleet::{DIRECT_WEBSOCKET_PORT, Fleet, Options},
    lab::Lab,
};

/// Compare the ways to a gateway: direct, steered, through HAProxy
#[derive(Debug, Parser)]
pub struct Args {
    /// Rounds; each way has one turn in each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Seconds of a turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

/// Bytes in a message.
const MESSAGE: usize = 128;

/// HAProxy's port.
const PROXY_PORT: u16 = 10_080;

/// The ways, in the order of the table.
const WAYS: [&str; 3] = ["direct", "steered", "HAProxy"];

/// One turn's figures.
#[derive(Clone, Copy, Debug)]
struct Turn {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

/// Runs it and prints the tables.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(2).clients(1).build()?;
    let fleet = Fleet::start(&lab, &Options::default())?;
    let configuration = lab.node(0).run_dir().join("haproxy.cfg");
    fs::write(&configuration, haproxy(&lab))?;
    let mut proxy = Command::new("haproxy");
    proxy.arg("-db").arg("-f").arg(&configuration);
    lab.node(0).spawn_command("haproxy", proxy)?;
    let addresses: [SocketAddr; 3] =
        [(lab.node(1).v4(), DIRECT_WEBSOCKET_PORT).into(), fleet.websocket(), (lab.node(0).v4(), PROXY_PORT).into()];
    listening(&lab, addresses[2])?;
    for connections in [1, 64] {
        let users = users(&fleet, addresses[2], connections)?;
        let mut turns: [Vec<Turn>; 3] = Default::default();
        for round in 0..args.rounds {
            eprintln!("{connections} connections, round {} of {}", round + 1, args.rounds);
            for (way, address) in addresses.iter().enumerate() {
                turns[way].push(turn(&fleet, *address, &users, Duration::from_secs(args.seconds))?);
            }
        }
        println!(
            "\n{connections} connection(s), messages of {MESSAGE} bytes there and back, medians of {} rounds",
            args.rounds
        );
        println!(
            "{:<10} {:>12} {:>10} {:>10} {:>16} {:>12}",
            "way", "messages/s", "p50 µs", "p99 µs", "CPU µs/message", "of direct"
        );
        let direct = median(turns[0].iter().map(|turn| turn.per_second));
        for (name, turns) in WAYS.iter().zip(&turns) {
            let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
            let rate = of(|turn| turn.per_second);
            println!(
                "{name:<10} {rate:>12.0} {:>10.1} {:>10.1} {:>16.1} {:>11.1} %",
                of(|turn| turn.p50_us),
                of(|turn| turn.p99_us),
                of(|turn| turn.cpu_us),
                100.0 * rate / direct
            );
        }
    }
    Ok(())
}

/// HAProxy in front of both gateways, as one would place it for OpenIM.
fn haproxy(lab: &Lab) -> String {
    let servers: String =
        (0..2).map(|node| format!("    server node{node} {}:{DIRECT_WEBSOCKET_PORT}\n", lab.node(node).v4())).collect();
    format!(
        "global\n    log stderr format raw local0 notice\n    stats timeout 10s\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    timeout tunnel 1h\n\
         listen websockets\n    bind {}:{PROXY_PORT}\n    balance url_param sendID\n    hash-type consistent\n{servers}",
        lab.node(0).v4()
    )
}

/// Waits until HAProxy listens: it says nothing when it does.
fn listening(lab: &Lab, proxy: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    lab.client(0).block_on(async {
        while let Err(error) = TcpStream::connect(proxy).await {
            ensure!(Instant::now() < deadline, "HAProxy does not listen on {proxy}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    })
}

/// Users that live on the second node by our ring and by HAProxy's hash, so that every way ends at the same gateway.
fn users(fleet: &Fleet<'_>, proxy: SocketAddr, count: usize) -> Result<Vec<String>> {
    fleet.lab.client(0).block_on(async {
        let mut users = Vec::new();
        for index in 0..100_000 {
            let user = format!("bench-{index}");
            if fleet.ring.owner(user.as_bytes()).number.get() == 2 && connect(proxy, &user).await.is_ok() {
                users.push(user);
            }
            if users.len() == count {
                return Ok(users);
            }
        }
        anyhow::bail!("HAProxy places too few users on the second node")
    })
}

async fn connect(address: SocketAddr, user: &str) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("ws://{address}/?sendID={user}&token=t&platformID=5&operationID=bench");
    Ok(client_async(request, stream).await?.0)
}

/// Everybody talks for `length`.
fn turn(fleet: &Fleet<'_>, address: SocketAddr, users: &[String], length: Duration) -> Result<Turn> {
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

/// How long all processors of the machine have worked, in microseconds.
fn busy_us() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() >= 8, "/proc/stat says {line}");
    // user nice system idle iowait irq softirq steal, in ticks of a hundredth of a second (USER_HZ).
    Ok((ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) * 10_000.0)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
