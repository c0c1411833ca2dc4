//! The one kernel function the programs call that is no helper.
//!
//! rustc emits no BTF for extern functions (rust-lang/rust#152899), so a call to one cannot be linked the usual way.
//! Instead the program calls a *helper number that cannot exist*, and before loading the agent turns that call into one
//! of the kernel function: source register 2 (`BPF_PSEUDO_KFUNC_CALL`), immediate the function's type id in the
//! kernel's BTF. A program that was not linked so is refused by the verifier; it cannot do harm.

/// The helper number that stands for `bpf_sk_assign_tcp_reqsk` (Linux 6.8).
pub const ASSIGN_REQSK: usize = 0x0052_5301;

/// The kernel's name of that function.
pub const ASSIGN_REQSK_NAME: &str = "bpf_sk_assign_tcp_reqsk";

/// `struct bpf_tcp_req_attrs` (Linux 6.8): what a handshake agreed on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ReqAttrs {
    /// The client's timestamp.
    pub rcv_tsval: u32,
    /// Our timestamp, echoed; the socket's clock goes on from it.
    pub rcv_tsecr: u32,
    /// Largest segment to send; at least 536 for IPv4, 1220 for IPv6.
    pub mss: u16,
    /// The scale of the windows we advertise; what the SYN+ACK said.
    pub rcv_wscale: u8,
    /// The scale of the client's windows.
    pub snd_wscale: u8,
    /// Explicit congestion notification was agreed on.
    pub ecn_ok: u8,
    /// Window scaling was agreed on.
    pub wscale_ok: u8,
    /// Selective acknowledgements were agreed on.
    pub sack_ok: u8,
    /// Timestamps were agreed on.
    pub tstamp_ok: u8,
    /// Timestamps count microseconds.
    pub usec_ts_ok: u8,
    /// Must be zero.
    pub reserved: [u8; 3],
}
