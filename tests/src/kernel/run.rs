//! What a program makes of a packet.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context as _, Result, bail};
use aya::programs::{TestRun as _, TestRunOptions};

use super::Node;

/// What the kernel does with a packet after `steer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing any more.
    Drop,
    /// It goes up the stack.
    Pass,
    /// It leaves by the interface it came by.
    Transmit,
    /// It leaves by another interface.
    Redirect,
}

/// What the kernel does with a packet after `admit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing any more.
    Drop,
    /// It goes to the next program, or up the stack.
    Next,
}

/// Verdict, packet and counters after a run.
#[derive(Clone, Debug)]
pub struct Outcome<A> {
    /// The verdict.
    pub action: A,
    /// The frame as the program has left it.
    pub frame: Vec<u8>,
    /// The counters that rose, and by how much.
    pub counted: BTreeMap<&'static str, u64>,
}

impl<A: Copy + fmt::Debug + PartialEq> Outcome<A> {
    /// Asserts the verdict, and that exactly these counters rose, by one.
    ///
    /// # Panics
    /// If it is not so.
    #[track_caller]
    pub fn assert(&self, action: A, counters: &[&'static str]) {
        let expected: BTreeMap<_, _> = counters.iter().map(|&name| (name, 1)).collect();
        assert_eq!((self.action, &self.counted), (action, &expected));
    }
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrival {
    /// By the node's interface.
    #[default]
    Edge,
    /// By another one, from which the nodes are not reached.
    Elsewhere,
    /// By the node's interface, with so many bytes of metadata in front (at most 216, a multiple of four), as a program
    /// in front of ours could leave them. They take up the room for headers.
    WithMetadata(u32),
}

/// The longest packet there is room for.
const LONGEST: usize = 4096;

/// `struct xdp_md`, as a test run takes it.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// The head of `struct __sk_buff`; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct SkBuff {
    len: u32,
    pkt_type: u32,
    mark: u32,
    queue_mapping: u32,
    protocol: u32,
    vlan_present: u32,
    vlan_tci: u32,
    vlan_proto: u32,
    priority: u32,
    ingress_ifindex: u32,
    ifindex: u32,
}

impl Node {
    /// The context of a frame of `length` bytes that arrives by the node's interface with so many bytes of metadata.
    pub fn context(&self, length: usize, metadata: u32) -> XdpMd {
        XdpMd {
            data: metadata,
            data_end: length as u32 + metadata,
            ingress_ifindex: self.interface,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// Runs `steer` on a frame.
    ///
    /// # Errors
    /// If the kernel does not run it, or the verdict is none that `steer` may give.
    pub fn steer(&mut self, frame: &[u8], arrival: Arrival) -> Result<Outcome<Action>> {
        self.counting(|node| node.steer_uncounted(frame, arrival))
    }

    /// Runs `steer` on a frame without a look at the counters, which takes longer than the run.
    ///
    /// # Errors
    /// As [`steer`](Self::steer).
    pub fn steer_uncounted(&mut self, frame: &[u8], arrival: Arrival) -> Result<(Action, Vec<u8>)> {
        let mut output = vec![0; LONGEST];
        let metadata = match arrival {
            Arrival::WithMetadata(bytes) => bytes,
            Arrival::Edge | Arrival::Elsewhere => 0,
        };
        let input = [&vec![0; metadata as usize][..], frame].concat();
        let context = self.context(frame.len(), metadata);
        let options = TestRunOptions {
            data_in: Some(&input),
            data_out: Some(&mut output),
            // Without a context it comes by the loopback interface.
            ctx_in: (arrival != Arrival::Elsewhere).then_some(bytemuck::bytes_of(&context)),
            ..TestRunOptions::default()
        };
        let result = self.dataplane.steer().test_run(options).context("cannot run `steer`")?;
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            4 => Action::Redirect,
            other => bail!("XDP action {other} for {frame:02x?}"),
        };
        output.truncate(result.data_size_out as usize);
        Ok((action, output))
    }

    /// Runs `admit` on a frame whose packet carries `mark` within this host; gives that mark as it is afterwards, too.
    ///
    /// `bpf_sk_assign_tcp_reqsk` works at tc's hook alone and refuses every packet of a test run (-EINVAL): see there
    /// how far this goes. [`attach`](Self::attach) the program to go all the way.
    ///
    /// # Errors
    /// If the kernel does not run it, or the verdict is none that `admit` may give.
    pub fn admit(&mut self, frame: &[u8], mark: u32) -> Result<(Outcome<Admission>, u32)> {
        let mut mark_after = 0;
        let outcome = self.counting(|node| {
            let mut output = vec![0; LONGEST];
            let context = SkBuff { mark, ifindex: node.interface, ..bytemuck::Zeroable::zeroed() };
            // Room for all of `struct __sk_buff`, of whatever version.
            let mut context_after = [0; 256];
            let options = TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut output),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                ctx_out: Some(&mut context_after),
                ..TestRunOptions::default()
            };
            let admit = node.dataplane.admit().context("there is no `admit` in this mode")?;
            let result = admit.test_run(options).context("cannot run `admit`")?;
            let action = match result.return_value as i32 {
                -1 => Admission::Next,
                2 => Admission::Drop,
                other => bail!("tc action {other} for {frame:02x?}"),
            };
            mark_after = bytemuck::pod_read_unaligned::<SkBuff>(&context_after[..size_of::<SkBuff>()]).mark;
            output.truncate(result.data_size_out as usize);
            Ok((action, output))
        })?;
        Ok((outcome, mark_after))
    }

    fn counting<A>(&mut self, run: impl FnOnce(&mut Self) -> Result<(A, Vec<u8>)>) -> Result<Outcome<A>> {
        let before = self.dataplane.maps.stats()?;
        let (action, frame) = run(self)?;
        let since = self.dataplane.maps.stats()?.since(&before);
        let counted = since.named().filter(|(_, count)| *count != 0).collect();
        Ok(Outcome { action, frame, counted })
    }
}
