//! The third node of a fleet of three, whose gateway is not ours: it says of moves and rings what the test wants, and no more.

use ringsteer::peer::{
    View,
    gateways::{Handlers, Lane, Links, Notice, Subject, To, Wiring},
    key::{Between, LinkKeys},
};
use ringsteer_handoff::{message::Message as Said, name::Incarnation};
use serde::{Deserialize, Serialize};

use super::*;

/// A word about moves, in the form that it has on the wire.
#[derive(Serialize, Deserialize)]
pub struct Word(pub Envelope);

/// The same for an offer.
#[derive(Serialize, Deserialize)]
pub struct Offered(pub Envelope);

#[derive(Clone, Serialize, Deserialize)]
pub struct Envelope {
    pub to: Incarnation,
    pub message: Vec<u8>,
}

impl Notice for Word {
    const SUBJECT: Subject = Subject(17);
}

impl Notice for Offered {
    const SUBJECT: Subject = Subject(16);
    const LANE: Lane = Lane::Bulk;
}

impl Envelope {
    /// A message for that life of a gateway.
    pub fn sealed(to: Incarnation, message: Said<Vec<u8>, ()>) -> Self {
        Self { to, message: message.encode().unwrap() }
    }
}

/// Links of the third node, which runs no gateway.
pub struct Third {
    pub links: Links,
    _view: watch::Sender<Arc<View>>,
    _keys: watch::Sender<Arc<LinkKeys>>,
}

impl Third {
    pub fn start(fleet: &Fleet, secret: &str, here: NodeAddress) -> Self {
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

    pub async fn linked(&self, to: &Node) {
        let mut lives = self.links.lives();
        within(lives.wait_for(|lives| lives.of(to.address).is_some_and(|life| life.links > 0))).await.unwrap();
    }

    /// What the node's gateway is called.
    pub fn incarnation(&self, node: &Node) -> Incarnation {
        Incarnation(self.links.lives().borrow().of(node.address).expect("it is linked").incarnation.number)
    }

    pub async fn say(&self, to: &Node, envelope: Envelope, offer: bool) {
        let address = To::from(to.address);
        let told = if offer {
            self.links.tell(address, &Offered(envelope)).await
        } else {
            self.links.tell(address, &Word(envelope)).await
        };
        told.unwrap();
    }
}
