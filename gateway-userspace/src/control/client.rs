//! One request, one answer; of moves, one after the other.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::BufReader,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use super::{
    line::{self, LineError, MAX_ANSWER_BYTES},
    message::{
        Answer, Claim, FlowEntry, FlowFilter, FlowsEnd, Lookup, Members, MoveOutcome, Moves, NodeMoves, Order, Peers,
        PublicationError, Request, Rings, Services, Sessions, Stats, Status, Told,
    },
};
use crate::ring::{MemberNumber, MemberState};

/// Why the agent gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody there.
    #[error("cannot reach the agent on {}: {error}; is `ringsteer agent` running, and may this user connect?", path.display())]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent's answer: {0}")]
    Line(#[from] LineError),
    /// It hung up.
    #[error("the agent hung up")]
    HungUp,
    /// It would not.
    #[error("the agent refused: {0}")]
    Refused(String),
    /// It answered another question.
    #[error("the agent answered another question; agent and this program are of versions that do not go together")]
    Unexpected,
    /// What it publishes is not to be believed.
    #[error(transparent)]
    Publication(#[from] PublicationError),
}

// === impl ClientError ===

impl ClientError {
    /// Whether there is no agent to ask, rather than one that does not want to be asked.
    pub fn agent_is_gone(&self) -> bool {
        match self {
            Self::Connect { error, .. } => {
                // The last is said where it ends with our connection still in its queue (`unix_release_sock`).
                use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
                matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
            }
            Self::HungUp | Self::Line(LineError::Io(_) | LineError::Truncated) => true,
            Self::Line(_) | Self::Refused(_) | Self::Unexpected | Self::Publication(_) => false,
        }
    }
}

/// Asks the agent that listens on `path`, and gives its one answer, which `expected` picks.
async fn ask<T>(path: &Path, request: &Request, expected: impl Fn(Answer) -> Option<T>) -> Result<T, ClientError> {
    let answer = Agent::ask(path, request).await?.answer().await?;
    expected(answer).ok_or(ClientError::Unexpected)
}

/// Defines a question with one answer.
macro_rules! question {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $request:expr => $variant:ident($inner:ident) $give:expr => $answer:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// If the agent that listens on `path` cannot be reached or does not answer.
        pub async fn $name(path: &Path, $($argument: $type),*) -> Result<$answer, ClientError> {
            ask(path, &$request, |answer| match answer {
                Answer::$variant($inner) => Some($give),
                _ => None,
            })
            .await
        }
    };
}

question! {
    /// How agent and programs are.
    status() Request::Status {} => Status(status) *status => Status
}
question! {
    /// The ring in force, and the one before it.
    ring() Request::Ring {} => Ring(rings) rings => Rings
}
question! {
    /// Whether the other members agree on the ring.
    peers() Request::Peers {} => Peers(peers) peers => Peers
}
question! {
    /// The members of the ring, and how much of what they hold.
    members() Request::Members {} => Members(members) members => Members
}
question! {
    /// What is steered.
    services() Request::Services {} => Services(services) services => Services
}
question! {
    /// Where a user belongs.
    lookup(user: &str) Request::Lookup { user: user.to_owned() } => Lookup(lookup) *lookup => Lookup
}
question! {
    /// Where a user's sessions are: at this node, the owner and the owner before, or at any member.
    sessions(user: &str, everywhere: bool)
        Request::Sessions { user: user.to_owned(), everywhere } => Sessions(sessions) sessions => Sessions
}
question! {
    /// What the agent of a node whose gateway has ended says about moves to this node: done if they are, in the order of
    /// the request.
    claim(claim: Claim) Request::Claim(claim) => Moved(outcomes) outcomes => Vec<MoveOutcome>
}
question! {
    /// The kernel's counters, with a time.
    stats() Request::Stats {} => Stats(stats) stats => Stats
}

question! {
    /// How the sessions' moves go at a member, or at all, after an order has been obeyed.
    handoff(node: Option<MemberNumber>, order: Option<Order>)
        Request::Handoff { node, order } => Handoff(nodes) nodes => Vec<NodeMoves>
}

/// Has a member announce itself in another state, or this node if none is named, and gives the one it announces then.
///
/// # Errors
/// If the agent that listens on `path` cannot be reached, or refuses because nodes do not announce themselves
/// where this fleet keeps its members.
pub async fn announce(path: &Path, state: MemberState, node: Option<MemberNumber>) -> Result<MemberState, ClientError> {
    ask(path, &Request::Announce { state, node }, |answer| match answer {
        Answer::Announced { state } => Some(state),
        _ => None,
    })
    .await
}

