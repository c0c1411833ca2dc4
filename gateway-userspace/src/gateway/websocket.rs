//! One client's connection: from its request, through its session, to its end.

use std::{io, ops::ControlFlow, sync::Arc};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    http::{Connection, Response, Unreadable},
    outbox::{Next, Outbox},
    placement::place,
};
use crate::{
    session::table::SessionId,
    websocket::{
        close::{Close, CloseCode},
        decoder::{Decoder, Event, Kind},
        frame::{self, Opcode},
        handshake::Upgrade,
        request::Head,
    },
};

/// How much is read at once, in bytes.
const READ: usize = 4096;

/// With this many bytes still to be written, nothing more is read or taken from the queue: a client that does not
/// listen is not listened to.
const WRITE_AHEAD: usize = 64 * 1024;

/// Serves the connection to its end.
pub(super) async fn serve(mut connection: Connection, parameter: Arc<str>, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let head = tokio::select! {
        head = connection.head(limits.head_timeout, limits.head_timeout) => head,
        () = shared.stopping.cancelled() => return,
    };
    let placed = match &head {
        Ok(head) => judge(&head.head(), &parameter, &shared),
        Err(Unreadable::Gone) => return,
        Err(Unreadable::Refused(response)) => Err(response.clone()),
    };
    let (upgrade, user) = match placed {
        Ok(placed) => placed,
        Err(response) => {
            shared.counters.refused(response.status());
            return connection.refuse(&response, limits.close_timeout).await;
        }
    };

    let peer = connection.peer;
    let name = String::from_utf8_lossy(&user).into_owned();
    tracing::debug!("{peer}: session of {name} begins");
    match Session::new(connection, &user, &upgrade, &shared).run().await {
        Ok(ended) => {
            tracing::debug!("{peer}: session of {name} ends");
            // Who has said close will say nothing more; RFC 6455 has the server end the connection first.
            if let Ended::Cut(connection) = ended {
                connection.linger(limits.close_timeout).await;
            }
        }
        Err(error) => tracing::debug!("{peer}: session of {name} is lost: {error}"),
    }
}

/// Whether the request may become a session here, and whose.
fn judge(head: &Head<'_>, parameter: &str, shared: &Shared) -> Result<(Upgrade, Vec<u8>), Response> {
    let upgrade = Upgrade::of(head).map_err(|refusal| {
        let response = Response::error(refusal.status(), refusal);
        match refusal.header() {
            Some((name, value)) => response.header(name, value),
            None => response,
        }
    })?;
    let ours = place(head.target, parameter, shared.published().as_deref())
        .map_err(|not_ours| not_ours.response(parameter))?;
    Ok((upgrade, ours.user))
}

/// A connection that is a websocket.
struct Session<'a> {
    connection: Connection,
    shared: &'a Shared,
    decoder: Decoder,
    /// Bytes to be written, frame after frame.
    outgoing: BytesMut,
    outbox: Arc<Outbox>,
    /// The session's place in the table; none once nothing more will be sent to it.
    registration: Option<Registration<'a>>,
    stage: Stage,
    /// When the client last said something, or, when closing, when we said close.
    last_event: Instant,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Messages go both ways.
    Open,
    /// Our close frame is in `outgoing` or sent; the client's has not come.
    CloseSent,
    /// Nothing more is expected of the client; what is in `outgoing` must still go.
    Done,
    /// The same, but the client broke the protocol and may go on talking.
    Cut,
}

/// How a session ended.
enum Ended {
    /// Both sides said close, or the client is gone.
    Agreed,
    /// Our close frame answers a violation; the client may still be talking.
    Cut(Connection),
}

/// A session's place in the table, given up when dropped.
struct Registration<'a> {
    shared: &'a Shared,
    user: &'a [u8],
    id: SessionId,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.shared.sessions().remove(self.user, self.id);
    }
}

impl<'a> Session<'a> {
    /// A session whose client is about to learn of it. It is in the table first: a push made once the client is
    /// connected must find it.
    fn new(connection: Connection, user: &'a [u8], upgrade: &Upgrade, shared: &'a Shared) -> Self {
        let outbox = Arc::new(Outbox::new(connection.peer, shared.limits.queue));
        let id = shared.sessions().insert(user, Arc::clone(&outbox));
        shared.counters.opened();
        Self {
            connection,
            shared,
            decoder: Decoder::new(shared.limits.max_message),
            outgoing: BytesMut::from(&upgrade.response()[..]),
            outbox,
            registration: Some(Registration { shared, user, id }),
            stage: Stage::Open,
            last_event: Instant::now(),
        }
    }

