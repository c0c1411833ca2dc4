//! A rough link between a client host and the router: loses, doubles and reorders packets, by a seed.
//!
//! Two TUN devices, one on each host, and a thread that carries packets between them through a [`Channel`] per
//! direction. So real kernel TCP meets it, on both sides, and nothing else in the lab changes.

mod channel;
mod tun;

pub use channel::{Channel, Counts, Roughness};

use super::topology::METRIC;
use super::{Family, Host, Lab, addresses, command};
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

/// The largest packet on a link of the lab.
const MTU: usize = 1500;

/// Packets taken from a device before the other one gets its turn.
const BURST: usize = 64;

/// A rough link in force. Dropping it brings the smooth link back.
pub struct RoughLink {
    counts: Arc<Mutex<[Counts; 2]>>,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

// === impl RoughLink ===

impl RoughLink {
    /// Puts a rough link between a client host and the router, in place of the one that is there, for all packets from
    /// and to its addresses. `up` leads to the router, `down` to the client.
    ///
    /// # Errors
    /// If the devices or routes cannot be made, or the client has a rough link already.
    pub fn between(lab: &Lab, client: &Host, up: Roughness, down: Roughness, seed: u64) -> Result<Self> {
        let router = lab.router();
        let router_device = format!("rough{}", client.addresses().host());
        let client_end = client.run(|| tun::create("rough"))?;
        let router_end = router.run(|| tun::create(&router_device))?;
        // A metric better than the smooth link's: when the device goes, so does this route, and that one is back.
        let metric = METRIC - 1;
        let route = |destination: String, device: &str, source| {
            format!("route add {destination} dev {device} src {source} metric {metric}\n")
        };
        let mut client_batch = format!("link set rough up mtu {MTU}\n");
        let mut router_batch = format!("link set {router_device} up mtu {MTU}\n");
        for family in Family::ALL {
            let address = client.address(family);
            client_batch += &route(format!("{}/0", family.unspecified()), "rough", address);
            let router_address = addresses::ROUTER_CLIENT.of(family);
            router_batch += &route(format!("{address}/{}", family.bits()), &router_device, router_address);
        }
        command::ip_batch(Some(client.namespace()), &client_batch)?;
        command::ip_batch(Some(router.namespace()), &router_batch)?;

        let (stopped, stop) = io::pipe().context("making a pipe")?;
        let counts = Arc::default();
        let mut relay = Relay {
            // Two directions, two sequences of dice: what one of them carries does not change the other's luck.
            directions: [
                Direction {
                    from: client_end.try_clone()?,
                    to: router_end.try_clone()?,
                    channel: Channel::new(up, seed),
                },
                Direction { from: router_end, to: client_end, channel: Channel::new(down, !seed) },
            ],
            stopped,
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::Builder::new()
            .name("lab-rough".into())
            .spawn(move || relay.run())
            .context("starting a rough link's thread")?;
        Ok(Self { counts, stop: Some(stop), thread: Some(thread) })
    }

    /// What became of the packets to the router.
    pub fn up(&self) -> Counts {
        self.counts.lock().expect("no one panics with the lock")[0]
    }

    /// What became of the packets to the client.
    pub fn down(&self) -> Counts {
        self.counts.lock().expect("no one panics with the lock")[1]
    }
}

impl Drop for RoughLink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, its message is out, and the connections over it have noticed.
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Relay {
    directions: [Direction; 2],
    stopped: PipeReader,
    counts: Arc<Mutex<[Counts; 2]>>,
}

struct Direction {
    from: File,
    to: File,
    channel: Channel,
}

// === impl Relay ===

impl Relay {
    /// Carries packets until the other end of `stopped` is closed.
    fn run(&mut self) {
        loop {
            let deadline = self.directions.iter().filter_map(|direction| direction.channel.next_deadline()).min();
            let timeout = match deadline {
                None => PollTimeout::NONE,
                // Rounded up: waking before the deadline would only mean to ask again.
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
                    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
                }
            };
            let [up, down] = &self.directions;
            let mut watched = [up.from.as_fd(), down.from.as_fd(), self.stopped.as_fd()]
                .map(|file| PollFd::new(file, PollFlags::POLLIN));
            // An interrupted call finds nothing and is made again.
            let _ = poll(&mut watched, timeout);
            if watched[2].any().unwrap_or(false) {
                return;
            }
            for direction in &mut self.directions {
                direction.carry();
            }
            let [up, down] = &self.directions;
            *self.counts.lock().expect("no one panics with the lock") = [up.channel.counts(), down.channel.counts()];
        }
    }
}

// === impl Direction ===

impl Direction {
    fn carry(&mut self) {
        let Self { from, to, channel } = self;
        // A device that takes no packet (it is going down, say) loses it, like any link.
        let mut send = |packet: &[u8]| drop(to.write(packet));
        let mut packet = [0; MTU];
        channel.release_due(Instant::now(), &mut send);
        for _ in 0..BURST {
            match from.read(&mut packet) {
                Ok(length) => channel.offer(&packet[..length], Instant::now(), &mut send),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}
