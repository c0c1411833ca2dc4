//! One link's part: what is asked, told and answered over it.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Gateways, Lane, Peer, Subject,
    envelope::{Envelope, Outcome},
    lanes::{Cutter, Joiner},
};
use crate::peer::{
    counters::Way,
    message::Incarnation,
    network::{OpenPlace, Part, Shared, Why},
};

/// Messages that may wait to be sent over one lane of a link.
const AHEAD: usize = 64;

/// Questions of ours that may wait for their answers on one link; who asks more waits for a place.
const ASKED_AT_ONCE: usize = 1024;

/// Questions of the other end that are being answered at once; beyond, it is told that we are busy. More than an end like
/// ourselves asks.
const ANSWERED_AT_ONCE: usize = 2048;

/// The first byte of what is said after hello.
mod kind {
    /// We live.
    pub(super) const ALIVE: u8 = 2;
    /// A piece of a message.
    pub(super) const PIECE: u8 = 3;
}

/// A message to be sent, and who waits for the answer.
pub(super) struct Outgoing {
    pub(super) subject: Subject,
    pub(super) body: bytes::Bytes,
    pub(super) answer: Option<oneshot::Sender<(Outcome, Vec<u8>)>>,
}

/// The way to a link's task.
pub(super) struct Line {
    pub(super) incarnation: Incarnation,
    /// Places for questions of ours.
    pub(super) questions: Semaphore,
    lanes: [mpsc::Sender<Outgoing>; 2],
}

/// One link's part.
pub(super) struct LinkPart {
    shared: Arc<Shared<Gateways>>,
    peer: Peer,
    place: OpenPlace,
    line: Arc<Line>,
    to_send: [mpsc::Receiver<Outgoing>; 2],
    /// Who waits for the answers to our questions.
    waiting: BTreeMap<u64, oneshot::Sender<(Outcome, Vec<u8>)>>,
    last_question: u64,
    /// The other end's questions.
    answers: FuturesUnordered<BoxFuture<'static, (u64, Outcome, Vec<u8>)>>,
    cutter: Cutter,
    joiner: Joiner,
}

// === impl Line ===

impl Line {
    /// Where messages for that lane go.
    pub(super) fn lane(&self, lane: Lane) -> &mpsc::Sender<Outgoing> {
        &self.lanes[lane as usize]
    }
}

// === impl LinkPart ===

impl LinkPart {
    /// The part of a link that has come up.
    ///
    /// # Errors
    /// If a later process of that node has been heard.
    pub(super) fn open(shared: &Arc<Shared<Gateways>>, peer: Peer, way: Way) -> Result<Self, Why> {
        let gateways = &shared.speech;
        let mut met = Ok(());
        gateways.lives.send_if_modified(|lives| {
            met = lives.met(peer.node, peer.incarnation);
            met.is_ok()
        });
        met.map_err(|_| Why::Outlived)?;
        let ((prompt, prompt_to_send), (bulk, bulk_to_send)) = (mpsc::channel(AHEAD), mpsc::channel(AHEAD));
        let line = Arc::new(Line {
            incarnation: peer.incarnation,
            questions: Semaphore::new(ASKED_AT_ONCE),
            lanes: [prompt, bulk],
        });
        Ok(Self {
            place: gateways.open.enter(peer.node, way, Arc::clone(&line)),
            shared: Arc::clone(shared),
            peer,
            line,
            to_send: [prompt_to_send, bulk_to_send],
            waiting: BTreeMap::new(),
            last_question: 0,
            answers: FuturesUnordered::new(),
            cutter: Cutter::default(),
            joiner: Joiner::default(),
        })
    }

    /// Puts a message on its way.
    fn send(&mut self, lane: Lane, Outgoing { subject, body, answer }: Outgoing) {
        let envelope = match answer {
            // Whoever asked has gone away.
            Some(answer) if answer.is_closed() => return,
            Some(answer) => {
                self.last_question += 1;
                self.waiting.insert(self.last_question, answer);
                Envelope::Question(self.last_question, subject)
            }
            None => Envelope::Notice(subject),
        };
        self.cutter.push(lane, envelope.seal(&body));
    }

