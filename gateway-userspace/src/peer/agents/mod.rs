//! The agents' links: how everybody is, and questions of operators that another node must answer.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    agreement::LinkStatus,
    counters::{Counts, Way},
    key::LinkKeys,
    message::{Answer, Hello, Incarnation, Message, Question, State},
    network::{Dialled, OpenLinks, OpenPlace, Part, Shared, Speech, Tasks, Why, clock_ms},
    view::View,
};
use crate::ring::{NodeAddress, RingName};

/// Questions that may wait to be sent over one link.
const QUESTIONS_AHEAD: usize = 64;

/// Questions of the other end that are being answered at once.
const QUESTIONS_AT_ONCE: usize = 64;

/// How long the other end may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Our ring and that of our gateway.
type Rings = (Option<RingName>, Option<RingName>);

/// What the links are made of and connected to.
pub struct Wiring {
    /// TCP port of all nodes.
    pub port: u16,
    /// Who is who; may change at any time.
    pub view: watch::Receiver<Arc<View>>,
    /// The keys that are valid; may change at any time.
    pub keys: watch::Receiver<Arc<LinkKeys>>,
    /// The rings that our agent and our gateway have; a change is told to everybody at once.
    pub rings: watch::Receiver<Rings>,
    /// Where to put what was heard.
    pub heard: mpsc::Sender<Heard>,
    /// Answers the others' questions.
    pub desk: Arc<dyn Desk>,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A link is open, and this is what the other end said first.
    Greeting(NodeAddress, Hello),
    /// How a node is, and our own clock (CLOCK_TAI in milliseconds) when it said so.
    State(NodeAddress, State, i64),
    /// How the link is that we make to a node.
    Link(NodeAddress, LinkStatus),
}

/// Answers questions that come over links.
pub trait Desk: Send + Sync + 'static {
    /// Answers `question`.
    fn answer(&self, question: Question) -> BoxFuture<'static, Answer>;
}

/// The links of this node's agent. They end when it is dropped.
pub struct Network {
    shared: Arc<Shared<Agents>>,
    _tasks: Tasks,
}

/// Dials the other members and takes their links, from now on. Must be called within a tokio runtime.
pub fn start(wiring: Wiring) -> Network {
    let Wiring { port, view, keys, rings, heard, desk } = wiring;
    let agents = Agents { rings, heard, desk, open: OpenLinks::default(), started: Instant::now() };
    let shared = Arc::new(Shared::new(port, view, keys, agents));
    let tasks = shared.start();
    Network { shared, _tasks: tasks }
}

/// A question on its way, and who waits for the answer.
struct Asked {
    question: Question,
    answer: oneshot::Sender<Answer>,
}

/// What agents have to say to each other.
struct Agents {
    rings: watch::Receiver<Rings>,
    heard: mpsc::Sender<Heard>,
    desk: Arc<dyn Desk>,
    open: OpenLinks<mpsc::Sender<Asked>>,
    started: Instant,
}

/// One link's part.
struct AgentLink {
    shared: Arc<Shared<Agents>>,
    peer: NodeAddress,
    place: OpenPlace,
    rings: watch::Receiver<Rings>,
    /// What we are to ask.
    questions: mpsc::Receiver<Asked>,
    /// Who waits for the answers to our questions.
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    last_question: u64,
    /// The other end's questions.
    answers: FuturesUnordered<BoxFuture<'static, (u64, Answer)>>,
}

// === impl Network ===

impl Network {
    /// Asks the node at `address`.
    ///
    /// # Errors
    /// If there is no link to it, or it does not answer.
    pub async fn ask(&self, address: NodeAddress, question: Question) -> Result<Answer, String> {
        let link = self.shared.speech.open.to(address).into_iter().next();
        let questions = link.ok_or("there is no link to it")?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            questions.send(Asked { question, answer }).await.map_err(|_| "the link has just ended")?;
            answered.await.map_err(|_| "the link ended before the answer")
        };
        timeout(ANSWER_TIMEOUT, asked).await.unwrap_or(Err("it does not answer")).map_err(str::to_owned)
    }

    /// What happened on the links so far.
    pub fn counts(&self) -> Counts {
        self.shared.counters.counts()
    }
}

