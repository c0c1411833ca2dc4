//! The gateways that have attached to this agent: what they report, and asking them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::message::{GatewayReport, Introduction, MovesReport, Order, Question, Report, Told};
use crate::{ring::RingName, session::entry::SessionEntry};

/// What a gateway of another version may do.
const SOMETHING_ELSE: &str = "the gateway of this node answers something else";

/// Questions that may wait for one gateway.
const QUESTIONS_AHEAD: usize = 16;

/// How long a gateway may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The gateways of this node: usually one, for a moment two while one replaces the other.
#[derive(Debug)]
pub struct Gateways {
    inner: Mutex<Inner>,
    /// The ring that the gateways follow; see [`Gateways::following`].
    following: watch::Sender<Option<RingName>>,
    /// Whether users can be left to them; see [`Gateways::staffing`].
    staffing: watch::Sender<Staffing>,
}

/// Whether a node has somebody to hold sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staffing {
    /// How many gateways are attached.
    pub attached: usize,
    /// Whether all of them have been told to stop or, without any, the last one had been.
    pub leaving: bool,
}

#[derive(Debug, Default)]
struct Inner {
    attached: BTreeMap<u64, Attached>,
    last_place: u64,
    last_question: u64,
}

#[derive(Debug)]
struct Attached {
    introduction: Introduction,
    report: Report,
    heard: Instant,
    questions: mpsc::Sender<Question>,
    /// Who waits for which answer.
    waiting: BTreeMap<u64, oneshot::Sender<Told>>,
}

/// A gateway's place among those attached, given up when dropped.
pub(super) struct Place {
    gateways: Arc<Gateways>,
    number: u64,
}

// === impl Gateways ===

impl Default for Gateways {
    fn default() -> Self {
        Self { inner: Mutex::default(), following: watch::Sender::new(None), staffing: watch::Sender::default() }
    }
}

impl Gateways {
    /// What the gateways have reported.
    pub fn reports(&self) -> Vec<GatewayReport> {
        let one = |attached: &Attached| GatewayReport {
            version: attached.introduction.version.clone(),
            pid: attached.introduction.pid,
            heard_ms_ago: attached.heard.elapsed().as_millis() as u64,
            report: attached.report.clone(),
        };
        self.inner().attached.values().map(one).collect()
    }

    /// The ring that the gateways of this node follow, and each change of that; with several, the oldest. None if there
    /// is no gateway, or one that follows nothing yet.
    pub fn following(&self) -> watch::Receiver<Option<RingName>> {
        self.following.subscribe()
    }

    /// How many gateways are attached and whether they stay, and each change of that.
    pub fn staffing(&self) -> watch::Receiver<Staffing> {
        self.staffing.subscribe()
    }

    /// How many gateways are attached.
    pub fn attached(&self) -> usize {
        self.inner().attached.len()
    }

    /// The sessions of `user` at the gateways of this node.
    ///
    /// # Errors
    /// If there is no gateway, or one does not answer.
    pub async fn sessions(&self, user: &str) -> Result<Vec<SessionEntry>, String> {
        let mut sessions = Vec::new();
        for answer in self.ask(|id| Question::Sessions { id, user: user.to_owned() }).await? {
            match answer {
                Told::Sessions { sessions: found, .. } => sessions.extend(found),
                _ => return Err(SOMETHING_ELSE.into()),
            }
        }
        Ok(sessions)
    }

    /// How the moves of this node's gateways go, after `order` has been obeyed; those of the newest, if there are several.
    ///
    /// # Errors
    /// If there is no gateway, or one does not answer.
    pub async fn moves(&self, order: Option<Order>) -> Result<MovesReport, String> {
        let answers = self.ask(|id| Question::Moves { id, order }).await?;
        match answers.into_iter().next_back() {
            Some(Told::Moves { moves: Some(moves), .. }) => Ok(moves),
            Some(Told::Moves { moves: None, .. }) => Err("the gateway of this node moves nothing now".into()),
            _ => Err(SOMETHING_ELSE.into()),
        }
    }

