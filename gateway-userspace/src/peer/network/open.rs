//! The links that are up, and asking over them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    peer::{
        counters::Way,
        message::{Answer, Question},
    },
    ring::NodeAddress,
};

/// Questions that may wait to be sent over one link.
const QUESTIONS_AHEAD: usize = 64;

/// How long the other end may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// A question on its way, and who waits for the answer.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The links that are up: at most one each way to each node.
#[derive(Default)]
pub(super) struct OpenLinks {
    links: Mutex<BTreeMap<(NodeAddress, Way), OpenLink>>,
}

struct OpenLink {
    /// Which of the links there have been.
    number: u64,
    questions: mpsc::Sender<Asked>,
}

/// A link's place among those that are up, given up when dropped.
pub(super) struct OpenPlace<'a> {
    all: &'a OpenLinks,
    at: (NodeAddress, Way),
    number: u64,
}

// === impl OpenLinks ===

impl OpenLinks {
    /// The link has come up. It takes the place of the one that was there, whose questions end: the other end made the
    /// new one because it has lost the old one.
    pub(super) fn enter(&self, address: NodeAddress, way: Way) -> (OpenPlace<'_>, mpsc::Receiver<Asked>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_AHEAD);
        let mut links = self.links();
        let at = (address, way);
        let number = links.get(&at).map_or(0, |before| before.number + 1);
        links.insert(at, OpenLink { number, questions });
        (OpenPlace { all: self, at, number }, asked)
    }

    /// Asks the node at `address` over whichever link is up.
    pub(super) async fn ask(&self, address: NodeAddress, question: Question) -> Result<Answer, String> {
        let questions = {
            let links = self.links();
            let link = links.get(&(address, Way::Out)).or_else(|| links.get(&(address, Way::In)));
            link.map(|link| link.questions.clone()).ok_or("there is no link to it")?
        };
        let (answer, answered) = oneshot::channel();
        let asked = async {
            questions.send(Asked { question, answer }).await.map_err(|_| "the link has just ended")?;
            answered.await.map_err(|_| "the link ended before the answer")
        };
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err("it does not answer")).map_err(str::to_owned)
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<(NodeAddress, Way), OpenLink>> {
        // Each change is one call.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenPlace<'_> {
    fn drop(&mut self) {
        let mut links = self.all.links();
        // Unless another link has taken the place.
        if links.get(&self.at).is_some_and(|link| link.number == self.number) {
            links.remove(&self.at);
        }
    }
}
