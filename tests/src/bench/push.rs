//! `bench push`: how long a push is on its way to one user who is online, from the pusher's write to the client's hands.
//!
//! One push after the other, to each user in turn, in three ways that take turns. *steered*: `POST /push`, each on a
//! connection of its own that the kernel puts on the user's node; it is set up before the clock runs. *passed on*: batches of
//! one user over one connection, which the node where it happened to end passes on. *broadcast*: a line to the plain server
//! of `bench fanout`, who knows one client only.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use super::{
    crowd::{PATIENCE, now_ns, user},
    fanout::{BROADCAST_PORT, broadcast, broadcaster, round},
    figures::percentile,
    idle::crowd,
};
use crate::{
    client::{BatchPusher, Dial, Push, PushStatus},
    fleet::{Fleet, Options},
    lab::{Family, Lab, Process},
};

/// How long one push is on its way
#[derive(Debug, Parser)]
pub struct Args {
    /// Users, all online
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
    users: u32,
    /// Nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=8))]
    nodes: u32,
    /// Rounds; in each every way has one turn, with a push to every user
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// Of one turn, in microseconds.
struct Turn {
    p50: u64,
    p99: u64,
    took: Duration,
}

/// Runs it and prints the figures.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(args.nodes as usize).clients(2).build()?;
    let fleet = Fleet::start(&lab, &Options::default())?;
    let count = args.users as usize;
    let plain_address = SocketAddr::new(lab.node(0).address(Family::V4), BROADCAST_PORT);
    let _server = broadcaster(lab.node(0), plain_address)?;
    let steered = crowd(&lab, 0, fleet.websocket(), 0, count, None)?;
    let plain = crowd(&lab, 1, plain_address, 0, 1, None)?;
    for crowd in [&steered, &plain] {
        crowd.wait_for_log_line("connected", PATIENCE)?;
    }
    let users: Vec<String> = (0..count).map(user).collect();
    let mut turns: BTreeMap<&str, Vec<Turn>> = BTreeMap::new();
    for number in 0..args.rounds {
        let turn = timed(&steered, || lab.pusher().block_on(push_each(fleet.push(), &users)))?;
        turns.entry("steered").or_default().push(turn);
        let turn = timed(&steered, || lab.pusher().block_on(pass_each(fleet.push(), &users, number)))?;
        turns.entry("passed on").or_default().push(turn);
        let turn = plainly(&plain, count, || lab.pusher().block_on(broadcast(plain_address)))?;
        turns.entry("broadcast").or_default().push(turn);
    }
    println!(
        "a push to one of {count} users over {} nodes, one after the other; medians of {} rounds\n{:<12} {:>8} {:>8}   pushes/s",
        args.nodes, args.rounds, "", "p50 µs", "p99 µs"
    );
    for (way, turns) in turns {
        let median = |of: fn(&Turn) -> u64| {
            let mut values: Vec<_> = turns.iter().map(of).collect();
            values.sort_unstable();
            percentile(&values, 50)
        };
        let took_us = median(|turn| turn.took.as_micros() as u64);
        let per_s = count as u64 * 1_000_000 / took_us.max(1);
        println!("{way:<12} {:>8} {:>8}   {per_s:>8}", median(|turn| turn.p50), median(|turn| turn.p99));
    }
    Ok(())
}

/// A turn in which every user of the crowd is pushed to once.
fn timed(crowd: &Process, push: impl FnOnce() -> Result<()>) -> Result<Turn> {
    let mark = crowd.log_mark();
    let begun = Instant::now();
    push()?;
    let took = begun.elapsed();
    let line = crowd.wait_for_log(mark, PATIENCE, |line| line.starts_with("round "))?;
    let figures = line.split_whitespace().skip(3).map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let &[p50, p99, _] = &figures[..] else { anyhow::bail!("the crowd says {line:?}") };
    Ok(Turn { p50, p99, took })
}

/// A turn with the one client of the broadcast server.
fn plainly(crowd: &Process, count: usize, push: impl Fn() -> Result<u64>) -> Result<Turn> {
    let begun = Instant::now();
    let sent = (0..count).map(|_| push()).collect::<Result<Vec<_>>>()?;
    let took = begun.elapsed();
    let mut each = sent.iter().map(|&sent_ns| Ok(round(crowd, sent_ns)?[1])).collect::<Result<Vec<_>>>()?;
    each.sort_unstable();
    Ok(Turn { p50: percentile(&each, 50), p99: percentile(&each, 99), took })
}

async fn push_each(service: SocketAddr, users: &[String]) -> Result<()> {
    for user in users {
        let stream = Dial::new(service).connect().await?;
        let answer = Push::text(user, now_ns().to_string()).send(stream).await?;
        ensure!(answer.status == 200 && answer.json()?["delivered"] == 1, "{user}: {answer:?}");
    }
    Ok(())
}

async fn pass_each(service: SocketAddr, users: &[String], round: u32) -> Result<()> {
    let mut pusher = BatchPusher::connect(service).await?;
    for user in users {
        let statuses = pusher.push(&format!("bench-{round}-{user}"), &[user], &now_ns().to_string()).await;
        let statuses = statuses.with_context(|| format!("to {user}"))?;
        ensure!(statuses == [PushStatus::Delivered], "{user}: {statuses:?}");
    }
    Ok(())
}
