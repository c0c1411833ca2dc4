//! One link on its socket, from the first byte to the last.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Heard, Shared,
    accept::HalfOpenPlace,
    clock_ms,
    open::{Asked, OpenPlace},
};
use crate::{
    peer::{
        agreement::LinkStatus,
        counters::Way,
        link::{Event, Link, LinkError},
        message::{Answer, Message, Question},
    },
    ring::NodeAddress,
};

/// From the first byte until both ends have said hello.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often each end tells its state. This also keeps the link alive, and shows that it is.
const STATE_INTERVAL: Duration = Duration::from_secs(1);

/// Without a word for this long a link is over.
const SILENCE: Duration = Duration::from_secs(5);

/// How much is read at once, in bytes.
const READ: usize = 16 << 10;

/// With this many bytes still to be written the other end has stopped reading.
const MAX_BEHIND: usize = 4 << 20;

/// Questions of the other end that are being answered at once.
const QUESTIONS_AT_ONCE: usize = 64;

/// How a link ended.
pub(super) struct Ended {
    /// Whether it ever came up.
    pub(super) opened: bool,
    /// Why.
    pub(super) why: Why,
}

/// Why a link ended.
#[derive(Debug)]
pub(super) enum Why {
    /// The other end does not keep to the protocol.
    Link(LinkError),
    /// The connection broke.
    Io(io::Error),
    /// The other end closed it.
    HungUp {
        /// Whether it had come up.
        opened: bool,
    },
    /// The handshake took too long.
    Slow,
    /// Nothing was heard.
    Silent,
    /// It does not read what it is sent.
    Behind,
    /// It asks more than it waits for.
    Greedy,
    /// Our ring does not have it any more.
    NoMember,
    /// Its key is not valid any more.
    OldKey,
    /// It has made another link.
    Replaced,
}

/// Runs a link to its end. `half_open` is given up once the handshake is done.
pub(super) async fn run(
    mut stream: TcpStream,
    link: Link,
    peer: NodeAddress,
    way: Way,
    shared: &Arc<Shared>,
    half_open: Option<HalfOpenPlace>,
) -> Ended {
    let mut talk = Talk {
        link,
        peer,
        way,
        shared,
        half_open,
        open: None,
        waiting: BTreeMap::new(),
        last_question: 0,
        answers: FuturesUnordered::new(),
    };
    // Messages are small and somebody waits for each.
    let why = match stream.set_nodelay(true) {
        Ok(()) => talk.run(&mut stream).await,
        Err(error) => Why::Io(error),
    };
    shared.counters.failed(way, why.reason());
    Ended { opened: talk.open.is_some(), why }
}

type Answering = futures_util::future::BoxFuture<'static, (u64, Answer)>;

struct Talk<'a> {
    link: Link,
    peer: NodeAddress,
    way: Way,
    shared: &'a Arc<Shared>,
    half_open: Option<HalfOpenPlace>,
    /// Our place among the open links, and what we are to ask.
    open: Option<(OpenPlace<'a>, mpsc::Receiver<Asked>)>,
    /// Who waits for the answers to our questions.
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    last_question: u64,
    /// The other end's questions.
    answers: FuturesUnordered<Answering>,
}

