//! A node that exists for the benchmark only, and the wrapper that prepares each round.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use ringsteer::ring::{Algorithm, Ring};
use ringsteer_ebpf::{
    cookie::DEFAULT_SLOT_SHIFT,
    layout::{
        bench::{Acknowledgements, MAX_ACKNOWLEDGEMENTS, Plan, RESTORED, WORDS},
        secret::Secrets,
    },
};

use super::packets;
use crate::{
    kernel::{self, Setup, ring_of},
    lab::{Family, hardware},
};

/// Nodes of the fleet; we are the first.
const NODES: u16 = 5;
/// Any key will do.
const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// The node.
pub struct Node {
    /// The programs under test, and where they run.
    pub kernel: kernel::Node,
    /// Who owns which user.
    pub ring: Ring,
    /// The fleet secrets.
    pub secrets: Secrets,
    lab: Ebpf,
    plan: Array<MapData, Plan>,
    acknowledgements: Array<MapData, Acknowledgements>,
    program: ProgramArray<MapData>,
    /// The packet that the plan restores.
    packet: Vec<u8>,
}

/// What happens before each round, next to restoring the packet.
#[derive(Clone, Copy, Default)]
pub struct Rounds {
    /// How many connections take turns, a power of two; 0 leaves the packet as it is.
    pub connections: u32,
    /// The packet changes its length at the end, not in front.
    pub at_tail: bool,
    /// Each connection has its own acknowledgement number.
    pub with_acknowledgement: bool,
}

impl Node {
    /// Moves this thread into new namespaces and loads the programs there.
    ///
    /// # Errors
    /// If the process is not root, a tool is missing or the kernel refuses the programs.
    pub fn new(max_flows: u32, object: Option<PathBuf>) -> Result<Self> {
        let setup = Setup {
            outer: Family::V4,
            max_flows,
            slot_shift: DEFAULT_SLOT_SHIFT,
            accept: false,
            neighbours: NODES,
            object,
        };
        let mut kernel = kernel::Node::new(&setup)?;
        // The tail call wants both programs to be alike, and the map remembers the first one: the wrapper.
        let mut lab = hardware::programs()?;
        let pass: &mut Xdp = lab.program_mut("lab_pass").context("lab.bpf.o has no `lab_pass`")?.try_into()?;
        pass.load()?;
        let restore: &mut Xdp =
            lab.program_mut("bench_restore").context("lab.bpf.o has no `bench_restore`")?.try_into()?;
        restore.load().context("the kernel refused `bench_restore`")?;
        let mut map = |name: &str| lab.take_map(name).with_context(|| format!("lab.bpf.o has no map `{name}`"));
        let plan = map("bench_plan")?.try_into()?;
        let acknowledgements = map("bench_acks")?.try_into()?;
        let program = map("bench_program")?.try_into()?;

        let identities: Vec<_> = (0..NODES).map(|index| format!("node-{index}:10001")).collect();
        let ring = ring_of(Algorithm::OpenIm, &identities, Family::V4)?;
        let secrets = Secrets { current: SECRET, previous: SECRET };
        kernel.publish(&ring, secrets)?;
        Ok(Self { kernel, ring, secrets, lab, plan, acknowledgements, program, packet: Vec::new() })
    }

    /// Makes `steer` the program that the rounds run.
    pub fn run_steer(&mut self) -> Result<()> {
        let steer = self.kernel.dataplane.steer().fd()?;
        self.program.set(0, steer, 0).context("cannot tail-call `steer`")
    }

    /// Makes the rounds run a program of two instructions.
    pub fn run_nothing(&mut self) -> Result<()> {
        let pass: &Xdp = self.lab.program("lab_pass").context("lab.bpf.o has no `lab_pass`")?.try_into()?;
        let pass: &ProgramFd = pass.fd()?;
        self.program.set(0, pass, 0).context("cannot tail-call `lab_pass`")
    }

    /// Sets the packet, and what happens before each round.
    pub fn prepare(&mut self, packet: Vec<u8>, rounds: Rounds) -> Result<()> {
        ensure!(packet.len() >= RESTORED, "a packet of {} bytes is too short to be restored", packet.len());
        let plan = Plan {
            words: bytemuck::pod_read_unaligned::<[u64; WORDS]>(&packet[..WORDS * 8]),
            rest: bytemuck::pod_read_unaligned(&packet[WORDS * 8..RESTORED]),
            at_tail: rounds.at_tail.into(),
            length: packet.len() as u32,
            connections_mask: rounds.connections.saturating_sub(1),
            position: 0,
            with_client: (rounds.connections > 0).into(),
            with_acknowledgement: rounds.with_acknowledgement.into(),
        };
        self.packet = packet;
        self.plan.set(0, plan, 0).context("cannot write the plan")
    }

    /// Writes what the connections acknowledge in their first segments, with cookies of this moment.
    pub fn prepare_acknowledgements(&mut self) -> Result<()> {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_TAI)?;
        let now_ns = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
        let slot = (now_ns >> DEFAULT_SLOT_SHIFT) as u32;
        let mut prepared = Box::new(Acknowledgements { numbers: [0; MAX_ACKNOWLEDGEMENTS] });
        for (connection, acknowledgement) in prepared.numbers.iter_mut().enumerate() {
            let number = packets::first_acknowledgement(&self.secrets, connection as u32, slot);
            *acknowledgement = number.to_be();
        }
        self.acknowledgements.set(0, prepared, 0).context("cannot write the acknowledgement numbers")
    }

    /// Runs a batch of a program of two instructions, without the wrapper: what the kernel's loop takes.
    pub fn batch_of_nothing(&mut self, rounds: u32) -> Result<u64> {
        self.test_run("lab_pass", rounds)
    }

    /// Runs a batch and gives the mean time of a round, in nanoseconds, as the kernel measured it.
    pub fn batch(&mut self, rounds: u32) -> Result<u64> {
        self.test_run("bench_restore", rounds)
    }

    fn test_run(&self, program: &str, rounds: u32) -> Result<u64> {
        let context = self.kernel.context(self.packet.len(), 0);
        let program: &Xdp =
            self.lab.program(program).with_context(|| format!("lab.bpf.o has no `{program}`"))?.try_into()?;
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(&self.packet),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                repeat: rounds,
                ..TestRunOptions::default()
            })
            .context("BPF_PROG_TEST_RUN failed")?;
        if result.return_value == 0 {
            bail!("a round was aborted: the packet could not be restored");
        }
        Ok(result.duration.as_nanos() as u64)
    }
}

/// Keeps this thread on the machine's last CPU, and says which.
pub fn stay_on_one_cpu() -> Result<usize> {
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut cpus = CpuSet::new();
    cpus.set(last)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")?;
    Ok(last)
}
