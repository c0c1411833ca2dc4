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
    lab::{Lab, Process},
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

/// What a turn is judged by.
type Figure = fn(&Turn) -> f64;

/// The figures that ways are compared by, and how they are called.
const COMPARED: [(&str, Figure); 3] =
    [("messages/s", |turn| turn.per_second), ("p50", |turn| turn.p50_us), ("CPU", |turn| turn.cpu_us)];

/// Runs it and prints the tables.
pub fn run(args: &Args) -> Result<()> {
    let lab = Lab::builder().nodes(2).stores(1).clients(1);
    let lab = if args.plain { lab } else { lab.hardware() }.build()?;
    let fleet = Fleet::start(&lab, &Options::default())?;
    let proxy = ways::start_proxy(&lab)?;
    let processes: Vec<u32> = fleet.gateways.iter().chain([&proxy]).map(Process::pid).collect();
    for connections in CONNECTIONS {
        let users = talk::users(&fleet, connections)?;
        let mut rounds = Vec::new();
        for number in 0..usize::from(args.rounds) {
            eprintln!("{connections} connections, round {} of {}", number + 1, args.rounds);
            let turn = |way: Way| {
                let open = way.open(&fleet)?;
                talk::turn(&fleet, open.address, &users, Duration::from_secs(args.seconds), &processes)
            };
            rounds.push(round(number, turn)?);
        }
        print(connections, &rounds)?;
    }
    Ok(())
}

/// Each way has a turn. Another one begins in every round, so that none always follows the same.
fn round(number: usize, turn: impl Fn(Way) -> Result<Turn>) -> Result<Round> {
    let mut turns = [None; Way::ALL.len()];
    for offset in 0..turns.len() {
        let index = (number + offset) % turns.len();
        turns[index] = Some(turn(Way::ALL[index])?);
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
        "{:<21} {:>11} {:>9} {:>9} {:>8}   of direct: {:>10} {:>7} {:>7}",
        "way", "messages/s", "p50 µs", "p99 µs", "CPU µs", COMPARED[0].0, COMPARED[1].0, COMPARED[2].0
    );
    for way in Way::ALL {
        let of = |figure: Figure| median(rounds.iter().map(|round| figure(&round[way as usize])));
        let [rate, p50, cpu] = COMPARED.map(|(_, figure)| ratio(rounds, way, Way::Direct, figure));
        println!(
            "{way:<21} {:>11.0} {:>9.1} {:>9.1} {:>8.1}              {rate:>8.1} % {p50:>5.1} % {cpu:>5.1} %",
            of(|turn| turn.per_second),
            of(|turn| turn.p50_us),
            of(|turn| turn.p99_us),
            of(|turn| turn.cpu_us),
        );
    }
    let of_routed = COMPARED
        .map(|(name, figure)| format!("{name} {:.1} %", ratio(rounds, Way::Steered, Way::Routed, figure)))
        .join(", ");
    println!("steered, of routed: {of_routed}");
    Ok(())
}

/// The median of the ratios within the rounds, in percent.
fn ratio(rounds: &[Round], way: Way, of: Way, figure: Figure) -> f64 {
    100.0 * median(rounds.iter().map(|round| figure(&round[way as usize]) / figure(&round[of as usize])))
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
