//! Somebody at a member's address says things about moves that are not so. With the fleet's secret they are heard, refused
//! and counted; without it they are not even heard.

use ringsteer::peer::{
    View,
    gateways::{Handlers, Lane, Links, Notice, Subject, To, Wiring},
    key::{Between, LinkKeys},
};
use ringsteer_handoff::{
    message::{Message as Said, Offer, RefusedBecause, State},
    name::{Epoch, Incarnation, MoveId, SessionId, User},
};
use serde::{Deserialize, Serialize};

use super::*;

/// Keeps the addresses of this test apart from those of others.
const BASE: u8 = 42;

/// A word about moves, in the form that it has on the wire.
#[derive(Serialize, Deserialize)]
struct Word(Envelope);

/// The same for an offer.
#[derive(Serialize, Deserialize)]
struct Offered(Envelope);

#[derive(Clone, Serialize, Deserialize)]
struct Envelope {
    to: Incarnation,
    message: Vec<u8>,
}

impl Notice for Word {
    const SUBJECT: Subject = Subject(17);
}

impl Notice for Offered {
    const SUBJECT: Subject = Subject(16);
    const LANE: Lane = Lane::Bulk;
}

/// Links of the third node, which runs no gateway.
struct Third {
    links: Links,
    _view: watch::Sender<Arc<View>>,
    _keys: watch::Sender<Arc<LinkKeys>>,
}

impl Third {
    fn start(fleet: &Fleet, secret: &str, here: NodeAddress) -> Self {
        let text = format!(
            "[node]\nname = \"x\"\nidentity = \"x:1\"\naddress = \"127.0.0.1\"\ninterfaces = [\"eth0\"]\n\
             [secrets]\ncurrent = \"{secret}\"\n\
             [ring]\nepoch = 1\nmembers = [{{ number = 1, identity = \"x:1\", address = \"127.0.0.1\" }}]\n"
        );
        let secrets = Config::parse(&text, &Overrides::default()).unwrap().secrets().unwrap();
        let keys = watch::Sender::new(Arc::new(LinkKeys::of(&secrets, Between::Gateways)));
        let view = watch::Sender::new(Arc::new(View::of_gateway(Some(here), &fleet.ring, None)));
        let wiring =
            Wiring { port: fleet.port, view: view.subscribe(), keys: keys.subscribe(), handlers: Handlers::default() };
        Self { links: Links::start(wiring), _view: view, _keys: keys }
    }

    async fn linked(&self, to: &Node) {
        let mut lives = self.links.lives();
        within(lives.wait_for(|lives| lives.of(to.address).is_some_and(|life| life.links > 0))).await.unwrap();
    }

    /// What the node's gateway is called.
    fn incarnation(&self, node: &Node) -> Incarnation {
        Incarnation(self.links.lives().borrow().of(node.address).expect("it is linked").incarnation.number)
    }

    async fn say(&self, to: &Node, envelope: Envelope, offer: bool) {
        let address = To::from(to.address);
        let told = if offer {
            self.links.tell(address, &Offered(envelope)).await
        } else {
            self.links.tell(address, &Word(envelope)).await
        };
        told.unwrap();
    }
}

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
    let sealed = |message: Said<Vec<u8>, ()>| Envelope { to, message: message.encode().unwrap() };

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
