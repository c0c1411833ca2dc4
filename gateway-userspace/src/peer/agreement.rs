//! Whether the members agree on the ring: what each says of itself and when goes in, how each stands to us comes out.
//! Pure.
//!
//! Two nodes agree if epoch and digest of their rings are equal. With an equal epoch and another digest there are two
//! rings of one name, the mistake this project exists to end; with another epoch one of them has not heard the news
//! yet.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::message::{Hello, State};
use crate::ring::{NodeAddress, RingName};

/// A member that was not heard for this long is silent: it tells its state every second.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);

/// A state that is older than the last one by its sender's clock was overtaken on the way, unless it is older by this
/// much: then the clock has been set.
const OVERTAKEN_MS: i64 = 60_000;

/// How a member's ring stands to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is the same ring.
    Agrees,
    /// Its epoch is lower than ours, or it has no ring: it has not heard the news yet.
    Lags,
    /// Its epoch is higher than ours: we have not heard the news yet.
    Ahead,
    /// The same epoch, and another ring.
    Differs,
    /// It has not been heard lately.
    Silent,
}

/// How many members stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// These agree.
    pub agrees: u32,
    /// These lag behind us.
    pub lags: u32,
    /// These are ahead of us.
    pub ahead: u32,
    /// These have another ring of the same epoch.
    pub differs: u32,
    /// These have not been heard lately.
    pub silent: u32,
}

/// The link that we make to another member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether it is up.
    pub up: bool,
    /// Why it is not, if an attempt has failed.
    pub error: Option<String>,
}

/// What is known of one of the other members. All times are since the agent's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How its ring stands to ours.
    pub standing: Standing,
    /// Since when it has stood so.
    pub since: Duration,
    /// The last thing heard of it.
    pub heard: Option<Heard>,
    /// Its program's version.
    pub version: Option<String>,
    /// The link that we make to it.
    pub link: LinkStatus,
}

/// What a member has said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Duration,
    /// What.
    pub state: State,
    /// How far its clock was ahead of ours, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// What all members say. `now` is always the time since the agent's start and never goes back.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    ours: Option<RingName>,
    peers: BTreeMap<NodeAddress, Peer>,
}

// === impl Standing ===

impl Standing {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Agrees, Self::Lags, Self::Ahead, Self::Differs, Self::Silent];

    /// How a ring stands to ours.
    pub fn of(theirs: Option<RingName>, ours: Option<RingName>) -> Self {
        match (theirs.map(|ring| ring.epoch), ours.map(|ring| ring.epoch)) {
            _ if theirs == ours => Self::Agrees,
            // No ring is before any ring.
            (theirs, ours) if theirs < ours => Self::Lags,
            (theirs, ours) if theirs > ours => Self::Ahead,
            _ => Self::Differs,
        }
    }

    /// As metrics and the wire call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Lags => "lags",
            Self::Ahead => "ahead",
            Self::Differs => "differs",
            Self::Silent => "silent",
        }
    }
}

// === impl Tally ===

impl Tally {
    /// How many stand so.
    pub fn of(&self, standing: Standing) -> u32 {
        match standing {
            Standing::Agrees => self.agrees,
            Standing::Lags => self.lags,
            Standing::Ahead => self.ahead,
            Standing::Differs => self.differs,
            Standing::Silent => self.silent,
        }
    }

    /// Counts one more.
    pub fn add(&mut self, standing: Standing) {
        *match standing {
            Standing::Agrees => &mut self.agrees,
            Standing::Lags => &mut self.lags,
            Standing::Ahead => &mut self.ahead,
            Standing::Differs => &mut self.differs,
            Standing::Silent => &mut self.silent,
        } += 1;
    }
}

// === impl Agreement ===

impl Agreement {
    /// Our ring is `ours`, and these are its members but for us. What was heard of those who stay is kept.
    pub fn follow(&mut self, ours: Option<RingName>, others: impl IntoIterator<Item = NodeAddress>, now: Duration) {
        self.ours = ours;
        let mut before = std::mem::take(&mut self.peers);
        let new =
            || Peer { standing: Standing::Silent, since: now, heard: None, version: None, link: LinkStatus::default() };
        self.peers = others.into_iter().map(|one| (one, before.remove(&one).unwrap_or_else(new))).collect();
        self.judge(now);
    }

