//! The kernel program `steer`, run in the kernel on packets made here (`BPF_PROG_TEST_RUN`).
//!
//! What the kernel decides is seen in its verdict, in the packet it leaves behind, in its counters and in the `flows`
//! map. No interface is attached to; each test has a network namespace and a BPF file system of its own. Needs root.
//!
//! | file | promise it keeps |
//! |---|---|
//! | `ring` | one ring: the kernel's owner is the golden vectors' owner |
//! | `key` | the kernel reads the key that the gateway reads, or none |
//! | `handshake` | a SYN costs one well-formed reply and creates no state |
//! | `binding` | state appears with a valid cookie and data; nothing forged breaks a live flow |
//! | `refusal` | what is not right is dropped or reset, for a counted reason; what is not ours passes |
//! | `tunnel` | nothing is believed unauthenticated: what comes out of the tunnel, and what does not |
//! | `garbage` | no packet leads to an unknown or uncounted verdict |
//!
//! `node` is the fixture, `packet` makes and reads packets.

mod binding;
mod garbage;
mod handshake;
mod key;
mod node;
mod packet;
mod refusal;
mod ring;
mod tunnel;