    /// Asks all gateways; gives at least one answer, the oldest gateway's first.
    async fn ask(&self, question: impl Fn(u64) -> Question) -> Result<Vec<Told>, String> {
        let mut waiting = Vec::new();
        for (id, questions) in self.expect_answers(&mut waiting) {
            if questions.try_send(question(id)).is_err() {
                return Err("the gateway of this node takes no questions now; try again".into());
            }
        }
        if waiting.is_empty() {
            return Err("no gateway is attached to the agent of this node".into());
        }
        let mut answers = Vec::new();
        for answer in waiting {
            match timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(_)) => return Err("the gateway of this node hung up before it answered".into()),
                Err(_) => return Err("the gateway of this node does not answer".into()),
            }
        }
        Ok(answers)
    }

    /// Makes room for an answer of each gateway; gives the questions' numbers, and where to send them.
    fn expect_answers(&self, waiting: &mut Vec<oneshot::Receiver<Told>>) -> Vec<(u64, mpsc::Sender<Question>)> {
        let mut inner = self.inner();
        let Inner { attached, last_question, .. } = &mut *inner;
        let expect = |attached: &mut Attached| {
            *last_question += 1;
            let (answer, answered) = oneshot::channel();
            waiting.push(answered);
            // Whoever asked and went away is forgotten here.
            attached.waiting.retain(|_, waiting| !waiting.is_closed());
            attached.waiting.insert(*last_question, answer);
            (*last_question, attached.questions.clone())
        };
        attached.values_mut().map(expect).collect()
    }

    /// Takes a gateway in.
    pub(super) fn admit(self: &Arc<Self>, introduction: Introduction) -> (Place, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(QUESTIONS_AHEAD);
        tracing::info!("gateway process {} has attached", introduction.pid);
        let mut inner = self.inner();
        inner.last_place += 1;
        let number = inner.last_place;
        let report = Report::default();
        let attached = Attached { introduction, report, heard: Instant::now(), questions, waiting: BTreeMap::new() };
        inner.attached.insert(number, attached);
        self.tell(&inner);
        (Place { gateways: Arc::clone(self), number }, asked)
    }

    /// Tells those who want to know which ring is followed, and whether anybody stays.
    fn tell(&self, inner: &Inner) {
        let rings = || inner.attached.values().map(|attached| attached.report.ring);
        let oldest =
            if rings().any(|ring| ring.is_none()) { None } else { rings().flatten().min_by_key(|ring| ring.epoch) };
        self.following.send_if_modified(|present| std::mem::replace(present, oldest) != oldest);
        let attached = inner.attached.len();
        self.staffing.send_if_modified(|present| {
            // Nobody has come since the last one left.
            let leaving =
                if attached == 0 { present.leaving } else { inner.attached.values().all(|one| one.report.leaving) };
            let now = Staffing { attached, leaving };
            std::mem::replace(present, now) != now
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is made whole before anything could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Place ===

impl Place {
    /// Takes down what the gateway said.
    pub(super) fn hear(&self, told: Told) {
        let mut inner = self.gateways.inner();
        let Some(attached) = inner.attached.get_mut(&self.number) else { return };
        match told {
            Told::Report(report) => {
                attached.report = report;
                attached.heard = Instant::now();
            }
            Told::Sessions { id, .. } | Told::Moves { id, .. } => {
                if let Some(waiting) = attached.waiting.remove(&id) {
                    // Whoever asked may have gone away.
                    let _ = waiting.send(told);
                }
            }
        }
        self.gateways.tell(&inner);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.gateways.inner();
        if let Some(gone) = inner.attached.remove(&self.number) {
            tracing::info!("gateway process {} has gone", gone.introduction.pid);
        }
        self.gateways.tell(&inner);
    }
}
