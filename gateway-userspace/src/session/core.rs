//! One session: bytes of the client and messages for it go in, bytes for it come out.

use std::io::IoSlice;

use bytes::Bytes;
use ringsteer_openim::dispatch::{Failure, Question, Ticket};

use super::{
    application::{Application, Reaction},
    message::Message,
    outgoing::{MAX_SLICES, Outgoing},
    suspended::Core,
    table::Farewell,
};
use crate::websocket::{
    close::{Close, CloseCode},
    decoder::{Decoder, Event, snapshot::BadSnapshot},
    encoder::Encoder,
    frame::{self, Opcode},
};

/// With this many bytes still to be written, nothing more is read or taken from the queue: a client that does not
/// listen is not listened to.
pub const WRITE_AHEAD: usize = 64 * 1024;

/// How long a session waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without a frame from the client a session ends after this long, in milliseconds.
    pub idle_ms: u64,
    /// For the goodbye: from our last word to the client's, in milliseconds.
    pub close_ms: u64,
    /// How often clients are pinged that want it, in milliseconds.
    pub ping_ms: u64,
}

/// What a session wants of others.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Ask somebody, and bring the answer to [`Session::answered`].
    Ask(Ticket, Question),
    /// Note whether the client's application is in the background.
    Background(bool),
    /// Tell the client of the status of these users, and of those no longer.
    Watch {
        /// Of whom from now on.
        more: Vec<String>,
        /// Of whom no longer.
        fewer: Vec<String>,
    },
}

/// A session. Whoever holds the socket gives it what was read ([`Session::receive`]) and what waits for the client
/// ([`Session::send`], while [`Session::wants_messages`]), writes what it has to be written, and asks it what to wait for.
///
/// Times are milliseconds of one clock, which need not be anybody's.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    application: Application,
    decoder: Decoder,
    /// Read, but there was no room for answers. Empty most of the time.
    unread: Vec<u8>,
    outgoing: Outgoing,
    stage: Stage,
    /// When the client last said something, or, when closing, when we said close.
    last_event_ms: u64,
    /// When the client was pinged last, if it wants that.
    last_ping_ms: Option<u64>,
    /// Nothing more is looked at, for the session is to be taken apart.
    halted: bool,
    /// What it wants of others; taken out as soon as it is there.
    actions: Vec<Action>,
}

/// How far a session has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Messages go both ways.
    Open,
    /// We are about to say our last words, once the session is out of the table and its queue is empty.
    Leaving(LastWords),
    /// Our close frame is in `outgoing` or sent; the client's has not come.
    CloseSent,
    /// Nothing more is expected of the client; what is in `outgoing` must still go.
    Ended(End),
}

/// What is still to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LastWords {
    /// Our close frame first.
    Close(Option<Close>),
    /// The client has said close, and is answered.
    CloseBack(Option<Close>),
    /// The client broke the protocol.
    Violation(Close),
    /// What the client sent makes no sense to the application.
    Refusal(Close),
    /// What the application says to who is kicked.
    Kicked,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides said close, or the client is gone.
    Agreed,
    /// The last word was ours; the client may still be talking.
    Cut,
}

/// The client did not take our last words in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp;

// === impl Session ===

impl Session {
    /// A session that begins at `now_ms`. `greeting` is what the client is sent first: the 101.
    pub fn new(application: Application, decoder: Decoder, greeting: &[u8], limits: Limits, now_ms: u64) -> Self {
        let mut outgoing = Outgoing::default();
        outgoing.write(|out| out.extend_from_slice(greeting));
        Self {
            limits,
            last_ping_ms: application.wants_pings().then_some(now_ms),
            application,
            decoder,
            unread: Vec::new(),
            outgoing,
            stage: Stage::Open,
            last_event_ms: now_ms,
            halted: false,
            actions: Vec::new(),
        }
    }