/// The flows that `filter` lets through: hands each to `show` as it arrives, and gives their number in the end.
///
/// # Errors
/// If the agent that listens on `path` cannot be reached or breaks off.
pub async fn flows(path: &Path, filter: FlowFilter, mut show: impl FnMut(FlowEntry)) -> Result<FlowsEnd, ClientError> {
    let mut agent = Agent::ask(path, &Request::Flows(filter)).await?;
    loop {
        let Answer::Flows(flows) = agent.answer().await? else { return Err(ClientError::Unexpected) };
        flows.flows.into_iter().for_each(&mut show);
        if let Some(end) = flows.end {
            return Ok(end);
        }
    }
}

/// How long a connection is kept on which nothing is asked. The agent hangs up later than that.
const KEPT: Duration = Duration::from_secs(5);

/// The agent as one asks it for step after step of moves: on one connection, as long as steps come.
#[derive(Debug)]
pub struct MoveClient {
    path: PathBuf,
    /// And when it was used last.
    kept: Option<(Agent, Instant)>,
}

// === impl MoveClient ===

impl MoveClient {
    /// Of the agent that listens on `path`. Connects when something is asked.
    pub fn new(path: PathBuf) -> Self {
        Self { path, kept: None }
    }

    /// One step of moving connections, and what became of each, in the order of the request. It may be asked for again if
    /// this fails: a step that was done stays as it is.
    ///
    /// # Errors
    /// If the agent cannot be reached or does not answer.
    pub async fn ask(&mut self, moves: Moves) -> Result<Vec<MoveOutcome>, ClientError> {
        let request = Request::Moves(moves);
        if let Some((mut agent, used)) = self.kept.take()
            && used.elapsed() < KEPT
        {
            let answered = match agent.ask_again(&request).await {
                Ok(()) => agent.answer().await,
                Err(error) => Err(error),
            };
            match answered {
                // An agent that has started again does not know the connection.
                Err(error) if error.agent_is_gone() => {}
                answered => return self.take_in(agent, answered?),
            }
        }
        let mut agent = Agent::ask(&self.path, &request).await?;
        let answer = agent.answer().await?;
        self.take_in(agent, answer)
    }

    fn take_in(&mut self, agent: Agent, answer: Answer) -> Result<Vec<MoveOutcome>, ClientError> {
        let Answer::Moved(outcomes) = answer else { return Err(ClientError::Unexpected) };
        self.kept = Some((agent, Instant::now()));
        Ok(outcomes)
    }
}

/// An agent that has been asked something: both halves are kept, for ending one would end the conversation.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) listener: Listener,
    pub(super) speaker: Speaker,
}

/// The half on which the agent answers.
#[derive(Debug)]
pub(super) struct Listener(BufReader<OwnedReadHalf>);

/// The half on which the agent is spoken to.
#[derive(Debug)]
pub(super) struct Speaker(OwnedWriteHalf);

// === impl Agent ===

impl Agent {
    pub(super) async fn ask(path: &Path, request: &Request) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(path).await;
        let stream = connected.map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
        let (reader, mut writer) = stream.into_split();
        line::write(&mut writer, request).await?;
        Ok(Self { listener: Listener(BufReader::new(reader)), speaker: Speaker(writer) })
    }

    /// Asks it one thing more. Only where the server goes on: after moves.
    async fn ask_again(&mut self, request: &Request) -> Result<(), ClientError> {
        Ok(line::write(&mut self.speaker.0, request).await?)
    }

    /// Its next answer. Loses what it has read of one if dropped before it completes.
    pub(super) async fn answer(&mut self) -> Result<Answer, ClientError> {
        self.listener.answer().await
    }
}

// === impl Listener ===

impl Listener {
    /// As [`Agent::answer`].
    pub(super) async fn answer(&mut self) -> Result<Answer, ClientError> {
        match line::read(&mut self.0, MAX_ANSWER_BYTES).await? {
            Some(Answer::Error { message }) => Err(ClientError::Refused(message)),
            Some(answer) => Ok(answer),
            None => Err(ClientError::HungUp),
        }
    }
}

// === impl Speaker ===

impl Speaker {
    pub(super) async fn tell(&mut self, told: &Told) -> Result<(), ClientError> {
        Ok(line::write(&mut self.0, told).await?)
    }
}
