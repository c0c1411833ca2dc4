//! What agents say on a link: one byte that tells what it is, and JSON. Hello is said on every link.
//!
//! A kind or a field that this version does not know is passed over, so that versions can meet on one fleet.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    control::{FlowMove, MoveOutcome, MovesReport, Order},
    ring::{MemberNumber, MemberState, NodeAddress, RingName},
    session::entry::SessionEntry,
};

/// The version of the protocol. Another one is refused: what is merely added does not need a new one.
pub const PROTOCOL: u16 = 1;

/// What each end says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// The program's version.
    pub version: String,
    /// What the sender's ring hashes for it, if it is a member of that.
    pub identity: Option<String>,
    /// Its number there.
    pub number: Option<MemberNumber>,
    /// Its clock, CLOCK_TAI in milliseconds: what the cookies are timed by.
    pub clock_ms: i64,
    /// Which process it is, where that matters: gateways say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

/// One process among those that have run on a node, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// When it began, CLOCK_TAI in milliseconds.
    pub started_ms: i64,
    /// Random, so that two are never taken for one.
    pub number: u64,
}

/// How the sender is: sent at once when something has changed, and every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the sender's ring hashes for it, if it is a member of that.
    pub identity: Option<String>,
    /// Its number there.
    pub number: Option<MemberNumber>,
    /// The ring in force there.
    pub agent: Option<RingName>,
    /// The ring that its gateway follows; none without a gateway.
    pub gateway: Option<RingName>,
    /// How long the agent has been running, in milliseconds.
    pub uptime_ms: u64,
    /// Its clock, CLOCK_TAI in milliseconds.
    pub clock_ms: i64,
}

/// A question to the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which sessions a user has at that node's gateway.
    Sessions {
        /// The user.
        user: String,
    },
    /// How the moves of that node's gateway go, after an order has been obeyed.
    Moves {
        /// The order, if there is one.
        order: Option<Order>,
    },
    /// The node is to announce itself in another state.
    Announce {
        /// Which.
        state: MemberState,
    },
    /// Connections have moved to a member: those that enter the fleet at the node asked are to go there.
    Follow {
        /// The member's number.
        to: MemberNumber,
        /// Its address, so that nobody else is taken for it.
        address: NodeAddress,
        /// The connections.
        flows: Vec<MovedFlow>,
    },
    /// The gateway of the node asked has ended while it was giving connections to a member. Those that it still holds for
    /// exactly these moves are that member's now, as if it had said so itself.
    Claim {
        /// The member's number.
        to: MemberNumber,
        /// Its address, so that nobody else is taken for it.
        address: NodeAddress,
        /// The connections.
        flows: Vec<FlowMove>,
        /// The number of the life of that gateway, if the member claims no more of what it left: whatever else it held for
        /// the member has no owner.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_of: Option<u64>,
    },
}