    /// Runs the session to its end.
    ///
    /// # Errors
    /// If the connection is lost, or the client does not take our last words in time.
    async fn run(mut self) -> io::Result<Ended> {
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        loop {
            self.hear();
            self.collect();
            if self.outgoing.is_empty() {
                match self.stage {
                    Stage::Open | Stage::CloseSent => {}
                    Stage::Done => return Ok(Ended::Agreed),
                    Stage::Cut => return Ok(Ended::Cut(self.connection)),
                }
            }
            if timer.is_elapsed() || self.deadline() < timer.deadline() {
                timer.as_mut().reset(self.deadline());
            }

            let open = self.stage == Stage::Open;
            let reading = self.listens();
            let Connection { stream, unread, .. } = &mut self.connection;
            let (mut reader, mut writer) = stream.split();
            if reading {
                unread.reserve(READ);
            }
            tokio::select! {
                read = reader.read_buf(unread), if reading => {
                    if read? == 0 {
                        // The client is gone, or will at least say nothing more, not even close.
                        self.end();
                    }
                }
                written = writer.write_buf(&mut self.outgoing), if !self.outgoing.is_empty() => {
                    written?;
                }
                () = self.outbox.changed(), if open => {}
                () = self.shared.stopping.cancelled(), if open => {
                    self.close(Some(Close::new(CloseCode::GOING_AWAY, "the gateway stops")));
                }
                () = &mut timer => if self.expire().is_break() {
                    return Err(io::ErrorKind::TimedOut.into());
                },
            }
        }
    }

    /// Whether something more is expected of the client, and there is room for answers.
    fn listens(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::CloseSent) && self.outgoing.len() < WRITE_AHEAD
    }

    /// Takes in what the client has said, as long as there is room for answers.
    fn hear(&mut self) {
        while self.listens() {
            let mut input = &self.connection.unread[..];
            let before = input.len();
            let event = self.decoder.next(&mut input);
            let consumed = before - input.len();
            self.connection.unread.advance(consumed);
            match event {
                Ok(Some(event)) => self.answer(event),
                Ok(None) => return,
                Err(violation) => {
                    self.close(Some(Close::new(violation.close_code(), violation.to_string())));
                    self.stage = Stage::Cut;
                }
            }
        }
    }

    fn answer(&mut self, event: Event) {
        if self.stage == Stage::Open {
            self.last_event = Instant::now();
        }
        match event {
            Event::Close(close) => {
                // The same code back; RFC 6455, section 5.5.1.
                self.close(close.map(|close| Close::new(close.code, "")));
                self.stage = Stage::Done;
            }
            // After our close frame nothing may follow.
            _ if self.stage != Stage::Open => {}
            Event::Message { kind, payload } => self.send(opcode(kind), &payload),
            Event::Ping(payload) => self.send(Opcode::Pong, &payload),
            Event::Pong(_) => {}
        }
    }

    /// Takes what waits for the client, as long as there is room.
    fn collect(&mut self) {
        while self.stage == Stage::Open && self.outgoing.len() < WRITE_AHEAD {
            match self.outbox.next() {
                Some(Next::Message(message)) => self.send(opcode(message.kind), &message.payload),
                Some(Next::Close(close)) => self.close(Some(close)),
                None => return,
            }
        }
    }

    /// Sends our close frame, unless that was done, after everything that the session has been promised.
    fn close(&mut self, close: Option<Close>) {
        if self.stage != Stage::Open {
            return;
        }
        // Out of the table first: what is pushed from now on must not count as delivered.
        self.registration = None;
        while let Some(Next::Message(message)) = self.outbox.next() {
            self.send(opcode(message.kind), &message.payload);
        }
        self.send(Opcode::Close, &close.map(|close| close.payload()).unwrap_or_default());
        self.stage = Stage::CloseSent;
        self.last_event = Instant::now();
    }

    /// Nothing more will be said by either side.
    fn end(&mut self) {
        self.registration = None;
        self.outgoing.clear();
        self.stage = Stage::Done;
    }

    /// When the client must have said something.
    fn deadline(&self) -> Instant {
        let limits = &self.shared.limits;
        self.last_event + if self.stage == Stage::Open { limits.idle_timeout } else { limits.close_timeout }
    }

    /// Acts on a deadline, if it is still the present one; breaks if there is nothing left to wait for.
    fn expire(&mut self) -> ControlFlow<()> {
        if Instant::now() < self.deadline() {
            return ControlFlow::Continue(());
        }
        if self.stage != Stage::Open {
            return ControlFlow::Break(());
        }
        let idle = self.shared.limits.idle_timeout;
        self.close(Some(Close::new(CloseCode::POLICY, format!("no frame for {idle:?}"))));
        ControlFlow::Continue(())
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        frame::encode(opcode, payload, &mut self.outgoing);
    }
}

fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}
