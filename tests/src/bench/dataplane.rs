//! Nanoseconds per packet in `steer`.
//!
//! The kernel runs the program on a packet many times and takes the time (`BPF_PROG_TEST_RUN`). Since it does not restore
//! the packet in between, a wrapper does (`bench_restore` of the lab's object), and also chooses the connection; its
//! time is in every figure, nothing is subtracted. After each batch the program's own counters must say that every
//! single packet went the way that the line names.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use bytemuck::Zeroable as _;
use ringsteer_ebpf::layout::{
    flow::{Flow, FlowKey},
    mapped,
    stats::Stats,
};

use super::{
    figures::Figures,
    node::{Node, Rounds, stay_on_one_cpu},
    packets,
};

/// Nanoseconds per packet in the kernel program `steer`
///
/// Every figure contains the wrapper that restores the packet before each round.
#[derive(clap::Args)]
pub struct Args {
    /// Batches per line; the median is taken over them
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batches: u16,
    /// Measure this object instead of the one built in
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
}

/// Rounds per batch. Not more than the connections that a batch of first segments binds: each is bound once.
const ROUNDS: u32 = 1 << 20;
/// Connections bound in a batch.
const FRESH: u32 = 1 << 16;
/// Sizes of the flow table; powers of two.
const TABLES: [u32; 3] = [1, 1 << 16, 1 << 20];
/// More than ever are in the table at once.
const MAX_FLOWS: u32 = 1 << 21;
/// Member numbers: this node, and one that takes a tunnel.
const HERE: u32 = 1;
const ELSEWHERE: u32 = 2;

/// What the best-known C balancer takes on such a machine, wrapper included, with 1, 65 536 and 1 048 576 flows: IP-in-IP,
/// its UDP encapsulation, a new flow; and what we want to be.
const C_IPIP: [u64; 3] = [165, 387, 632];
const C_UDP: [u64; 3] = [404, 671, 913];
const C_NEW: [u64; 3] = [348, 971, 1230];
const AIM: [u64; 3] = [160, 350, 550];

/// Runs the benchmark and prints its figures.
///
/// # Errors
/// If the process is not root, the kernel refuses a program, or a packet did not go the way it should.
pub fn run(args: &Args) -> Result<()> {
    let cpu = stay_on_one_cpu()?;
    let mut bench = Bench { node: Node::new(MAX_FLOWS, args.object.clone())?, batches: args.batches, flows: 0 };
    println!("{}, CPU {cpu}; nanoseconds per packet, wrapper included, {} batches", machine()?, args.batches);
    println!("{:<52}  median    min    max", "");
    bench.run_all()
}

struct Bench {
    node: Node,
    batches: u16,
    /// How many flows are in the table, held by another node.
    flows: u32,
}

impl Bench {
    fn run_all(&mut self) -> Result<()> {
        self.node.run_nothing()?;
        self.node.prepare(packets::established(), Rounds { connections: 1, ..Rounds::default() })?;
        let bare = (0..self.batches).map(|_| self.node.batch_of_nothing(ROUNDS)).collect::<Result<_>>()?;
        line("an empty program without the wrapper", &Figures::new(bare), "");
        let figures = self.batches(ROUNDS, None, |_| Ok(()))?;
        line("the wrapper alone", &figures, "");
        self.node.run_steer()?;

        self.node.prepare(packets::tunnelled(), Rounds::default())?;
        let figures = self.batches(ROUNDS, Some(|stats| stats.untunnelled), |_| Ok(()))?;
        line("out of the tunnel", &figures, "");

        self.fill(1, HERE)?;
        self.node.prepare(packets::established(), Rounds { connections: 1, ..Rounds::default() })?;
        let figures = self.batches(ROUNDS, Some(|stats| stats.delivered), |_| Ok(()))?;
        line("flow hit, local, 1 flow", &figures, "");
        self.flows = 0;

        for (index, flows) in TABLES.into_iter().enumerate() {
            self.fill(flows, ELSEWHERE)?;
            self.node.prepare(packets::established(), Rounds { connections: flows, ..Rounds::default() })?;
            let figures = self.batches(ROUNDS, Some(|stats| stats.tunnelled), |_| Ok(()))?;
            let beside =
                format!("aim {:>3}; C balancer: IP-in-IP {:>3}, UDP {:>3}", AIM[index], C_IPIP[index], C_UDP[index]);
            line(&format!("flow hit + tunnel, {flows} flow(s)"), &figures, &beside);
        }
        self.empty()?;
        for (index, flows) in TABLES.into_iter().enumerate() {
            self.new_connections(index, flows)?;
        }
        Ok(())
    }