impl Talk<'_> {
    async fn run(&mut self, stream: &mut TcpStream) -> Why {
        let (mut view, mut keys) = (self.shared.view.clone(), self.shared.keys.clone());
        let mut rings = self.shared.rings.clone();
        let mut ticks = interval(STATE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let began = Instant::now();
        let mut last_word = began;
        let mut input = BytesMut::new();
        let mut events = Vec::new();
        let (mut reader, mut writer) = stream.split();
        loop {
            let open = self.link.is_open();
            if self.link.output().len() > MAX_BEHIND {
                return Why::Behind;
            }
            input.reserve(READ);
            tokio::select! {
                read = reader.read_buf(&mut input) => {
                    match read {
                        Ok(0) => return Why::HungUp { opened: open },
                        Ok(_) => {}
                        Err(error) => return Why::Io(error),
                    }
                    if let Err(error) = self.link.receive(&input.split(), &mut events) {
                        return Why::Link(error);
                    }
                    for event in events.drain(..) {
                        last_word = Instant::now();
                        if let Err(why) = self.hear(event).await {
                            return why;
                        }
                    }
                }
                written = writer.write_buf(self.link.output()), if !self.link.output().is_empty() => {
                    if let Err(error) = written {
                        return Why::Io(error);
                    }
                }
                _ = ticks.tick() => {
                    if !open && began.elapsed() > HANDSHAKE_TIMEOUT {
                        return Why::Slow;
                    }
                    if last_word.elapsed() > SILENCE {
                        return Why::Silent;
                    }
                    self.tell_state();
                }
                Ok(()) = rings.changed() => self.tell_state(),
                Ok(()) = view.changed() => {
                    let view = view.borrow_and_update();
                    let known = match self.way {
                        Way::Out => view.others.contains(&self.peer),
                        Way::In => view.may_dial(self.peer),
                    };
                    if !known {
                        return Why::NoMember;
                    }
                }
                Ok(()) = keys.changed() => {
                    let keys = keys.borrow_and_update();
                    if self.link.key().is_some_and(|used| !keys.iter().any(|key| key == used)) {
                        return Why::OldKey;
                    }
                }
                asked = next_question(&mut self.open) => match asked {
                    Some(asked) => self.ask(asked),
                    None => return Why::Replaced,
                },
                Some((number, answer)) = self.answers.next() => self.say(&Message::Answer(number, answer)),
            }
        }
    }

    /// Acts on what the other end said.
    async fn hear(&mut self, event: Event) -> Result<(), Why> {
        let shared = self.shared;
        match event {
            Event::Open(hello) => {
                self.half_open = None;
                self.open = Some(shared.open.enter(self.peer, self.way));
                shared.counters.opened();
                shared.tell(Heard::Greeting(self.peer, hello)).await;
                if self.way == Way::Out {
                    shared.tell(Heard::Link(self.peer, LinkStatus { up: true, error: None })).await;
                }
                self.tell_state();
            }
            Event::Message(message) => {
                shared.counters.message(!matches!(message, Message::Unknown(_)));
                match message {
                    Message::State(state) => shared.tell(Heard::State(self.peer, state, clock_ms())).await,
                    Message::Question(number, question) => self.answer(number, question)?,
                    Message::Answer(number, answer) => {
                        if let Some(waiting) = self.waiting.remove(&number) {
                            // Whoever asked may have gone away.
                            let _ = waiting.send(answer);
                        }
                    }
                    // A newer version says something that we do not understand. The link sees to it that hello comes
                    // once.
                    Message::Unknown(_) | Message::Hello(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Has the desk answer.
    fn answer(&mut self, number: u64, question: Question) -> Result<(), Why> {
        if self.answers.len() >= QUESTIONS_AT_ONCE {
            return Err(Why::Greedy);
        }
        let answer = self.shared.desk.answer(question);
        self.answers.push(Box::pin(async move { (number, answer.await) }));
        Ok(())
    }

    fn ask(&mut self, Asked { question, answer }: Asked) {
        self.last_question += 1;
        // Whoever asked and went away is forgotten here.
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        self.waiting.insert(self.last_question, answer);
        self.say(&Message::Question(self.last_question, question));
    }

    fn tell_state(&mut self) {
        if self.link.is_open() {
            let rings = *self.shared.rings.borrow();
            self.say(&Message::State(self.shared.state(rings)));
        }
    }

    fn say(&mut self, message: &Message) {
        if let Err(error) = self.link.send(message) {
            tracing::warn!("link with {}: cannot say something: {error}", self.peer);
        }
    }
}

/// The next thing to ask; `None` once another link has taken our place.
async fn next_question(open: &mut Option<(OpenPlace<'_>, mpsc::Receiver<Asked>)>) -> Option<Asked> {
    match open {
        Some((_, questions)) => questions.recv().await,
        None => std::future::pending().await,
    }
}

// === impl Why ===

impl Why {
    /// As metrics call it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Link(error) => error.reason(),
            Self::Io(_) => "broken",
            Self::HungUp { opened: true } => "hung_up",
            Self::HungUp { opened: false } => "refused",
            Self::Slow => "slow_handshake",
            Self::Silent => "silent",
            Self::Behind => "not_reading",
            Self::Greedy => "too_many_questions",
            Self::NoMember => "left_the_ring",
            Self::OldKey => "old_secret",
            Self::Replaced => "replaced",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::HungUp { opened: true } => f.write_str("it closed the link"),
            Self::HungUp { opened: false } => f.write_str(
                "it hung up on us: its ring does not have this node at this address, or its secret is another; compare \
                 rings and secrets of both nodes",
            ),
            Self::Slow => f.write_str("the handshake took too long"),
            Self::Silent => write!(f, "nothing was heard for {SILENCE:?}"),
            Self::Behind => f.write_str("it does not read what it is sent"),
            Self::Greedy => f.write_str("it asks more than we can answer"),
            Self::NoMember => f.write_str("it is no member any more"),
            Self::OldKey => f.write_str("its secret is not valid any more"),
            Self::Replaced => f.write_str("it has made another link"),
        }
    }
}
