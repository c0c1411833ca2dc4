//! Packets that the programs keep while a connection is held, and having them arrive once more when it is not.
//!
//! A frame is given to `steer` as if it had just come (`BPF_PROG_TEST_RUN` on live frames, Linux 5.18): whatever the program
//! decides then is done, be it that the frame goes up this node's stack or through the tunnel.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::Result;
use aya::maps::{Map, MapData, RingBuf};
use ringsteer_ebpf::layout::moves::HeldFrame;

use super::readings::pinned;

/// The packets.
pub struct HeldFrames {
    ring: RingBuf<MapData>,
    steer: OwnedFd,
}

/// The part of `union bpf_attr` that the command reads (`struct { … } test` in `include/uapi/linux/bpf.h`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// `struct xdp_md`.
#[repr(C)]
#[derive(Default)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

impl HeldFrames {
    /// Opens the buffer pinned in `pin_dir`. `steer` is the program.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(pin_dir: &Path, steer: OwnedFd) -> Result<Self> {
        Ok(Self { ring: Map::RingBuf(pinned(pin_dir, "held_frames")?).try_into()?, steer })
    }

    /// Takes the next frame out of the buffer.
    pub fn take_next(&mut self) -> Option<HeldFrame> {
        loop {
            let item = self.ring.next()?;
            // Another version's are of another length.
            if let Ok(frame) = bytemuck::try_pod_read_unaligned(&item) {
                return Some(frame);
            }
        }
    }

    /// Has a frame arrive once more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn replay(&self, held: &HeldFrame) -> io::Result<()> {
        /// `BPF_PROG_TEST_RUN`.
        const COMMAND: libc::c_long = 10;
        /// `BPF_F_TEST_XDP_LIVE_FRAMES`.
        const LIVE: u32 = 2;
        let frame = &held.frame[..(held.length as usize).min(held.frame.len())];
        let length = frame.len() as u32;
        let context = Context { data_end: length, ingress_ifindex: held.ifindex, ..Context::default() };
        let mut attributes = Attributes {
            program: self.steer.as_raw_fd() as u32,
            data_size_in: length,
            data_in: frame.as_ptr() as u64,
            repeat: 1,
            context_size_in: size_of::<Context>() as u32,
            context_in: &raw const context as u64,
            flags: LIVE,
            batch_size: 1,
            ..Attributes::default()
        };
        // SAFETY: the attributes are as long as we say; frame and context are, too, are only read, and outlive the call.
        let result = unsafe { libc::syscall(libc::SYS_bpf, COMMAND, &raw mut attributes, size_of::<Attributes>()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
