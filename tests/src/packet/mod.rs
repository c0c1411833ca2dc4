//! Packets made by hand, and a look at those on the wire.
//!
//! * [`Segment`], [`Datagram`]: TCP and UDP over IPv4 or IPv6, as bytes and from bytes;
//! * [`RawSocket`]: sends them from a host of the lab, whatever source they claim;
//! * [`Sniffer`]: sees what passes through a host;
//! * [`SynFlood`]: many SYNs from sources where nobody lives.
//!
//! A client host's [`spare_address`](crate::lab::Host::spare_address) is made for this: packets to it arrive on the host, and
//! no kernel answers them.

mod datagram;
mod flood;
mod ip;
mod raw;
mod segment;
mod sniffer;

pub use datagram::Datagram;
pub use etherparse::TcpOptionElement;
pub use flood::SynFlood;
pub use raw::RawSocket;
pub use segment::{Flags, Segment};
pub use sniffer::Sniffer;
