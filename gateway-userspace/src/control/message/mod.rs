//! What is said on the socket: one JSON object a line, a request from the client, answers from the agent.
//!
//! ```text
//! → {"follow":{}}
//! ← {"publication":{"node":1,"ring":{"epoch":7,…},"digest":"…","services":[…]}}     once there is one, and at every change
//!
//! → {"status":{}}
//! ← {"status":{"node":1,"name":"node-1",…}}
//!
//! → {"flows":{"node":2,"limit":100}}
//! ← {"flows":{"flows":[…],"end":null}}                                              as many as it takes
//! ← {"flows":{"flows":[…],"end":{"total":4711,"matched":12}}}
//!
//! → {"moves":{"step":"hold","flows":[{"client":"203.0.113.7:50000","service":"192.0.2.1:443","count":1}]}}
//! ← {"moved":["done"]}
//!
//! ← {"error":{"message":"…"}}                                                       then the agent hangs up
//! ```
//!
//! A gateway attaches instead of following. It gets the same publications, and on the same connection it reports and is
//! asked:
//!
//! ```text
//! → {"attach":{"version":"0.1.0","pid":4711}}
//! ← {"publication":{…}}
//! → {"report":{"ring":{"epoch":7,…},"users":12,"sessions":15,"leaving":false}}      at every change, and every second
//! ← {"question":{"sessions":{"id":1,"user":"alice"}}}
//! → {"sessions":{"id":1,"sessions":[…]}}
//! ```
//!
//! | file | subject |
//! |---|---|
//! | `publication` | the ring in force, and what is steered by it |
//! | `status` | agent, programs, counters |
//! | `peers` | members, and whether they agree |
//! | `flows` | the flow table |
//! | `services` | what is steered |
//! | `lookup` | where a user belongs |
//! | `moves` | connections that go to another node |
//! | `handoff` | how the sessions' moves go |
//! | `gateway` | between agent and gateway; where a user's sessions are |
//!
//! Agent and gateway are upgraded one after the other, the agent first, so fields that one of them does not know are
//! passed over.

mod flows;
mod gateway;
mod handoff;
mod lookup;
mod moves;
mod peers;
mod publication;
mod services;
mod status;

use serde::{Deserialize, Serialize};

use crate::ring::{MemberNumber, MemberState};

pub use self::{
    flows::{FlowEntry, FlowFilter, FlowState, Flows, FlowsEnd},
    gateway::{GatewayReport, Introduction, NodeSessions, Question, Report, Sessions, Told},
    handoff::{MovesReport, NodeMoves, Order},
    lookup::{KernelPlacement, Lookup, Placement},
    moves::{Claim, FlowMove, HOLD_LIFE_MS, MOVES_MAX, MoveOutcome, MoveStep, Moves, Promise},
    peers::{MemberStatus, Members, PeerStatus, Peers},
    publication::{NamedRing, Publication, PublicationError, Rings},
    services::{ServiceStatus, Services},
    status::{AttachedMode, InterfaceStatus, ProgramStatus, Readiness, RingStatus, SourceStatus, Stats, Status},
};

