//! Who answers what the other gateways ask.

use std::{collections::BTreeMap, fmt};

use futures_util::future::BoxFuture;

use super::{Lane, Notice, Question, Subject, envelope::Outcome};
use crate::{
    peer::message::Incarnation,
    ring::{MemberNumber, NodeAddress},
};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node: who sits at a member's address and has the fleet's secret.
    pub node: NodeAddress,
    /// The process.
    pub incarnation: Incarnation,
    /// What the ring hashes for it, as it says itself: for messages to people.
    pub identity: Option<String>,
    /// Its number there, as it says itself.
    pub number: Option<MemberNumber>,
}

/// What a handler made of a question: the answer to come.
pub(super) type Answering = BoxFuture<'static, (Outcome, Vec<u8>)>;

type Answer = Box<dyn Fn(&Peer, &[u8]) -> Option<Answering> + Send + Sync>;
type Hear = Box<dyn Fn(&Peer, &[u8]) -> bool + Send + Sync>;

/// Who answers, by subject.
#[derive(Default)]
pub struct Handlers {
    questions: BTreeMap<Subject, Answer>,
    notices: BTreeMap<Subject, Hear>,
}

// === impl Handlers ===

impl Handlers {
    /// Has `handler` answer questions of a type. It is called for one question after the other, in the order in which
    /// they were asked over their lane, and must not block; what it returns is a task of its own, which goes on when the
    /// link ends.
    ///
    /// # Panics
    /// If somebody answers them already.
    pub fn answer<Q: Question, F>(&mut self, handler: impl Fn(&Peer, Q) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Q::Answer> + Send + 'static,
    {
        let answer: Answer = Box::new(move |peer, body| {
            let question = postcard::from_bytes(body).ok()?;
            let answering = handler(peer, question);
            Some(Box::pin(async move {
                match postcard::to_stdvec(&answering.await) {
                    Ok(body) if body.len() <= Lane::Bulk.max_body() => (Outcome::Done, body),
                    _ => (Outcome::Failed, Vec::new()),
                }
            }))
        });
        assert!(self.questions.insert(Q::SUBJECT, answer).is_none(), "{:?} is answered twice", Q::SUBJECT);
    }

    /// Has `handler` hear notices of a type. It is called for one notice after the other and must not block.
    ///
    /// # Panics
    /// If somebody hears them already.
    pub fn hear<N: Notice>(&mut self, handler: impl Fn(&Peer, N) + Send + Sync + 'static) {
        let hear: Hear = Box::new(move |peer, body| match postcard::from_bytes(body) {
            Ok(notice) => {
                handler(peer, notice);
                true
            }
            Err(_) => false,
        });
        assert!(self.notices.insert(N::SUBJECT, hear).is_none(), "{:?} is heard twice", N::SUBJECT);
    }

    /// Begins to answer; none if nobody understands the question.
    pub(super) fn asked(&self, peer: &Peer, subject: Subject, body: &[u8]) -> Option<Answering> {
        self.questions.get(&subject)?(peer, body)
    }

    /// Whether somebody understood the notice.
    pub(super) fn told(&self, peer: &Peer, subject: Subject, body: &[u8]) -> bool {
        self.notices.get(&subject).is_some_and(|hear| hear(peer, body))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (questions, notices) = (self.questions.keys(), self.notices.keys());
        write!(f, "Handlers {{ questions: {questions:?}, notices: {notices:?} }}")
    }
}