    /// The node at `from` has said hello.
    pub fn greeted(&mut self, from: NodeAddress, hello: &Hello) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.version = Some(hello.version.clone());
        }
    }

    /// The link that we make to the node at `to` has come up or down.
    pub fn linked(&mut self, to: NodeAddress, link: LinkStatus) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.link = link;
        }
    }

    /// The node at `from` has told its state, when our clock (CLOCK_TAI in milliseconds) said `clock_ms`. Who is no
    /// member of our ring has no say.
    pub fn heard(&mut self, from: NodeAddress, state: State, clock_ms: i64, now: Duration) {
        let ours = self.ours;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let overtaken =
            |last: &Heard| (1..OVERTAKEN_MS).contains(&(last.state.clock_ms.saturating_sub(state.clock_ms)));
        if !peer.heard.as_ref().is_some_and(overtaken) {
            let clock_ahead_ms = state.clock_ms.saturating_sub(clock_ms);
            peer.heard = Some(Heard { at: now, state, clock_ahead_ms });
        }
        peer.judge(ours, now);
    }

    /// Time has passed.
    pub fn judge(&mut self, now: Duration) {
        let ours = self.ours;
        self.peers.values_mut().for_each(|peer| peer.judge(ours, now));
    }

    /// Our ring.
    pub fn ours(&self) -> Option<RingName> {
        self.ours
    }

    /// What is known of the member at `address`; none if our ring has no other member there.
    pub fn peer(&self, address: NodeAddress) -> Option<&Peer> {
        self.peers.get(&address)
    }

    /// The other members.
    pub fn peers(&self) -> impl Iterator<Item = (NodeAddress, &Peer)> {
        self.peers.iter().map(|(&address, peer)| (address, peer))
    }

    /// How many stand how.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.peers.values().for_each(|peer| tally.add(peer.standing));
        tally
    }
}

// === impl Peer ===

