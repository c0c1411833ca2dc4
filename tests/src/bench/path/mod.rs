//! `bench path`: one websocket message there and back, end to end in the lab, over several ways to the same gateway.
//!
//! * [`ways`]: direct, routed, steered, proxied;
//! * [`talk`]: what is sent over them, and how it is measured.
//!
//! The ways take turns within one run. The table shows medians over the rounds; a ratio is the median of the ratios of
//! turns of the same round, so that whatever else the machine does in the meantime falls on both.

mod talk;
mod ways;

use std::{fs, time::Duration};

use anyhow::Result;
use clap::Parser;

use self::{
    talk::{MESSAGE, Turn},
    ways::Way,
};
use crate::{
    fleet::{Fleet, Options},
    lab::Lab,
};

/// Compare the ways to a gateway: direct, routed, steered, through HAProxy
#[derive(Debug, Parser)]
pub struct Args {
    /// Rounds; each way has one turn in each
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: u16,
    /// Seconds of a turn
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Leave the lab's links plain veths, which charge the hosts for what cards and switches do by themselves
    #[arg(long)]
    plain: bool,
}

/// Connections at the same time, one table each.
const CONNECTIONS: [usize; 2] = [1, 64];

/// Every way's turn in a round, in the order of [`Way::ALL`].
type Round = [Turn; Way::ALL.len()];

/// Runs it and prints the tables.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(2).stores(1).clients(1);
    let lab = if args.plain { lab } else { lab.hardware() }.build()?;
    let fleet = Fleet::start(&lab, &Options::default())?;
    ways::start_proxy(&lab)?;
    for connections in CONNECTIONS {
        let users = talk::users(&fleet, connections)?;
        let mut rounds = Vec::new();
        for number in 0..usize::from(args.rounds) {
            eprintln!("{connections} connections, round {} of {}", number + 1, args.rounds);
            rounds.push(round(&fleet, &users, Duration::from_secs(args.seconds), number)?);
        }
        print(connections, &rounds)?;
    }
    Ok(())
}

/// Each way has a turn. Another one begins in every round, so that none always follows the same.
fn round(fleet: &Fleet<'_>, users: &[String], length: Duration, number: usize) -> Result<Round> {
    let mut turns = [None; Way::ALL.len()];
    for offset in 0..turns.len() {
        let index = (number + offset) % turns.len();
        let way = Way::ALL[index].open(fleet)?;
        turns[index] = Some(talk::turn(fleet, way.address, users, length)?);
    }
    Ok(turns.map(|turn| turn.expect("each had its turn")))
}

fn print(connections: usize, rounds: &[Round]) -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?;
    println!(
        "\n{connections} connection(s), messages of {MESSAGE} bytes there and back, medians of {} rounds (load average {})",
        rounds.len(),
        load.split_whitespace().next().unwrap_or("unknown")
    );
    println!(
        "{:<21} {:>11} {:>9} {:>9} {:>15} {:>10} {:>10}",
        "way", "messages/s", "p50 µs", "p99 µs", "CPU µs/message", "of direct", "of routed"
    );
    for (index, way) in Way::ALL.iter().enumerate() {
        let of = |figure: fn(&Turn) -> f64| median(rounds.iter().map(|round| figure(&round[index])));
        let share = |of: Way| {
            let of = Way::ALL.iter().position(|&way| way == of).expect("all ways are in ALL");
            100.0 * median(rounds.iter().map(|round| round[index].per_second / round[of].per_second))
        };
        println!(
            "{way:<21} {:>11.0} {:>9.1} {:>9.1} {:>15.1} {:>8.1} % {:>8.1} %",
            of(|turn| turn.per_second),
            of(|turn| turn.p50_us),
            of(|turn| turn.p99_us),
            of(|turn| turn.cpu_us),
            share(Way::Direct),
            share(Way::Routed),
        );
    }
    Ok(())
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
