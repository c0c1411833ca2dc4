//! `bench fanout`: one message to very many users who are online, over several nodes; next to it, taking turns, the same
//! through a plain broadcast server on one of the nodes.
//!
//! The pusher hands one batch to the virtual address. From just before that, the time until each user's client has the
//! message in its hands: half of the users, 99 of a hundred, all. The broadcast server has its clients in one process, asks
//! no ring and answers for nobody; it is what remains when all that is left away.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{
    crowd::{PATIENCE, now_ns, user},
    figures::Figures,
    idle::crowd,
};
use crate::{
    fleet::{Fleet, Options, PUSH_TOKEN},
    lab::{Family, Host, Lab, Process},
};

/// Where the broadcast server listens for clients; one port further for messages.
pub const BROADCAST_PORT: u16 = 10_020;

/// One message to many users
#[derive(Debug, Parser)]
pub struct Args {
    /// Users, all online
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    users: u32,
    /// Nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=8))]
    nodes: u32,
    /// Messages; the figures are medians over these
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=999))]
    messages: u32,
}

/// A server that sends each message to everybody; started by `bench fanout`
#[derive(Debug, Parser)]
pub struct BroadcastArgs {
    /// Where clients connect
    address: SocketAddr,
}

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(args.nodes as usize).clients(2).build()?;
    let fleet = Fleet::start(&lab, &Options { max_flows: 65_536, ..Options::default() })?;
    let count = args.users as usize;
    let broadcast_address = SocketAddr::new(lab.node(0).address(Family::V4), BROADCAST_PORT);
    let _server = broadcaster(lab.node(0), broadcast_address)?;
    let steered = crowd(&lab, 0, fleet.websocket(), 0, count, None)?;
    let plain = crowd(&lab, 1, broadcast_address, 0, count, None)?;
    for crowd in [&steered, &plain] {
        crowd.wait_for_log_line("connected", PATIENCE)?;
    }
    let users: Vec<String> = (0..count).map(user).collect();
    let mut taken: BTreeMap<&str, [Vec<u64>; 4]> = BTreeMap::new();
    for _ in 0..args.messages {
        for (way, crowd) in [("ringsteer", &steered), ("broadcast", &plain)] {
            let sent_ns = match way {
                "ringsteer" => lab.pusher().block_on(push(fleet.push(), &users))?,
                _ => lab.pusher().block_on(broadcast(broadcast_address))?,
            };
            let figures = round(crowd, sent_ns)?;
            for (column, figure) in taken.entry(way).or_default().iter_mut().zip(figures) {
                column.push(figure);
            }
        }
    }
    println!(
        "one message to {count} users over {} nodes, {} messages; medians, microseconds from the pusher's write\n{:<12} {:>10} \
         {:>10} {:>10} {:>10}  users/s",
        args.nodes, args.messages, "", "first", "p50", "p99", "last"
    );
    for (way, columns) in taken {
        let [first, p50, p99, last] = columns.map(|column| Figures::new(column).median());
        let per_s = count as u64 * 1_000_000 / last.max(1);
        println!("{way:<12} {first:>10} {p50:>10} {p99:>10} {last:>10}  {per_s:>7}");
    }
    Ok(())
}

/// Starts the broadcast server on a host, and waits until it listens.
pub fn broadcaster(host: &Host, address: SocketAddr) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["broadcast", &address.to_string()]);
    let server = host.spawn_command("broadcast", command)?;
    server.wait_for_log_line("listening", PATIENCE)?;
    Ok(server)
}

/// What the crowd says about a message: first, p50, p99, last.
pub fn round(crowd: &Process, sent_ns: u64) -> Result<[u64; 4]> {
    let line = crowd.wait_for_log_line(&format!("round {sent_ns} "), PATIENCE)?;
    let figures = line.split_whitespace().skip(2).map(|figure| figure.parse().context("not a number"));
    let figures = figures.collect::<Result<Vec<u64>>>()?;
    figures.try_into().ok().context("four figures were expected")
}

/// Pushes the time to all users at once; the time.
async fn push(address: SocketAddr, users: &[String]) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let sent_ns = now_ns();
    let body = json!({ "users": users, "text": sent_ns.to_string() }).to_string();
    let head = format!(
        "POST /push/batch?recvID={} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {PUSH_TOKEN}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        users[0],
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await??;
    let text = std::str::from_utf8(&answer)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}: {body:.300}");
    let body: Value = serde_json::from_str(body)?;
    let results = body["results"].as_array().context("no results")?;
    ensure!(results.len() == users.len(), "an answer for {} of {} users", results.len(), users.len());
    let offline = results.iter().filter(|result| result["status"] != "delivered").count();
    ensure!(offline == 0, "{offline} users were not reached: {:.300}", results[0]);
    Ok(sent_ns)
}

/// Has the broadcast server send the time to everybody; the time.
pub async fn broadcast(address: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect((address.ip(), address.port() + 1)).await?;
    stream.set_nodelay(true)?;
    let sent_ns = now_ns();
    stream.write_all(format!("{sent_ns}\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.trim() == "sent", "the broadcast server says {answer:?}");
    Ok(sent_ns)
}

/// Serves until it is killed.
pub fn serve(args: &BroadcastArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let everybody: Arc<Mutex<Vec<mpsc::UnboundedSender<Message>>>> = Arc::default();
        let clients = listen(args.address.ip(), args.address.port())?;
        let messages = listen(args.address.ip(), args.address.port() + 1)?;
        println!("listening");
        let joining = Arc::clone(&everybody);
        tokio::spawn(async move {
            while let Ok((stream, _)) = clients.accept().await {
                let joining = Arc::clone(&joining);
                tokio::spawn(async move {
                    let _ = client(stream, &joining).await;
                });
            }
        });
        loop {
            let (stream, _) = messages.accept().await?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let message = Message::text(line.trim());
            everybody.lock().expect("nobody panics with it").retain(|one| one.send(message.clone()).is_ok());
            stream.get_mut().write_all(b"sent\n").await?;
        }
    })
}

async fn client(stream: TcpStream, everybody: &Mutex<Vec<mpsc::UnboundedSender<Message>>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let (sender, mut messages) = mpsc::unbounded_channel();
    let mut websocket = accept_async(stream).await?;
    everybody.lock().expect("nobody panics with it").push(sender);
    loop {
        tokio::select! {
            said = websocket.next() => match said {
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
            Some(message) = messages.recv() => websocket.send(message).await?,
        }
    }
}

fn listen(address: IpAddr, port: u16) -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((address, port).into())?;
    Ok(socket.listen(4096)?)
}
