//! Many clients in a process of their own: a process may open only so many files, and what is measured should not share
//! one with what measures.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use ringsteer_openim::{
    platform::Platform,
    token::{Claims, Keys},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use super::figures::percentile;

/// How many connections are being set up at any one time.
const AT_ONCE: usize = 64;

/// How often an idle user shows that he lives; the gateway ends who is silent for a minute.
const ALIVE: Duration = Duration::from_secs(25);

/// First bytes of whole frames, RFC 6455 section 5.2.
const TEXT: u8 = 0x81;
const PONG: u8 = 0x8a;

/// Many websockets; started by other benchmarks
#[derive(Debug, Parser)]
pub struct Args {
    /// Where to connect
    address: SocketAddr,
    /// The number of the first user
    first: usize,
    /// How many users
    count: usize,
    /// Each says something this often, and what comes back is not looked at
    #[arg(long)]
    talk_ms: Option<u64>,
    /// They are OpenIM's clients, with tokens signed with what is in this file
    #[arg(long)]
    token_secret_file: Option<PathBuf>,
}

/// The name of a user.
pub fn user(number: usize) -> String {
    format!("crowd-{number}")
}

/// Nanoseconds of a clock that all processes share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Connects and stays until it is killed. Says `connected COUNT MICROSECONDS` once, and when every user has had a message
/// of the form `SENT_NS`, `round SENT_NS FIRST P50 P99 LAST`, times in microseconds from then on.
pub fn run(args: &Args) -> Result<()> {
    let requests = requests(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let (arrivals, mut arrived) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let ready = Arc::new(AtomicUsize::new(0));
        let (all_ready, mut is_ready) = mpsc::channel(1);
        for (user, request) in requests {
            let (address, count, talk_ms) = (args.address, args.count, args.talk_ms);
            let (room, ready) = (Arc::clone(&room), Arc::clone(&ready));
            let (arrivals, all_ready) = (arrivals.clone(), all_ready.clone());
            tokio::spawn(async move {
                let stream = {
                    let _place = room.acquire().await;
                    connect(address, &request).await
                };
                match stream {
                    Ok(stream) => {
                        if ready.fetch_add(1, Ordering::Relaxed) + 1 == count {
                            let _ = all_ready.try_send(());
                        }
                        // Until the process is killed, or the gateway ends.
                        let _ = match talk_ms {
                            None => listen(stream, &arrivals).await,
                            Some(every_ms) => talk(stream, Duration::from_millis(every_ms)).await,
                        };
                    }
                    Err(error) => say(&format!("failed {user}: {error:#}")),
                }
            });
        }
        is_ready.recv().await.context("nobody is connected")?;
        say(&format!("connected {} {}", args.count, begun.elapsed().as_micros()));
        let mut round = Vec::new();
        while let Some((sent_ns, took_ns)) = arrived.recv().await {
            round.push(took_ns);
            if round.len() == args.count {
                round.sort_unstable();
                let us = |ns: u64| ns / 1000;
                say(&format!(
                    "round {sent_ns} {} {} {} {}",
                    us(round[0]),
                    us(percentile(&round, 50)),
                    us(percentile(&round, 99)),
                    us(round[round.len() - 1])
                ));
                round.clear();
            }
        }
        Ok(())
    })
}

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

/// The users, and what each of them asks for.
fn requests(args: &Args) -> Result<Vec<(String, String)>> {
    let keys = match &args.token_secret_file {
        None => None,
        Some(file) => Some(Keys::new([fs::read(file)?.trim_ascii().to_vec()], Duration::ZERO)?),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs().cast_signed();
    let request = |number| {
        let user = user(number);
        let more = keys.as_ref().map_or_else(String::new, |keys| {
            let claims = Claims { user: user.clone(), platform: Platform::Android, expires: now + 3600 };
            format!("&token={}&platformID=2&operationID={number}&sdkType=js", keys.sign(&claims, now))
        });
        let request = format!(
            "GET /?sendID={user}{more} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        (user, request)
    };
    Ok((args.first..args.first + args.count).map(request).collect())
}

async fn connect(address: SocketAddr, request: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended");
        ensure!(answer.starts_with(&b"HTTP/1.1 101"[..answer.len().min(12)]), "{}", answer.escape_ascii());
    }
    Ok(stream)
}

/// Talks, and reads what comes.
async fn talk(stream: TcpStream, every: Duration) -> Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let says = async {
        // A text of four bytes, masked with nothing.
        let frame = *b"\x81\x84\0\0\0\0busy";
        // Not all at the same time.
        sleep(every.mul_f64(fastrand::f64())).await;
        let mut pace = interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while writer.write_all(&frame).await.is_ok() {
            pace.tick().await;
        }
    };
    let hears = async {
        let mut buffer = [0; 1024];
        while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
    };
    tokio::select! {
        () = says => {}
        () = hears => {}
    }
    anyhow::bail!("the connection ended")
}

/// Notes each message: when it was sent, and how long it took.
async fn listen(stream: TcpStream, arrivals: &mpsc::UnboundedSender<(u64, u64)>) -> Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let lives = async {
        // Not all at the same time.
        sleep(ALIVE.mul_f64(fastrand::f64())).await;
        let mut pace = interval(ALIVE);
        // A ping without content, masked with nothing.
        while writer.write_all(b"\x89\x80\0\0\0\0").await.is_ok() {
            pace.tick().await;
        }
        anyhow::bail!("the connection ended")
    };
    let hears = async {
        loop {
            let mut header = [0; 2];
            reader.read_exact(&mut header).await?;
            let length = usize::from(header[1] & 0x7f);
            ensure!(length < 126, "not a short frame");
            let mut text = [0; 125];
            reader.read_exact(&mut text[..length]).await?;
            if header[0] == PONG {
                continue;
            }
            ensure!(header[0] == TEXT, "not a text");
            let arrived_ns = now_ns();
            let sent_ns: u64 = std::str::from_utf8(&text[..length])?.trim_end().parse()?;
            arrivals.send((sent_ns, arrived_ns.saturating_sub(sent_ns)))?;
        }
    };
    tokio::select! {
        ended = lives => ended,
        ended = hears => ended,
    }
}

/// How long a crowd may take to connect.
pub const PATIENCE: Duration = Duration::from_secs(120);
