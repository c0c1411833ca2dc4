//! The smallest XDP program there is, on the router's ends of the fleet links.
//!
//! A packet that a node's program sends with `XDP_TX` or `XDP_REDIRECT` is dropped by veth, unseen by tcpdump, unless
//! the receiving end polls (NAPI); a native XDP program on that end makes it poll. Two instructions are not worth an
//! object file, so they are loaded by hand.

use anyhow::{Context, Result};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

const XDP_PASS: u8 = 2;

/// `r0 = verdict; exit`, as `struct bpf_insn`s.
const fn program(verdict: u8) -> [[u8; 8]; 2] {
    [[0xb7, 0, 0, 0, verdict, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]
}

/// The head of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to interfaces of the calling thread's network namespace. It stays on them as long as the
/// returned files are open, and so never outlives the lab.
///
/// # Errors
/// If the process lacks CAP_BPF or CAP_NET_ADMIN, an interface does not exist or its driver has no native XDP.
pub fn attach<'a>(interfaces: impl Iterator<Item = &'a str>) -> Result<Vec<OwnedFd>> {
    attach_program(&program(XDP_PASS), interfaces)
}

fn attach_program<'a>(instructions: &[[u8; 8]], interfaces: impl Iterator<Item = &'a str>) -> Result<Vec<OwnedFd>> {
    let license = c"Dual MIT/GPL";
    let load = ProgramLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        prog_name: *b"lab_pass\0\0\0\0\0\0\0\0",
        ..Default::default()
    };
    // SAFETY: what `insns` and `license` point to outlives the call, and `insn_cnt` is the true number.
    let program = unsafe { bpf(BPF_PROG_LOAD, &load) }.context("loading the lab's XDP program")?;

    let attach_one = |interface: &str| {
        let index = nix::net::if_::if_nametoindex(interface)
            .with_context(|| format!("looking for the interface {interface}"))?;
        let link = LinkCreate {
            prog_fd: program.as_raw_fd() as u32,
            target_ifindex: index,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        // SAFETY: `LinkCreate` holds no pointers.
        unsafe { bpf(BPF_LINK_CREATE, &link) }
            .with_context(|| format!("attaching the lab's XDP program to {interface} in native mode"))
    };
    interfaces.map(attach_one).collect()
}

/// Calls bpf(2) with a command that returns a file descriptor.
///
/// # Safety
/// `T` must be a prefix of `union bpf_attr` as `command` reads it, and its pointers must be valid for that command.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`; the caller answers for the pointers in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the commands used here return a new file descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Family, INTERFACE, Lab};
    use crate::packet::{Datagram, RawSocket};
    use anyhow::ensure;
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    const XDP_TX: u8 = 3;

    #[test]
    fn what_a_node_sends_from_xdp_reaches_the_router() -> Result<()> {
        const PACKETS: u64 = 100;
        let lab = Lab::builder().nodes(1).build()?;
        let node = lab.node(0);
        let received = || -> Result<u64> {
            let text = lab.router().command("ip", &["-s", "-j", "link", "show", "n0"])?;
            let value: serde_json::Value = serde_json::from_str(&text)?;
            value[0]["stats64"]["rx"]["packets"].as_u64().context("a counter")
        };
        // A reflected ARP request is no answer.
        lab.router().command(
            "ip",
            &[
                "neigh",
                "replace",
                &node.v4().to_string(),
                "lladdr",
                &crate::lab::addresses::link_address(node.addresses(), 0),
                "dev",
                "fleet",
                "nud",
                "permanent",
            ],
        )?;
        let _reflector = node.run(|| attach_program(&program(XDP_TX), [INTERFACE].into_iter()))?;

        let before = received()?;
        let packet = Datagram::new(
            SocketAddr::new(lab.client(0).address(Family::V4), 9),
            SocketAddr::new(node.address(Family::V4), 9),
            vec![0; 100],
        );
        let socket = RawSocket::open(lab.client(0))?;
        for _ in 0..PACKETS {
            socket.send(&packet.to_bytes())?;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while received()? - before < PACKETS {
            ensure!(Instant::now() < deadline, "{} of {PACKETS} came back", received()? - before);
        }
        Ok(())
    }
}
