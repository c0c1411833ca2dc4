//! Packets made by hand, and a look at those on the wire.
//!
//! * [`Segment`], [`Datagram`], [`Icmp`]: TCP, UDP and ICMP over IPv4 and IPv6, as bytes and from bytes;
//! * [`TcpOption`]: the options of a segment;
//! * [`IpPacket`], [`Frame`]: what they travel in. Nest them as you like: a tunnel packet is a [`Datagram`] with the bytes
//!   of a [`Segment`] for a payload;
//! * [`RawSocket`]: sends them from a host of the lab, whatever source they claim;
//! * [`Sniffer`]: sees what passes through a host;
//! * [`SynFlood`]: many SYNs from sources where nobody lives.
//!
//! Nothing here shares code with the kernel programs: layouts and sums are written from the RFCs once more, byte by byte,
//! so that a mistake in one of the two shows.
//!
//! A client host's [`spare_address`](crate::lab::Host::spare_address) is made for this: packets to it arrive on the host, and
//! no kernel answers them.

mod datagram;
mod flood;
mod frame;
mod icmp;
pub mod ip;
mod options;
mod raw;
mod segment;
mod sniffer;
mod sum;

pub use datagram::Datagram;
pub use flood::SynFlood;
pub use frame::{ETHERNET, Frame, LinkAddress};
pub use icmp::Icmp;
pub use ip::IpPacket;
pub use options::TcpOption;
pub use raw::RawSocket;
pub use segment::{Flags, Segment};
pub use sniffer::Sniffer;
