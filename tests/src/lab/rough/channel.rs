//! One direction of a rough link, pure: packets and the time in, packets out.

use fastrand::Rng;
use std::time::{Duration, Instant};

/// Packets held back at once; one more than these passes in order.
const HELD_MAX: usize = 256;

/// How rough one direction is. Chances are per mille of the packets, drawn independently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roughness {
    /// Packets that vanish.
    pub loss_permille: u16,
    /// Packets that arrive twice.
    pub duplicate_permille: u16,
    /// Packets that are overtaken by later ones.
    pub reorder_permille: u16,
    /// How many packets overtake them, at most.
    pub overtaken_by_max: u16,
    /// How long one waits for packets to overtake it.
    pub hold: Duration,
}

/// What became of the packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came in.
    pub offered: u64,
    /// Packets that vanished.
    pub lost: u64,
    /// Packets sent twice.
    pub duplicated: u64,
    /// Packets held back so that others could overtake them.
    pub held: u64,
    /// Packets that went out, duplicates included.
    pub sent: u64,
}

/// One direction of a rough link.
pub struct Channel {
    roughness: Roughness,
    rng: Rng,
    held: Vec<Held>,
    counts: Counts,
}

struct Held {
    packet: Vec<u8>,
    /// Packets that may still overtake it.
    overtakers_left: u16,
    deadline: Instant,
}

// === impl Roughness ===

impl Roughness {
    /// Loses, doubles and holds nothing.
    pub const SMOOTH: Self = Self {
        loss_permille: 0,
        duplicate_permille: 0,
        reorder_permille: 0,
        overtaken_by_max: 3,
        hold: Duration::from_millis(5),
    };

    /// A link that is not quite clean: 0.5 % lost, 0.5 % doubled, 2 % reordered, and some of those by far.
    pub const UNCLEAN: Self = Self {
        loss_permille: 5,
        duplicate_permille: 5,
        reorder_permille: 20,
        overtaken_by_max: 5,
        hold: Duration::from_millis(5),
    };

    /// A bad mobile link: 5 % lost, 2 % doubled, 10 % reordered.
    pub const BAD: Self = Self { loss_permille: 50, duplicate_permille: 20, reorder_permille: 100, ..Self::SMOOTH };
}

// === impl Channel ===

impl Channel {
    /// A direction whose dice are thrown by `seed`.
    pub fn new(roughness: Roughness, seed: u64) -> Self {
        Self { roughness, rng: Rng::with_seed(seed), held: Vec::new(), counts: Counts::default() }
    }

    /// Takes a packet and sends what is to go out now: it, twice or not at all, and those it was the last to overtake.
    pub fn offer(&mut self, packet: &[u8], now: Instant, mut send: impl FnMut(&[u8])) {
        self.counts.offered += 1;
        if self.hits(self.roughness.loss_permille) {
            self.counts.lost += 1;
            return;
        }
        if self.hits(self.roughness.reorder_permille) && self.held.len() < HELD_MAX {
            self.counts.held += 1;
            let overtakers_left = self.rng.u16(1..=self.roughness.overtaken_by_max.max(1));
            let deadline = now + self.roughness.hold;
            self.held.push(Held { packet: packet.to_vec(), overtakers_left, deadline });
            return;
        }
        let copies = if self.hits(self.roughness.duplicate_permille) { 2 } else { 1 };
        self.counts.duplicated += copies - 1;
        self.counts.sent += copies;
        for _ in 0..copies {
            send(packet);
        }
        for held in &mut self.held {
            held.overtakers_left -= 1;
        }
        self.release(|held| held.overtakers_left == 0, send);
    }

    /// Sends the packets that have been held long enough.
    pub fn release_due(&mut self, now: Instant, send: impl FnMut(&[u8])) {
        self.release(|held| held.deadline <= now, send);
    }

    /// When [`release_due`](Self::release_due) has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.deadline).min()
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn hits(&mut self, permille: u16) -> bool {
        self.rng.u16(..1000) < permille
    }

    fn release(&mut self, is_free: impl Fn(&Held) -> bool, mut send: impl FnMut(&[u8])) {
        for held in self.held.extract_if(.., |held| is_free(held)) {
            self.counts.sent += 1;
            send(&held.packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends packets 0, 1, 2 … one millisecond apart; gives what came out, in order, and the counts.
    fn run(roughness: Roughness, seed: u64, packets: u32) -> (Vec<u32>, Counts) {
        let start = Instant::now();
        let mut channel = Channel::new(roughness, seed);
        let mut out = Vec::new();
        let mut send = |packet: &[u8]| out.push(u32::from_be_bytes(packet.try_into().unwrap()));
        for number in 0..packets {
            let now = start + Duration::from_millis(number.into());
            channel.release_due(now, &mut send);
            channel.offer(&number.to_be_bytes(), now, &mut send);
        }
        while let Some(deadline) = channel.next_deadline() {
            channel.release_due(deadline, &mut send);
        }
        (out, channel.counts())
    }

    #[test]
    fn smooth_changes_nothing() {
        let (out, counts) = run(Roughness::SMOOTH, 1, 1000);
        assert!(out.into_iter().eq(0..1000));
        assert_eq!(counts, Counts { offered: 1000, sent: 1000, ..Counts::default() });
    }

    #[test]
    fn one_seed_one_run() {
        assert_eq!(run(Roughness::BAD, 7, 1000), run(Roughness::BAD, 7, 1000));
        assert_ne!(run(Roughness::BAD, 7, 1000), run(Roughness::BAD, 8, 1000));
    }

    proptest! {
        #[test]
        fn packets_vanish_double_and_swap_as_counted(
            loss in 0u16..400, duplicate in 0u16..400, reorder in 0u16..400, depth in 1u16..6, seed: u64,
        ) {
            let roughness = Roughness {
                loss_permille: loss,
                duplicate_permille: duplicate,
                reorder_permille: reorder,
                overtaken_by_max: depth,
                ..Roughness::SMOOTH
            };
            let (out, counts) = run(roughness, seed, 500);
            prop_assert_eq!(counts.sent, out.len() as u64);
            prop_assert_eq!(counts.offered, 500);
            prop_assert_eq!(counts.sent, counts.offered - counts.lost + counts.duplicated);

            let mut copies = [0u64; 500];
            let mut newest = 0;
            for number in &out {
                copies[*number as usize] += 1;
                newest = newest.max(*number);
                // Held 5 ms at most, and the packets are 1 ms apart.
                prop_assert!(newest - number <= 5);
            }
            prop_assert_eq!(copies.iter().filter(|copies| **copies == 0).count() as u64, counts.lost);
            prop_assert_eq!(copies.iter().filter(|copies| **copies == 2).count() as u64, counts.duplicated);
        }
    }
}
