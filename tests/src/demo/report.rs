//! What the demo has measured, as tables.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use anyhow::{Result, ensure};
use ringsteer_ebpf::layout::stats::Stats;

use super::{pushes::Outcome, rings, users::Users};
use crate::fleet::Fleet;

/// The measured figures.
pub struct Report {
    users: usize,
    nodes: Vec<NodeRow>,
    setup_p50: Duration,
    setup_p99: Duration,
    /// By a ring of its own; the same, passed on; steered.
    pushes: [Outcome; 3],
    arrived: usize,
    counters: Stats,
    changed: rings::Outcome,
}

/// What is said about a node.
struct NodeRow {
    name: String,
    connections: usize,
    share: f64,
}

impl Report {
    /// Puts it together.
    pub fn new(
        fleet: &Fleet<'_>,
        users: &Users,
        pushes: [Outcome; 3],
        arrived: usize,
        counters: Stats,
        changed: rings::Outcome,
    ) -> Self {
        let mut setup = users.setup.clone();
        setup.sort_unstable();
        let shares = fleet.ring.shares();
        let nodes = fleet
            .ring
            .members()
            .iter()
            .enumerate()
            .map(|(index, member)| {
                let [_, _, after] = &pushes;
                let name = format!("node-{}", index + 1);
                let share = shares.iter().find(|(number, _)| *number == member.number).map_or(0.0, |(_, share)| *share);
                NodeRow { connections: after.by_node.get(&name).copied().unwrap_or(0), name, share }
            })
            .collect();
        Self {
            users: users.setup.len(),
            nodes,
            setup_p50: percentile(&setup, 50),
            setup_p99: percentile(&setup, 99),
            pushes,
            arrived,
            counters,
            changed,
        }
    }
}

/// The value that `percent` of the sorted ones do not exceed.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or_default()
}

/// Adds a node's counters, as its agent names them.
pub fn add_counters(total: &mut Stats, counters: &BTreeMap<String, u64>) -> Result<()> {
    ensure!(counters.len() == Stats::NAMES.len(), "the agent counts other things than this demo knows");
    let mut one: Stats = bytemuck::Zeroable::zeroed();
    for (slot, name) in bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(&mut one)).iter_mut().zip(Stats::NAMES)
    {
        *slot = counters.get(*name).copied().unwrap_or(0);
    }
    total.add(&one);
    Ok(())
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: usize| 100.0 * part as f64 / self.users.max(1) as f64;
        writeln!(f, "\nA push to each of {} online users           delivered   passed on   misrouted", self.users)?;
        let names = [
            "two rings, one without ports (before)",
            "the same, gateways pass pushes on",
            "one ring, in the kernel (ringsteer)",
        ];
        for (name, Outcome { delivered, forwarded, misrouted, .. }) in names.iter().zip(&self.pushes) {
            let share = percent(*misrouted);
            writeln!(f, "  {name:<42} {delivered:>8}   {forwarded:>9}   {misrouted:>9}  ({share:.1} %)")?;
        }
        writeln!(f, "  seen by the users' own websockets          {:>8}", self.arrived)?;
        writeln!(f, "\nConnections        held   share of users   the ring's share")?;
        for node in &self.nodes {
            writeln!(
                f,
                "  {:<14} {:>6}   {:>12.1} %   {:>14.1} %",
                node.name,
                node.connections,
                percent(node.connections),
                node.share * 100.0
            )?;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(
            f,
            "\nConnection set-up (SYN to 101): p50 {:.2} ms, p99 {:.2} ms",
            ms(self.setup_p50),
            ms(self.setup_p99)
        )?;
        writeln!(f, "\nKernel counters, all nodes")?;
        for (name, value) in self.counters.named().filter(|(_, value)| *value > 0) {
            writeln!(f, "  {name:<24} {value:>10}")?;
        }
        write!(f, "\n{}", self.changed)
    }
}