    /// SYNs and first segments of new connections beside `others` flows.
    fn new_connections(&mut self, index: usize, others: u32) -> Result<()> {
        // The connections that are bound here have the first numbers; the others come after them.
        self.fill_from(FRESH, others)?;
        let beside = format!("C balancer: new flow {:>4}", C_NEW[index]);
        let syn = Rounds { connections: FRESH, at_tail: true, ..Rounds::default() };
        self.node.prepare(packets::syn(), syn)?;
        let figures = self.batches(ROUNDS, Some(|stats| stats.syn_answered), |_| Ok(()))?;
        line(&format!("SYN answered, beside {others} flow(s)"), &figures, &beside);

        let user = self.user_elsewhere()?;
        for (place, request) in [
            ("sendID first", packets::request_with_key_first(&user)),
            ("sendID near byte 750", packets::request_with_key_late(&user)),
        ] {
            let rounds = Rounds { connections: FRESH, with_acknowledgement: true, ..Rounds::default() };
            self.node.prepare(packets::first(&request), rounds)?;
            let figures = self.batches(FRESH, Some(|stats| stats.bound_by_key), |bench| {
                bench.forget(0..FRESH)?;
                bench.node.prepare_acknowledgements()
            })?;
            self.forget(0..FRESH)?;
            line(&format!("first segment bound, {place}, beside {others}"), &figures, &beside);
        }
        self.forget(FRESH..FRESH + others)
    }

    /// Runs a batch to warm up and those that count. `before` comes before each; `counter` must count every packet.
    fn batches(
        &mut self,
        rounds: u32,
        counter: Option<fn(&Stats) -> u64>,
        before: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<Figures> {
        let mut taken = Vec::new();
        for batch in 0..=self.batches {
            before(self)?;
            let earlier = self.node.kernel.dataplane.maps.stats()?;
            let ns = self.node.batch(rounds)?;
            let counted = self.node.kernel.dataplane.maps.stats()?.since(&earlier);
            if let Some(counter) = counter {
                ensure!(
                    counter(&counted) == u64::from(rounds),
                    "of {rounds} packets only {} went the right way; all counters: {:?}",
                    counter(&counted),
                    counted.named().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
                );
            }
            if batch > 0 {
                taken.push(ns);
            }
        }
        Ok(Figures::new(taken))
    }

    /// Adds flows held by `node` until connections 0 to `flows` are in the table.
    fn fill(&mut self, flows: u32, node: u32) -> Result<()> {
        for connection in self.flows..flows {
            self.insert(connection, node)?;
        }
        self.flows = flows;
        Ok(())
    }

    fn fill_from(&mut self, first: u32, flows: u32) -> Result<()> {
        (first..first + flows).try_for_each(|connection| self.insert(connection, ELSEWHERE))
    }

    fn empty(&mut self) -> Result<()> {
        let flows = std::mem::take(&mut self.flows);
        self.forget(0..flows)
    }

    fn insert(&mut self, connection: u32, node: u32) -> Result<()> {
        let flow = Flow { node, ..Flow::zeroed() };
        self.node.kernel.dataplane.maps.flows.insert(key(connection), flow, 0).context("cannot write a flow")
    }

    /// Removes the flows of connections, as far as there are any.
    fn forget(&mut self, connections: std::ops::Range<u32>) -> Result<()> {
        for connection in connections {
            match self.node.kernel.dataplane.maps.flows.remove(&key(connection)) {
                Ok(()) | Err(aya::maps::MapError::KeyNotFound) => {}
                Err(aya::maps::MapError::SyscallError(error))
                    if error.io_error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("cannot remove a flow"),
            }
        }
        Ok(())
    }

    /// A user whom another node owns.
    fn user_elsewhere(&self) -> Result<String> {
        (0..100)
            .map(|number| format!("user-{number:04}"))
            .find(|user| u32::from(self.node.ring.owner(user.as_bytes()).number.get()) != HERE)
            .context("the ring gives everything to one node")
    }
}

/// The flow of a connection. The IPv4 service has the number 1.
fn key(connection: u32) -> FlowKey {
    let client = packets::client(connection);
    FlowKey { client: mapped(client.ip().octets()), client_port: client.port(), service: 1 }
}

fn line(case: &str, figures: &Figures, beside: &str) {
    println!("{}", format!("{case:<52}  {figures}   {beside}").trim_end());
}

/// Kernel and processor.
fn machine() -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unnamed processor");
    Ok(format!("Linux {}, {}", kernel.trim(), model.trim_start_matches([' ', '\t', ':'])))
}