    /// A session that goes on where it was suspended, with messages of at most `max_message` bytes.
    ///
    /// # Errors
    /// If its websocket cannot go on here.
    pub fn resume(core: Core, max_message: usize, limits: Limits, now_ms: u64) -> Result<Self, BadSnapshot> {
        let Core { application, decoder, unread, outgoing: unsent, silent_ms, pinged_ms } = core;
        let decoder = Decoder::restore(decoder, max_message)?;
        let mut outgoing = Outgoing::default();
        outgoing.append(unsent);
        let mut session = Self {
            limits,
            last_ping_ms: application.wants_pings().then(|| now_ms.saturating_sub(pinged_ms)),
            application,
            decoder,
            unread: unread.into(),
            outgoing,
            stage: Stage::Open,
            last_event_ms: now_ms.saturating_sub(silent_ms),
            halted: false,
            actions: Vec::new(),
        };
        session.hear_unread(now_ms);
        Ok(session)
    }

    /// From now on nothing the client says is looked at, so that the session can soon be suspended.
    pub fn halt(&mut self) {
        self.halted = true;
    }

    /// Goes on after [`Session::halt`].
    pub fn unhalt(&mut self, now_ms: u64) {
        self.halted = false;
        self.hear_unread(now_ms);
    }

    /// Whether it can be suspended: it is halted, its end has not begun, and nothing that was asked on its behalf is
    /// unanswered.
    pub fn can_suspend(&self) -> bool {
        self.halted && self.stage == Stage::Open && !self.application.is_waiting() && self.actions.is_empty()
    }

    /// The session at rest.
    ///
    /// # Errors
    /// With the session, if it cannot be suspended.
    pub fn suspend(self, now_ms: u64) -> Result<Core, Box<Self>> {
        if !self.can_suspend() {
            return Err(Box::new(self));
        }
        Ok(Core {
            application: self.application,
            decoder: self.decoder.snapshot(),
            unread: self.unread.into(),
            outgoing: self.outgoing.to_bytes(),
            silent_ms: now_ms.saturating_sub(self.last_event_ms),
            pinged_ms: self.last_ping_ms.map_or(0, |last| now_ms.saturating_sub(last)),
        })
    }