impl Peer {
    fn judge(&mut self, ours: Option<RingName>, now: Duration) {
        let standing = match &self.heard {
            Some(heard) if now.saturating_sub(heard.at) < SILENT_AFTER => Standing::of(heard.state.agent, ours),
            _ => Standing::Silent,
        };
        if standing != self.standing {
            (self.standing, self.since) = (standing, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::message::tests::state, *};
    use crate::ring::{Epoch, fixtures};

    fn ring(epoch: u64, members: usize) -> Option<RingName> {
        Some(RingName { epoch: Epoch(epoch), digest: fixtures::openim(members, ":88").digest() })
    }

    fn address(last: u8) -> NodeAddress {
        format!("198.51.100.{last}").parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn saying(agent: Option<RingName>, clock_ms: i64) -> State {
        State { agent, clock_ms, ..state(1) }
    }

    fn standing(agreement: &Agreement, last: u8) -> (Standing, Duration) {
        let peer = agreement.peer(address(last)).unwrap();
        (peer.standing, peer.since)
    }

    #[test]
    fn a_standing_begins_when_it_changes_and_not_when_it_is_told_again() {
        let mut agreement = Agreement::default();
        agreement.follow(ring(2, 3), [address(1), address(2)], seconds(10));
        assert_eq!(standing(&agreement, 1), (Standing::Silent, seconds(10)));
        for (now, theirs, expected) in [
            (11, ring(2, 3), (Standing::Agrees, 11)),
            (12, ring(2, 3), (Standing::Agrees, 11)),
            (13, ring(1, 3), (Standing::Lags, 13)),
            (14, ring(1, 2), (Standing::Lags, 13)),
            (15, None, (Standing::Lags, 13)),
            (16, ring(2, 2), (Standing::Differs, 16)),
            (17, ring(3, 2), (Standing::Ahead, 17)),
            (18, ring(4, 2), (Standing::Ahead, 17)),
        ] {
            agreement.heard(address(1), saying(theirs, now as i64), 0, seconds(now));
            assert_eq!(standing(&agreement, 1), (expected.0, seconds(expected.1)), "at {now}");
        }
        // Our ring changes: we have caught up.
        agreement.follow(ring(4, 2), [address(1)], seconds(19));
        assert_eq!(standing(&agreement, 1), (Standing::Agrees, seconds(19)));
        assert!(agreement.peer(address(2)).is_none());
        // Three seconds without a word.
        agreement.judge(seconds(20));
        assert_eq!(standing(&agreement, 1).0, Standing::Agrees);
        agreement.judge(seconds(21));
        assert_eq!(standing(&agreement, 1), (Standing::Silent, seconds(21)));
        assert_eq!(agreement.tally(), Tally { silent: 1, ..Tally::default() });
    }

    #[test]
    fn without_a_ring_everybody_who_has_one_is_ahead() {
        assert_eq!(Standing::of(None, None), Standing::Agrees);
        assert_eq!(Standing::of(ring(0, 1), None), Standing::Ahead);
        assert_eq!(Standing::of(None, ring(0, 1)), Standing::Lags);
    }

    #[test]
    fn a_state_that_was_overtaken_is_not_believed_but_a_clock_that_was_set_is() {
        let mut agreement = Agreement::default();
        agreement.follow(ring(2, 3), [address(1)], seconds(0));
        agreement.heard(address(1), saying(ring(2, 3), 1_000_000), 0, seconds(1));
        agreement.heard(address(1), saying(ring(1, 3), 999_999), 0, seconds(1));
        assert_eq!(standing(&agreement, 1).0, Standing::Agrees);
        agreement.heard(address(1), saying(ring(1, 3), 900_000), 0, seconds(1));
        assert_eq!(standing(&agreement, 1).0, Standing::Lags);
        // Strangers have no say.
        agreement.heard(address(9), saying(ring(1, 3), 0), 0, seconds(1));
        assert_eq!(agreement.peers().count(), 1);
    }

    #[test]
    fn clocks_are_compared() {
        let mut agreement = Agreement::default();
        agreement.follow(ring(2, 3), [address(1)], seconds(0));
        agreement.heard(address(1), saying(ring(2, 3), 1_500), 2_000, seconds(1));
        assert_eq!(agreement.peer(address(1)).unwrap().heard.as_ref().unwrap().clock_ahead_ms, -500);
        agreement.heard(address(1), saying(ring(2, 3), i64::MIN), i64::MAX, seconds(1));
        agreement.heard(address(1), saying(ring(2, 3), i64::MAX), i64::MIN, seconds(1));
    }

    proptest! {
        /// However rings and words come: two nodes that have heard each other's latest see the same thing, from both
        /// sides.
        #[test]
        fn two_nodes_see_one_thing(one in (0..4u64, 1..4usize), other in (0..4u64, 1..4usize)) {
            let (one, other) = (ring(one.0, one.1), ring(other.0, other.1));
            let mirrored = match Standing::of(one, other) {
                Standing::Lags => Standing::Ahead,
                Standing::Ahead => Standing::Lags,
                same => same,
            };
            prop_assert_eq!(Standing::of(other, one), mirrored);
            prop_assert_eq!(Standing::of(one, other) == Standing::Agrees, one == other);
        }

        /// The tally counts every member once, and `since` is never later than now.
        #[test]
        fn the_tally_counts_everybody(steps in prop::collection::vec((0..5u8, 0..3u64, 0..5u64), 0..60)) {
            let mut agreement = Agreement::default();
            let mut now = seconds(0);
            agreement.follow(ring(1, 2), (0..5).map(address), now);
            for (who, epoch, pause) in steps {
                now += seconds(pause);
                agreement.heard(address(who), saying(ring(epoch, 2), now.as_millis() as i64), 0, now);
                agreement.judge(now);
                let tally = agreement.tally();
                prop_assert_eq!(Standing::ALL.iter().map(|&one| tally.of(one)).sum::<u32>(), 5);
                prop_assert!(agreement.peers().all(|(_, peer)| peer.since <= now));
                let expected = match epoch { 0 => Standing::Lags, 1 => Standing::Agrees, _ => Standing::Ahead };
                prop_assert_eq!(agreement.peer(address(who)).unwrap().standing, expected);
            }
        }
    }
}
