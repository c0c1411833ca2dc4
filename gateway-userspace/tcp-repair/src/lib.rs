//! Takes a live TCP connection out of one kernel and puts it into another, by Linux' TCP_REPAIR. The other end of the
//! connection notices nothing, as long as no packet of it reaches a kernel that does not have the socket: keeping those
//! back is not this package's work, but must be done first.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (stream, mut to_the_other_host): (std::net::TcpStream, Vec<ringsteer_tcp_repair::Dump>) = todo!();
//! # let (read_but_not_used, it_has_it) = (b"".as_slice(), true);
//! use ringsteer_tcp_repair::{put_in, take_out};
//!
//! // Here: the socket falls silent, and all there is to know about it is in the dump.
//! let (taken, mut dump) = take_out(stream.into())?;
//! dump.put_back(read_but_not_used)?;
//! to_the_other_host.push(dump.clone());
//!
//! // There: a socket that is the connection, but silent until it is activated.
//! let put = put_in(&dump)?;
//!
//! // Here: give it up, or go on as if nothing had been.
//! let left = if it_has_it { Some(taken.give_up()?) } else { taken.resume()?; None };
//!
//! // There.
//! let live = put.activate()?;
//!
//! // Here, when nothing can be on its way through this host any more.
//! drop(left);
//! # Ok(()) }
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `dump` | a connection as plain data, and its limits |
//! | `take` | taking it out: dump, then resume or give up |
//! | `put` | putting it in: silent, then active |
//! | `error` | what can go wrong, whose fault it is and whether trying again can help |
//! | `sys` | the system calls; all `unsafe` is there |
//!
//! # What travels and what does not
//!
//! Both queues with their sequence numbers, windows, MSS, SACK, window scales and the timestamp clock; of the socket
//! options those in [`Settings`]. Lost are what the kernel had learnt about the path (round-trip time, congestion
//! window) and segments that arrived out of order, which the other end sends again. Explicit congestion notification
//! ends. Bytes that were sent and then lost on the way are sent again after the first timeout, a second.
//!
//! It takes CAP_NET_ADMIN in the network namespace, and nothing else.

mod dump;
mod error;
mod put;
mod sys;
mod take;

pub use dump::{Dump, Options, QUEUE_MAX, ReceiveQueue, SendQueue, Settings, Window};
pub use error::{Error, Fault};
pub use put::{Live, Put, put_in};
pub use take::{GivenUp, Kept, Refused, Taken, take_out};