    fn answer(&mut self, (number, outcome, body): (u64, Outcome, Vec<u8>)) {
        let lane = Lane::for_answer(body.len());
        self.cutter.push(lane, Envelope::Answer(number, outcome).seal(&body));
    }

    /// The other end has asked something.
    fn asked(&mut self, number: u64, subject: Subject, body: &[u8]) {
        if self.answers.len() >= ANSWERED_AT_ONCE {
            return self.answer((number, Outcome::Busy, Vec::new()));
        }
        let Some(answering) = self.shared.speech.handlers.asked(&self.peer, subject, body) else {
            return self.answer((number, Outcome::NotUnderstood, Vec::new()));
        };
        let answering = tokio::spawn(answering);
        self.answers.push(Box::pin(async move {
            // It fails only by panicking.
            let (outcome, body) = answering.await.unwrap_or((Outcome::Failed, Vec::new()));
            (number, outcome, body)
        }));
    }
}

impl Part for LinkPart {
    async fn hear(&mut self, message: Vec<u8>) -> Result<(), Why> {
        let piece = match message.split_first() {
            Some((&kind::PIECE, piece)) => piece,
            Some((&kind::ALIVE, _)) => return Ok(()),
            // A newer version says something that we do not understand.
            _ => {
                self.shared.counters.message(false);
                return Ok(());
            }
        };
        let whole = self.joiner.piece(piece).map_err(|error| Why::Message(error.to_string()))?;
        let Some(message) = whole else { return Ok(()) };
        let (envelope, body) =
            Envelope::open(&message).ok_or_else(|| Why::Message("an envelope of an unknown kind".into()))?;
        let mut known = true;
        match envelope {
            Envelope::Question(number, subject) => self.asked(number, subject, body),
            Envelope::Answer(number, outcome) => {
                if let Some(waiting) = self.waiting.remove(&number) {
                    // Whoever asked may have gone away.
                    let _ = waiting.send((outcome, body.to_vec()));
                }
            }
            Envelope::Notice(subject) => known = self.shared.speech.handlers.told(&self.peer, subject, body),
        }
        self.shared.counters.message(known);
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<u8>, Why> {
        loop {
            if self.place.is_lost() {
                return Err(Why::Replaced);
            }
            for lane in Lane::ALL {
                // One at a time: who has more waits in the channel, and feels it.
                if self.cutter.is_empty(lane)
                    && let Ok(outgoing) = self.to_send[lane as usize].try_recv()
                {
                    self.send(lane, outgoing);
                }
            }
            while let Some(Some(answer)) = self.answers.next().now_or_never() {
                self.answer(answer);
            }
            if let Some(piece) = self.cutter.piece(&[kind::PIECE]) {
                return Ok(piece);
            }
            let [prompt, bulk] = &mut self.to_send;
            let (lane, outgoing) = tokio::select! {
                () = self.place.lost() => return Err(Why::Replaced),
                Some(outgoing) = prompt.recv() => (Lane::Prompt, outgoing),
                Some(outgoing) = bulk.recv() => (Lane::Bulk, outgoing),
                Some(answer) = self.answers.next() => {
                    self.answer(answer);
                    continue;
                }
            };
            self.send(lane, outgoing);
        }
    }

    fn tick(&mut self) -> Vec<u8> {
        // Whoever asked and went away is forgotten here.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        vec![kind::ALIVE]
    }
}

impl Drop for LinkPart {
    fn drop(&mut self) {
        let gateways = &self.shared.speech;
        gateways.open.leave(&self.place);
        // Whoever waits for a place among the questions need not wait any longer.
        self.line.questions.close();
        gateways.lives.send_modify(|lives| lives.parted(self.peer.node, self.peer.incarnation));
    }
}
