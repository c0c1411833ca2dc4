//! What this process is allowed to do, for error messages: the kernel's refusal does not say what was missing.
//!
//! | capability | who needs it | for what |
//! |---|---|---|
//! | CAP_BPF | agent and `load` | every use of bpf(2) where unprivileged BPF is off, as it is by default |
//! | CAP_NET_ADMIN | agent and `load` | loading and attaching programs of these types, and the settings of interfaces |
//! | CAP_PERFMON | `load` alone | the verifier lets nobody else add a variable to a packet pointer |
//!
//! The last one is about speculative execution: for a loader without CAP_PERFMON the verifier hardens all pointer
//! arithmetic against it (`sanitize_ptr_alu` in `kernel/bpf/verifier.c`), knows how to do that for pointers into maps
//! and the stack, and refuses it for pointers into packets, whose header lengths vary. Hence the programs are loaded in
//! a step of their own, [`load`](crate::agent::Load), and the agent that runs all the time does without.

use std::{fmt, fs};

/// A capability, by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// CAP_NET_ADMIN.
    NetAdmin = 12,
    /// CAP_PERFMON.
    Perfmon = 38,
    /// CAP_BPF.
    Bpf = 39,
}

/// What the agent needs while programs of its version are pinned.
pub const AGENT: &[Capability] = &[Capability::Bpf, Capability::NetAdmin];

/// What loading the programs needs.
pub const LOAD: &[Capability] = &[Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// Those of `needed` that this process does not have in effect.
pub fn lacking(needed: &[Capability]) -> Vec<Capability> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status).unwrap_or(0);
    needed.iter().copied().filter(|&one| effective & 1 << one as u32 == 0).collect()
}

/// The set in effect, from the text of `/proc/self/status` (proc_pid_status(5)).
pub fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The error, with the capabilities that are missing in front, if the kernel has refused something and they are.
pub(super) fn explained(error: anyhow::Error, needed: &[Capability]) -> anyhow::Error {
    let denied = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES)));
    let lacking = lacking(needed);
    if !denied || lacking.is_empty() {
        return error;
    }
    let list = |all: &[Capability]| all.iter().map(Capability::to_string).collect::<Vec<_>>().join(", ");
    // The verifier's log is no use to somebody who lacks a capability, and hundreds of lines long: the first will do.
    let said = format!("{error:#}");
    let said = said.lines().next().unwrap_or_default();
    let mut message = format!(
        "not allowed ({said}): this process lacks {}; run it as root, or give it {}",
        list(&lacking),
        list(needed)
    );
    if lacking.contains(&Capability::Perfmon) {
        message += ". Or run `ringsteer load` with these first: once it has loaded the programs, the agent needs \
                    CAP_BPF and CAP_NET_ADMIN alone";
    }
    anyhow::Error::msg(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t0000008000001000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(1 << 39 | 1 << 12));
        assert_eq!(effective("CapEff: ?"), None);
    }

    #[test]
    fn only_a_refusal_is_explained() {
        let error = anyhow::Error::from(std::io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(format!("{:#}", explained(error, LOAD)), "No such file or directory (os error 2)");
    }
}