// === impl Agents ===

impl Agents {
    /// Passes on what was heard.
    async fn tell(&self, heard: Heard) {
        // Nobody listens any more when the agent stops.
        let _ = self.heard.send(heard).await;
    }
}

impl Speech for Agents {
    const OTHERS: &'static str = "other nodes";
    const PORT_KEY: &'static str = "port";
    const LISTEN_FIRST: bool = false;
    type Part = AgentLink;

    fn incarnation(&self) -> Option<Incarnation> {
        None
    }

    async fn open(shared: &Arc<Shared<Self>>, peer: NodeAddress, way: Way, hello: Hello) -> Result<AgentLink, Why> {
        let agents = &shared.speech;
        let (ask, questions) = mpsc::channel(QUESTIONS_AHEAD);
        let place = agents.open.enter(peer, way, ask);
        let link = AgentLink {
            shared: Arc::clone(shared),
            peer,
            place,
            rings: agents.rings.clone(),
            questions,
            waiting: BTreeMap::new(),
            last_question: 0,
            answers: FuturesUnordered::new(),
        };
        agents.tell(Heard::Greeting(peer, hello)).await;
        if way == Way::Out {
            agents.tell(Heard::Link(peer, LinkStatus { up: true, error: None })).await;
        }
        Ok(link)
    }

    async fn dialled(&self, to: NodeAddress, how: Dialled) {
        self.tell(Heard::Link(to, LinkStatus { up: false, error: Some(how.error) })).await;
    }
}

// === impl AgentLink ===

impl AgentLink {
    /// How we are.
    fn state(&self) -> Message {
        let Hello { identity, number, clock_ms, .. } = self.shared.hello();
        let (agent, gateway) = *self.rings.borrow();
        let uptime_ms = self.shared.speech.started.elapsed().as_millis() as u64;
        Message::State(State { identity, number, agent, gateway, uptime_ms, clock_ms })
    }

    fn ask(&mut self, Asked { question, answer }: Asked) -> Message {
        self.last_question += 1;
        // Whoever asked and went away is forgotten here.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        self.waiting.insert(self.last_question, answer);
        Message::Question(self.last_question, question)
    }
}

impl Part for AgentLink {
    async fn hear(&mut self, message: Vec<u8>) -> Result<(), Why> {
        let message = Message::decode(&message).map_err(|error| Why::Message(error.to_string()))?;
        let agents = &self.shared.speech;
        self.shared.counters.message(!matches!(message, Message::Unknown(_)));
        match message {
            Message::State(state) => agents.tell(Heard::State(self.peer, state, clock_ms())).await,
            Message::Question(number, question) => {
                if self.answers.len() >= QUESTIONS_AT_ONCE {
                    return Err(Why::Greedy);
                }
                let answer = agents.desk.answer(question);
                self.answers.push(Box::pin(async move { (number, answer.await) }));
            }
            Message::Answer(number, answer) => {
                if let Some(waiting) = self.waiting.remove(&number) {
                    // Whoever asked may have gone away.
                    let _ = waiting.send(answer);
                }
            }
            // It is said once.
            Message::Hello(_) => return Err(Why::Order),
            // A newer version says something that we do not understand.
            Message::Unknown(_) => {}
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<u8>, Why> {
        let message = tokio::select! {
            () = self.place.lost() => return Err(Why::Replaced),
            Ok(()) = self.rings.changed() => self.state(),
            Some(asked) = self.questions.recv() => self.ask(asked),
            Some((number, answer)) = self.answers.next() => Message::Answer(number, answer),
        };
        Ok(message.encode())
    }

    fn tick(&mut self) -> Vec<u8> {
        self.state().encode()
    }
}

impl Drop for AgentLink {
    fn drop(&mut self) {
        self.shared.speech.open.leave(&self.place);
    }
}
