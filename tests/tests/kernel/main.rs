//! The kernel programs, run in the kernel on packets made here (`BPF_PROG_TEST_RUN`).
//!
//! What the kernel decides is seen in its verdict, in the packet it leaves behind, in its counters and in the `flows`
//! map. Each test has a network namespace and a BPF file system of its own. Needs root.
//!
//! | file | promise it keeps |
//! |---|---|
//! | `ring` | one ring: the kernel's owner is the golden vectors' owner |
//! | `key` | the kernel reads the key that the gateway reads, or none |
//! | `handshake` | a SYN costs one well-formed reply and creates no state |
//! | `binding` | state appears with a valid cookie and data; nothing forged breaks a live flow |
//! | `encapsulation` | a packet for another node arrives as it came, in headers right to the byte |
//! | `tunnel` | nothing is believed unauthenticated: what comes out of the tunnel, and what does not |
//! | `moving` | nobody answers a connection that is being moved, and no packet of one that has moved is lost |
//! | `icmp` | errors about a flow go where the flow goes |
//! | `gone` | the clients of a node that is gone are told at once |
//! | `refusal` | what is not right is dropped or reset, for a counted reason; what is not ours passes |
//! | `garbage` | no packet leads to an unknown or uncounted verdict |
//! | `accept` | in mode "accept" a connection stays at one node, strangers fill no table, and no function of newer kernels is called |
//! | `admission` | `admit` looks at marked segments for services only, and asks for a socket with a valid cookie only |
//! | `admitted` | the socket that the kernel makes is the one that was agreed on |
//!
//! `node` is the fixture; packets are made and read by `ringsteer_tests::packet`. The last file attaches the programs to
//! a link of its own, for the kernel makes no sockets in a test run; `wire` is the other end of that link.

mod accept;
mod admission;
mod admitted;
mod binding;
mod encapsulation;
mod garbage;
mod gone;
mod handshake;
mod icmp;
mod key;
mod moving;
mod node;
mod refusal;
mod ring;
mod tunnel;
mod wire;