/// What a client asks. The braces leave room for parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The present publication, and every later one.
    Follow {},
    /// The same for the gateway of this node, which reports on the same connection ([`Told`]).
    Attach(Introduction),
    /// How the agent and its programs are.
    Status {},
    /// The ring in force, and the one before it.
    Ring {},
    /// Whether the other members agree on the ring.
    Peers {},
    /// The members of the ring, and how much of what they hold.
    Members {},
    /// What is steered.
    Services {},
    /// The flow table, in pieces.
    Flows(FlowFilter),
    /// Where a user belongs: by the kernel's map, by userspace, and by the ring before.
    Lookup {
        /// The user id.
        user: String,
    },
    /// Where a user's sessions are: asks the gateways of this node, of the owner and of the owner before.
    Sessions {
        /// The user id.
        user: String,
        /// Ask all members instead.
        #[serde(default)]
        everywhere: bool,
    },
    /// A step of moving connections to another node.
    Moves(Moves),
    /// Have the agent of a node whose gateway has ended decide about moves to this node. The answer is that to `moves`.
    Claim(Claim),
    /// The kernel's counters, with a time.
    Stats {},
    /// How the sessions' moves go, after an order has been obeyed.
    Handoff {
        /// At this member alone; none for all.
        #[serde(default)]
        node: Option<MemberNumber>,
        /// The order, if there is one.
        #[serde(default)]
        order: Option<Order>,
    },
    /// Have a node announce itself in another state, where nodes announce themselves.
    Announce {
        /// Which.
        state: MemberState,
        /// The member; none for this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<MemberNumber>,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `follow` and `attach`.
    Publication(Publication),
    /// To `attach`, whenever the agent wants to know something. Expects a [`Told`].
    Question(Question),
    /// To `status`.
    Status(Box<Status>),
    /// To `ring`.
    Ring(Rings),
    /// To `peers`.
    Peers(Peers),
    /// To `members`.
    Members(Members),
    /// To `services`.
    Services(Services),
    /// To `flows`; more follow until one has an end.
    Flows(Flows),
    /// To `lookup`.
    Lookup(Box<Lookup>),
    /// To `sessions`.
    Sessions(Sessions),
    /// To `moves`: what became of each connection, in the order of the request.
    Moved(Vec<MoveOutcome>),
    /// To `handoff`: node by node.
    Handoff(Vec<NodeMoves>),
    /// To `stats`.
    Stats(Stats),
    /// To `announce`.
    Announced {
        /// The state now announced.
        state: MemberState,
    },
    /// To a request that cannot be served.
    Error {
        /// What is wrong and how to mend it.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{MemberNumber, fixtures};

    #[test]
    fn the_words_on_the_wire_stay() {
        let request = |text: &str, expected: Request| {
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), expected);
            assert_eq!(serde_json::to_string(&expected).unwrap(), text);
        };
        request(r#"{"follow":{}}"#, Request::Follow {});
        request(r#"{"attach":{"version":"1","pid":7}}"#, Request::Attach(Introduction { version: "1".into(), pid: 7 }));
        request(r#"{"status":{}}"#, Request::Status {});
        request(r#"{"lookup":{"user":"u"}}"#, Request::Lookup { user: "u".into() });
        let flows = FlowFilter { node: Some(2), limit: Some(100), ..FlowFilter::default() };
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"flows":{"node":2,"limit":100}}"#).unwrap(),
            Request::Flows(flows)
        );
        let flow = FlowMove {
            client: "203.0.113.7:50000".parse().unwrap(),
            service: "192.0.2.1:443".parse().unwrap(),
            count: 1,
            first_ack: 0,
        };
        let moves = |step| Request::Moves(Moves { step, flows: vec![flow], promise: None });
        let flows = r#""flows":[{"client":"203.0.113.7:50000","service":"192.0.2.1:443","count":1,"first_ack":0}]"#;
        request(&format!(r#"{{"moves":{{"step":"hold",{flows}}}}}"#), moves(MoveStep::Hold));
        let to = MemberNumber::new(2).unwrap();
        let promised = Moves { step: MoveStep::Hold, flows: vec![flow], promise: Some(Promise { to, by: 7 }) };
        let text = format!(r#"{{"moves":{{"step":"hold",{flows},"promise":{{"to":2,"by":7}}}}}}"#);
        request(&text, Request::Moves(promised));
        let claim = Claim { from: to, flows: vec![flow], last_of: None };
        request(&format!(r#"{{"claim":{{"from":2,{flows}}}}}"#), Request::Claim(claim));
        let last = Claim { from: to, flows: vec![], last_of: Some(7) };
        request(r#"{"claim":{"from":2,"flows":[],"last_of":7}}"#, Request::Claim(last));
        request(&format!(r#"{{"moves":{{"step":{{"move":{{"to":2}}}},{flows}}}}}"#), moves(MoveStep::Move { to }));
        let answer = Answer::Moved(vec![MoveOutcome::Done, MoveOutcome::NotHeld]);
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"moved":["done","not_held"]}"#);
        let error = Answer::Error { message: "no".into() };
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"error":{"message":"no"}}"#);
        let ring = fixtures::ring_of(&["gw-0:88"]);
        let answer = Answer::Publication(Publication::new(MemberNumber::new(1).ok(), &ring, None, vec![]));
        let expected = format!(
            "{{\"publication\":{{\"node\":1,\"address\":\"198.51.100.1\",\"ring\":{{\"epoch\":1,\"algorithm\":\"openim\",\
             \"allow_identities_without_port\":false,\"members\":[{{\"number\":1,\"identity\":\"gw-0:88\",\
             \"address\":\"198.51.100.1\",\"state\":\"active\"}}]}},\"digest\":\"{}\",\"previous\":null,\
             \"services\":[]}}}}",
            ring.digest()
        );
        assert_eq!(serde_json::to_string(&answer).unwrap(), expected);
    }

    #[test]
    fn what_a_newer_program_adds_is_passed_over() {
        assert_eq!(serde_json::from_str::<Request>(r#"{"follow":{"since":3}}"#).unwrap(), Request::Follow {});
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"flows":{"colour":"blue"}}"#).unwrap(),
            Request::Flows(FlowFilter::default())
        );
    }
}
