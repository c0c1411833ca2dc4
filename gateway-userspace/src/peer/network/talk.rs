//! One link on its socket, from the first byte to the last.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};

use super::{Part, Shared, Speech, Why, accept::HalfOpenPlace, why::SILENCE};
use crate::{
    peer::{
        counters::Way,
        link::{Event, Link},
    },
    ring::NodeAddress,
};

/// From the first byte until both ends have said hello.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often each end says something in any case.
///
/// How long something has taken is counted in these, and not by the clock: a process that got no time itself for a while has
/// not yet read what was said to it, and must not conclude from its own delay that others are dead.
const TICK: Duration = Duration::from_secs(1);

/// How much is read at once, in bytes.
const READ: usize = 64 << 10;

/// With this many bytes still to be written nothing more is taken from those who have something to say: they wait, and
/// whatever is more urgent overtakes them.
const WRITE_AHEAD: usize = 128 << 10;

/// How a link ended.
pub(super) struct Ended {
    /// Whether it ever came up.
    pub(super) opened: bool,
    /// Why.
    pub(super) why: Why,
}

/// Runs a link to its end. `half_open` is given up once the handshake is done.
pub(super) async fn run<S: Speech>(
    mut stream: TcpStream,
    link: Link,
    peer: NodeAddress,
    way: Way,
    shared: &Arc<Shared<S>>,
    half_open: Option<HalfOpenPlace>,
) -> Ended {
    let mut talk = Talk { link, peer, way, shared, half_open, part: None };
    // Messages are small and somebody waits for each.
    let why = match stream.set_nodelay(true) {
        Ok(()) => talk.run(&mut stream).await,
        Err(error) => Why::Io(error),
    };
    shared.counters.failed(way, why.reason());
    Ended { opened: talk.part.is_some(), why }
}

struct Talk<'a, S: Speech> {
    link: Link,
    peer: NodeAddress,
    way: Way,
    shared: &'a Arc<Shared<S>>,
    half_open: Option<HalfOpenPlace>,
    /// What is said here, once the link is open.
    part: Option<S::Part>,
}

impl<S: Speech> Talk<'_, S> {
    async fn run(&mut self, stream: &mut TcpStream) -> Why {
        let (mut view, mut keys) = (self.shared.view.clone(), self.shared.keys.clone());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Ticks since the first byte, since something was heard, and since something could be written.
        let (mut age, mut unheard, mut unwritten) = (0, 0, 0);
        let mut input = BytesMut::new();
        let mut events = Vec::new();
        let (mut reader, mut writer) = stream.split();
        loop {
            let open = self.link.is_open();
            if self.link.output().is_empty() {
                unwritten = 0;
            }
            let room = self.link.output().len() < WRITE_AHEAD;
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
                    unheard = 0;
                    for event in events.drain(..) {
                        if let Err(why) = self.hear(event).await {
                            return why;
                        }
                    }
                }
                written = writer.write_buf(self.link.output()), if !self.link.output().is_empty() => {
                    if let Err(error) = written {
                        return Why::Io(error);
                    }
                    unwritten = 0;
                }
                _ = ticks.tick() => {
                    for count in [&mut age, &mut unheard, &mut unwritten] {
                        *count += 1;
                    }
                    if !open && TICK * age > HANDSHAKE_TIMEOUT {
                        return Why::Slow;
                    }
                    if TICK * unheard > SILENCE {
                        return Why::Silent;
                    }
                    if TICK * unwritten > SILENCE {
                        return Why::Behind;
                    }
                    self.tick();
                }
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
                said = next(&mut self.part), if room => {
                    let mut said = Some(said);
                    // What others have to say, too, goes out with it.
                    while let Some(message) = said {
                        match message {
                            Ok(message) => self.say(&message),
                            Err(why) => return why,
                        }
                        let room = self.link.output().len() < WRITE_AHEAD;
                        said = if room { next(&mut self.part).now_or_never() } else { None };
                    }
                }
            }
        }
    }

    /// Acts on what the other end said.
    async fn hear(&mut self, event: Event) -> Result<(), Why> {
        match event {
            Event::Open(hello) => {
                self.half_open = None;
                self.shared.counters.opened();
                self.part = Some(S::open(self.shared, self.peer, self.way, hello).await?);
                self.tick();
                Ok(())
            }
            // The link is open before it passes on a message.
            Event::Message(message) => match &mut self.part {
                Some(part) => part.hear(message).await,
                None => Err(Why::Order),
            },
        }
    }

    fn tick(&mut self) {
        if let Some(part) = &mut self.part {
            let message = part.tick();
            self.say(&message);
        }
    }

    fn say(&mut self, message: &[u8]) {
        if let Err(error) = self.link.send(message) {
            tracing::warn!("link with {}: cannot say something: {error}", self.peer);
        }
    }
}

/// The next thing to say, once the link is open.
async fn next(part: &mut Option<impl Part>) -> Result<Vec<u8>, Why> {
    match part {
        Some(part) => part.next().await,
        None => std::future::pending().await,
    }
}