    /// The client has sent these bytes.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) {
        if self.unread.is_empty() {
            let mut input = bytes;
            self.hear(&mut input, now_ms);
            self.unread = input.to_vec();
        } else {
            self.unread.extend_from_slice(bytes);
            self.hear_unread(now_ms);
        }
    }

    /// The client will say nothing more, not even close, or cannot be reached.
    pub fn client_is_gone(&mut self) {
        self.outgoing = Outgoing::default();
        self.unread = Vec::new();
        self.stage = Stage::Ended(End::Agreed);
    }

    /// Whether bytes of the client should be read: more is expected of it, and there is room for answers.
    pub fn wants_bytes(&self) -> bool {
        self.listens() && self.unread.is_empty()
    }

    /// Whether there is room for what waits for the client.
    pub fn wants_messages(&self) -> bool {
        self.stage == Stage::Open && self.outgoing.len() < WRITE_AHEAD
    }

    /// Sends the client a message. May be called until [`Session::leave`] was, even without room.
    pub fn send(&mut self, message: &Message) {
        let frame = self.application.frame(message, self.encoder());
        self.outgoing.append(frame);
    }

    /// What was asked for the client has been answered.
    pub fn answered(&mut self, ticket: Ticket, answer: Result<Bytes, Failure>, now_ms: u64) {
        let mut reactions = Vec::new();
        self.application.answer(ticket, answer, &mut reactions);
        // An answer that comes after our last words is none.
        if self.stage == Stage::Open {
            reactions.into_iter().for_each(|reaction| self.react(reaction));
            self.hear_unread(now_ms);
        }
    }

    /// Whether there is something in [`Session::actions`].
    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    /// What the session wants of others, since this was asked last.
    pub fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What the session is.
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// Ends the session from our side.
    pub fn end(&mut self, farewell: Farewell) {
        let stage = match farewell {
            Farewell::Close(close) => Stage::Leaving(LastWords::Close(Some(close))),
            Farewell::Kick => Stage::Leaving(LastWords::Kicked),
            Farewell::Replace => Stage::Ended(End::Cut),
        };
        if self.stage == Stage::Open {
            self.stage = stage;
        }
    }

    /// Whether the session is about to end: whoever holds it takes it out of the table, so that what is pushed from now
    /// on does not count as delivered, sends it what had been queued before, and calls [`Session::leave`].
    pub fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_))
    }

    /// Says the last words, and tells of which violation they are the consequence, if of one.
    pub fn leave(&mut self, now_ms: u64) -> Option<CloseCode> {
        let Stage::Leaving(words) = std::mem::replace(&mut self.stage, Stage::CloseSent) else {
            panic!("nobody is leaving");
        };
        self.last_event_ms = now_ms;
        let violated = match &words {
            LastWords::Violation(close) | LastWords::Refusal(close) => Some(close.code),
            _ => None,
        };
        match words {
            LastWords::Close(close) => self.say_close(close),
            LastWords::Refusal(close) => self.say_close(Some(close)),
            LastWords::CloseBack(close) => {
                self.say_close(close);
                self.stage = Stage::Ended(End::Agreed);
            }
            LastWords::Violation(close) => {
                self.say_close(Some(close));
                self.stage = Stage::Ended(End::Cut);
            }
            LastWords::Kicked => {
                self.stage = Stage::Ended(End::Cut);
                let mut reactions = Vec::new();
                self.application.kicked(&mut reactions);
                for reaction in reactions {
                    match reaction {
                        Reaction::Close(close) => {
                            self.say_close(Some(close));
                            self.stage = Stage::CloseSent;
                        }
                        reaction => self.react(reaction),
                    }
                }
            }
        }
        self.hear_unread(now_ms);
        violated
    }

    /// How it ended, if it has and everything is written.
    pub fn ended(&self) -> Option<End> {
        match self.stage {
            Stage::Ended(end) if self.outgoing.is_empty() => Some(end),
            _ => None,
        }
    }

    /// Bytes to be written now, for one write. Fills `slices` and returns those in use.
    pub fn to_write<'a, 's>(&'a self, slices: &'s mut [IoSlice<'a>; MAX_SLICES]) -> &'s [IoSlice<'a>] {
        self.outgoing.slices(slices)
    }

    /// Whether there are bytes to be written.
    pub fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// So many bytes have been written.
    pub fn written(&mut self, bytes: usize, now_ms: u64) {
        self.outgoing.advance(bytes);
        self.hear_unread(now_ms);
    }

    /// When to call [`Session::expire`], if nothing happens before.
    pub fn deadline_ms(&self) -> u64 {
        if !matches!(self.stage, Stage::Open | Stage::Leaving(_)) {
            return self.last_event_ms.saturating_add(self.limits.close_ms);
        }
        self.idle_until_ms().min(self.ping_at_ms())
    }

    fn idle_until_ms(&self) -> u64 {
        self.last_event_ms.saturating_add(self.limits.idle_ms)
    }

    fn ping_at_ms(&self) -> u64 {
        self.last_ping_ms.map_or(u64::MAX, |last| last.saturating_add(self.limits.ping_ms))
    }

    /// Acts on the deadline, if it has passed.
    ///
    /// # Errors
    /// If there is nothing left to wait for: the connection is to be dropped.
    pub fn expire(&mut self, now_ms: u64) -> Result<(), GivenUp> {
        if now_ms < self.deadline_ms() {
            return Ok(());
        }
        match self.stage {
            Stage::Open if now_ms < self.idle_until_ms() => {
                self.last_ping_ms = Some(now_ms);
                self.say(Opcode::Ping, b"");
                Ok(())
            }
            Stage::Open => {
                let reason = format!("no frame for {} s", self.limits.idle_ms as f64 / 1000.0);
                self.end(Farewell::Close(Close::new(CloseCode::POLICY, reason)));
                Ok(())
            }
            Stage::Leaving(_) => Ok(()),
            Stage::CloseSent | Stage::Ended(_) => Err(GivenUp),
        }
    }

    fn listens(&self) -> bool {
        match self.stage {
            Stage::Open => !self.halted && !self.application.is_waiting() && self.outgoing.len() < WRITE_AHEAD,
            Stage::CloseSent => self.outgoing.len() < WRITE_AHEAD,
            Stage::Leaving(_) | Stage::Ended(_) => false,
        }
    }

    fn hear_unread(&mut self, now_ms: u64) {
        if self.unread.is_empty() || !self.listens() {
            return;
        }
        let unread = std::mem::take(&mut self.unread);
        let mut input = &unread[..];
        self.hear(&mut input, now_ms);
        if !input.is_empty() {
            self.unread = input.to_vec();
        }
    }

    /// Takes in what the client has said, as long as there is room for answers.
    fn hear(&mut self, input: &mut &[u8], now_ms: u64) {
        while self.listens() {
            match self.decoder.next(input) {
                Ok(Some(event)) => self.answer(event, now_ms),
                Ok(None) => return,
                Err(violation) => {
                    let close = Close::new(violation.close_code(), violation.to_string());
                    self.stage = match self.stage {
                        Stage::Open => Stage::Leaving(LastWords::Violation(close)),
                        _ => Stage::Ended(End::Cut),
                    };
                }
            }
        }
    }

    fn answer(&mut self, event: Event, now_ms: u64) {
        if self.stage != Stage::Open {
            // After our close frame nothing may follow; only the client's is waited for.
            if let Event::Close(_) = event {
                self.stage = Stage::Ended(End::Agreed);
            }
            return;
        }
        self.last_event_ms = now_ms;
        match event {
            // The same code back; RFC 6455, section 5.5.1.
            Event::Close(close) => {
                let close = close.map(|close| Close::new(close.code, ""));
                self.stage = Stage::Leaving(LastWords::CloseBack(close));
            }
            Event::Message { kind, payload } => {
                let mut reactions = Vec::new();
                self.application.message(kind, payload, &mut reactions);
                for reaction in reactions {
                    self.react(reaction);
                }
            }
            Event::Ping(payload) => self.say(Opcode::Pong, &payload),
            Event::Pong(_) => {}
        }
    }

    fn react(&mut self, reaction: Reaction) {
        match reaction {
            Reaction::Send(kind, payload) => {
                let encoder = self.encoder();
                self.outgoing.write(|out| encoder.encode(kind, &payload, out));
            }
            Reaction::Close(close) => self.end(Farewell::Close(close)),
            Reaction::Refuse(close) if self.stage == Stage::Open => {
                self.stage = Stage::Leaving(LastWords::Refusal(close));
            }
            Reaction::Refuse(_) => {}
            Reaction::Ask(ticket, question) => self.actions.push(Action::Ask(ticket, question)),
            Reaction::Background(background) => self.actions.push(Action::Background(background)),
            Reaction::Watch { more, fewer } => self.actions.push(Action::Watch { more, fewer }),
        }
    }

    /// How messages to the client are put into frames.
    fn encoder(&self) -> Encoder {
        Encoder::new(self.decoder.deflate())
    }

    fn say_close(&mut self, close: Option<Close>) {
        self.say(Opcode::Close, &close.map(|close| close.payload()).unwrap_or_default());
    }

    fn say(&mut self, opcode: Opcode, payload: &[u8]) {
        self.outgoing.write(|out| frame::encode(opcode, payload, out));
    }
}

#[cfg(test)]
mod tests;