/// A connection that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFlow {
    /// The client.
    pub client: SocketAddr,
    /// The virtual address and port.
    pub service: SocketAddr,
    /// Which of its moves this is, from 1; 0 for a connection that was accepted and has not moved.
    pub count: u16,
    /// How long ago it moved, in microseconds. A connection that is younger is another one.
    pub moved_us_ago: u64,
    /// What its client acknowledged first, which a later connection's does not; 0 if that is not known.
    pub first_ack: u32,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Sessions`].
    Sessions(Vec<SessionEntry>),
    /// To [`Question::Follow`]: they go there from now on.
    Followed {},
    /// To [`Question::Claim`]: what became of each, in order.
    Claimed(Vec<MoveOutcome>),
    /// To [`Question::Moves`].
    Moves(MovesReport),
    /// To [`Question::Announce`]: the state that is announced now.
    Announced {
        /// Which.
        state: MemberState,
    },
    /// It cannot be answered.
    Error(String),
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// First, once, by each end.
    Hello(Hello),
    /// How the sender is.
    State(State),
    /// A question, with a number to be repeated in the answer.
    Question(u64, Question),
    /// The answer to the question of that number.
    Answer(u64, Answer),
    /// Of a kind that this version does not know.
    Unknown(u8),
}

/// The first byte of each kind.
mod kind {
    pub const HELLO: u8 = 1;
    pub const STATE: u8 = 2;
    pub const QUESTION: u8 = 3;
    pub const ANSWER: u8 = 4;
}

/// Bytes that are no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Nothing at all.
    #[error("an empty message")]
    Empty,
    /// Of a known kind, but not what that looks like.
    #[error("a message of kind {0} that cannot be read: {1}")]
    Malformed(u8, serde_json::Error),
}

// === impl Hello ===

impl Hello {
    /// As the first message of a link.
    pub(super) fn encode(&self) -> Vec<u8> {
        Message::Hello(self.clone()).encode()
    }

    /// The hello in `bytes`; none if they are another message.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, MessageError> {
        match bytes.first() {
            Some(&kind::HELLO) => match Message::decode(bytes)? {
                Message::Hello(hello) => Ok(Some(hello)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

// === impl Message ===

impl Message {
    /// The message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        fn bytes(kind: u8, content: &impl Serialize) -> Vec<u8> {
            let mut bytes = vec![kind];
            serde_json::to_writer(&mut bytes, content).expect("plain data has a JSON form, and a Vec takes it");
            bytes
        }
        match self {
            Self::Hello(hello) => bytes(kind::HELLO, hello),
            Self::State(state) => bytes(kind::STATE, state),
            Self::Question(number, question) => bytes(kind::QUESTION, &(number, question)),
            Self::Answer(number, answer) => bytes(kind::ANSWER, &(number, answer)),
            Self::Unknown(kind) => vec![*kind],
        }
    }

    /// The message in `bytes`.
    ///
    /// # Errors
    /// If they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let (&kind, content) = bytes.split_first().ok_or(MessageError::Empty)?;
        let read = || match kind {
            kind::HELLO => serde_json::from_slice(content).map(Self::Hello),
            kind::STATE => serde_json::from_slice(content).map(Self::State),
            kind::QUESTION => {
                serde_json::from_slice(content).map(|(number, question)| Self::Question(number, question))
            }
            kind::ANSWER => serde_json::from_slice(content).map(|(number, answer)| Self::Answer(number, answer)),
            _ => Ok(Self::Unknown(kind)),
        };
        read().map_err(|error| MessageError::Malformed(kind, error))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::fixtures;

    pub fn hello(identity: &str) -> Hello {
        Hello {
            protocol: PROTOCOL,
            version: "0.1.0".into(),
            identity: Some(identity.into()),
            number: MemberNumber::new(1).ok(),
            clock_ms: 1_800_000_000_000,
            incarnation: None,
        }
    }

    pub fn state(epoch: u64) -> State {
        let ring = RingName { epoch: crate::ring::Epoch(epoch), digest: fixtures::openim(2, ":88").digest() };
        let number = MemberNumber::new(1).ok();
        State { identity: None, number, agent: Some(ring), gateway: None, uptime_ms: epoch, clock_ms: -5 }
    }

    /// Messages of every kind.
    pub fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            any::<u64>().prop_map(|epoch| Message::State(state(epoch))),
            (any::<u64>(), ".{0,300}").prop_map(|(id, user)| Message::Question(id, Question::Sessions { user })),
            (any::<u64>(), ".{0,2000}").prop_map(|(id, error)| Message::Answer(id, Answer::Error(error))),
            (5u8..).prop_map(Message::Unknown),
        ]
    }

    proptest! {
        #[test]
        fn survives_the_journey_whole(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }

        #[test]
        fn garbage_is_an_error_or_unknown(bytes: Vec<u8>) {
            match Message::decode(&bytes) {
                Ok(Message::Unknown(kind)) => prop_assert_eq!(Some(&kind), bytes.first()),
                Ok(message) => prop_assert_eq!(Message::decode(&message.encode()).unwrap(), message),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn the_words_on_the_wire_stay() {
        assert_eq!(
            String::from_utf8(Message::Hello(hello("gw-0:88")).encode()).unwrap(),
            "\u{1}{\"protocol\":1,\"version\":\"0.1.0\",\"identity\":\"gw-0:88\",\"number\":1,\"clock_ms\":1800000000000}"
        );
        let question = Message::Question(7, Question::Sessions { user: "u".into() });
        assert_eq!(String::from_utf8(question.encode()).unwrap(), "\u{3}[7,{\"sessions\":{\"user\":\"u\"}}]");
        let flow = MovedFlow {
            client: "203.0.113.7:50000".parse().unwrap(),
            service: "192.0.2.1:443".parse().unwrap(),
            count: 2,
            moved_us_ago: 1500,
            first_ack: 77,
        };
        let to = MemberNumber::new(3).unwrap();
        let address = NodeAddress::new([198, 51, 100, 3].into()).unwrap();
        let follow = Message::Question(8, Question::Follow { to, address, flows: vec![flow] });
        assert_eq!(
            String::from_utf8(follow.encode()).unwrap(),
            "\u{3}[8,{\"follow\":{\"to\":3,\"address\":\"198.51.100.3\",\"flows\":[{\"client\":\"203.0.113.7:50000\",\
             \"service\":\"192.0.2.1:443\",\"count\":2,\"moved_us_ago\":1500,\"first_ack\":77}]}}]"
        );
        let claimed = FlowMove { client: flow.client, service: flow.service, count: 2, first_ack: 77 };
        let claim = Message::Question(9, Question::Claim { to, address, flows: vec![claimed], last_of: Some(7) });
        assert_eq!(
            String::from_utf8(claim.encode()).unwrap(),
            "\u{3}[9,{\"claim\":{\"to\":3,\"address\":\"198.51.100.3\",\"flows\":[{\"client\":\"203.0.113.7:50000\",\
             \"service\":\"192.0.2.1:443\",\"count\":2,\"first_ack\":77}],\"last_of\":7}}]"
        );
        let answer = Message::Answer(9, Answer::Claimed(vec![MoveOutcome::Done, MoveOutcome::NotHeld]));
        assert_eq!(String::from_utf8(answer.encode()).unwrap(), "\u{4}[9,{\"claimed\":[\"done\",\"not_held\"]}]");
        let followed = Message::Answer(8, Answer::Followed {});
        assert_eq!(String::from_utf8(followed.encode()).unwrap(), "\u{4}[8,{\"followed\":{}}]");
    }
}
