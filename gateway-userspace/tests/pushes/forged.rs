//! Somebody at a member's address says things about moves that are not so. With the fleet's secret they are heard, refused
//! and counted; without it they are not even heard.

use ringsteer_handoff::{
    message::{Message as Said, Offer, RefusedBecause, State},
    name::{Epoch, Incarnation, MoveId, SessionId, User},
};

use super::{
    third::{Envelope, Third, Word},
    *,
};

/// Keeps the addresses of this test apart from those of others.
const BASE: u8 = 42;

impl Node {
    fn refused(&self, reason: &str) -> u64 {
        self.figure(&format!("ringsteer_moves_refused_total{{reason=\"{reason}\"}} ")) as u64
    }

    /// Waits until one more has been refused for that reason.
    async fn refuses(&self, reason: &str, before: u64) {
        let more = async {
            while self.refused(reason) <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(more).await;
        assert_eq!(self.refused(reason), before + 1, "{reason}");
    }
}

#[tokio::test]
async fn a_forged_handoff_is_refused_and_counted() {
    let fleet = Fleet::start(BASE, 2, &[1, 2, 3]).await;
    let node = fleet.node(1);
    let ours = user_where(owned(&fleet.ring, 1));
    let mut client = node.connect(&ours).await;
    let third = Third::start(&fleet, "000102030405060708090a0b0c0d0e0f", member(BASE, 3).address);
    third.linked(node).await;
    third.linked(fleet.node(2)).await;
    let to = third.incarnation(node);
    let sealed = |message| Envelope::sealed(to, message);

    // Both of the others have to hear of the third that it follows the ring before that is in force.
    let state = State { epoch: Epoch(1), in_force: true, settled: true, heard: Epoch(1), number: 1 };
    third.say(node, sealed(Said::State(state)), false).await;
    let offer = |user: &str, epoch: u64, number: u64| {
        let id = MoveId { session: SessionId { born: Incarnation(7), number }, generation: 1 };
        let (user, dump) = (User::from(user.as_bytes()), b"no session at all".to_vec());
        Said::Offer(Box::new(Offer { id, epoch: Epoch(epoch), user, opened: true, platform: 0, seen: vec![], dump }))
    };
    let theirs = user_where(owned(&fleet.ring, 2));
    let in_force = async {
        while node.refused("not_mine") == 0 {
            third.say(node, sealed(offer(&theirs, 1, 1)), true).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(in_force).await;
    // Those that were too early were refused, too, and all of them are through once this one is.
    let malformed = Envelope { to, message: b"\xffno message".to_vec() };
    third.say(node, malformed.clone(), true).await;
    node.refuses("malformed", 0).await;

    let id = MoveId { session: SessionId { born: Incarnation(7), number: 1 }, generation: 1 };
    let other_life = Envelope { to: Incarnation(to.0 ^ 1), ..sealed(offer(&ours, 1, 2)) };
    let unknown = [
        Said::Go { id },
        Said::Ready { id },
        Said::Refused { id, because: RefusedBecause::Busy },
        Said::Done { id, alive: false },
    ];
    let unknown = unknown.map(|message| (sealed(message), false, "foreign"));
    let rest = [
        (malformed, false, "malformed"),
        (other_life, true, "stale"),
        (sealed(Said::Abort { id }), false, "stale"),
        (sealed(offer(&ours, 2, 3)), true, "ring"),
        (sealed(offer(&theirs, 1, 4)), true, "not_mine"),
        (sealed(offer(&ours, 1, 5)), true, "broken"),
        // The same once more: it is remembered.
        (sealed(offer(&ours, 1, 5)), true, "stale"),
    ];
    for (envelope, is_offer, reason) in unknown.into_iter().chain(rest) {
        let before = node.refused(reason);
        third.say(node, envelope, is_offer).await;
        node.refuses(reason, before).await;
        client.send(Message::text(reason)).await.unwrap();
        assert_eq!(next(&mut client).await, reason, "the session goes on");
    }
    assert_eq!(node.figure("ringsteer_sessions "), 1.0);
    assert_eq!(node.figure("ringsteer_moves_total{outcome=\"taken\"} "), 0.0);
    assert_eq!(node.figure("ringsteer_moves_under_way{stage=\"arriving\"} "), 0.0);
    assert_eq!(node.refused("crowded") + node.refused("stranger"), 0);
}

#[tokio::test]
async fn who_has_not_the_secret_is_not_heard() {
    let fleet = Fleet::start(BASE + 1, 2, &[1, 2, 3]).await;
    let here = member(BASE + 1, 3).address;
    let stranger = Third::start(&fleet, "000102030405060708090a0b0c0d0eff", here);
    let is_refused = |line: &str| {
        line.starts_with("ringsteer_gateway_link_ends_total{")
            && line.contains("reason=\"wrong_secret\"")
            && line.contains("way=\"in\"")
    };
    for number in [1, 2] {
        let node = fleet.node(number);
        // It dials, and is dialled.
        let tried = async {
            while !node.subject.figures().unwrap().to_text().lines().any(is_refused) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within(tried).await;
        let word = Word(Envelope { to: Incarnation(1), message: vec![] });
        assert!(stranger.links.tell(node.address, &word).await.is_err());
        assert_eq!(node.figure("ringsteer_gateway_links "), 1.0, "the other one alone");
        assert_eq!(node.refused("malformed"), 0);
    }
    assert_eq!(stranger.links.linked(), 0);
}
