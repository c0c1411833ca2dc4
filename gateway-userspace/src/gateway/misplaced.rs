//! Clients whose request came to a node that does not own their user. Nothing was answered yet, so they can still end up
//! where they belong, as if they had come there.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{
    Shared,
    figures::Newcomer,
    http::{Connection, Response, WholeHead},
    moving::Sessions,
    placement::{NotOurs, Ours, place},
    websocket::{self, Door},
};
use crate::session::table::SessionId;

/// Newcomers that wait for whoever moves them; who comes beyond that is answered here.
const MAX_WAITING: usize = 1024;

/// A client that has come to the wrong node. Dropping it resets the connection; whoever cannot have it moved calls
/// [`Misplaced::turn_away`].
#[derive(Debug)]
pub struct Misplaced {
    /// Its connection. All that was read from it is in `asked`, and nothing was written to it.
    pub stream: TcpStream,
    /// What it wants.
    pub asked: Asked,
}

/// What a client wants that has had no answer yet.
#[derive(Debug)]
pub struct Asked {
    /// The client; it differs from the connection's other end behind a proxy.
    client: SocketAddr,
    /// The request and whatever came with it.
    bytes: Bytes,
    user: Vec<u8>,
    door: Door,
    shared: Arc<Shared>,
    /// Who waits to hear what becomes of it; none for one that has not moved yet.
    awaited: Option<Awaited>,
}

/// The same on its way to another node.
#[derive(Debug, Serialize, Deserialize)]
pub struct Travelling {
    service: String,
    client: SocketAddr,
    user: Vec<u8>,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// What has become of a client that was let in. If it has come to nothing, nobody says so.
#[derive(Debug)]
pub enum LetIn {
    /// It is a session, under this name.
    Here(SessionId),
    /// The ring has changed just then: it belongs elsewhere now.
    Misplaced(Box<Misplaced>),
}

/// Where to say so.
pub(super) type Awaited = oneshot::Sender<LetIn>;

// === impl Misplaced ===

impl Misplaced {
    pub(super) fn new(
        connection: Connection,
        head: &WholeHead,
        door: Door,
        user: Vec<u8>,
        awaited: Option<Awaited>,
        shared: &Arc<Shared>,
    ) -> Self {
        let Connection { stream, unread, peer } = connection;
        let mut bytes = BytesMut::from(head.bytes());
        bytes.extend_from_slice(&unread);
        let asked = Asked { client: peer, bytes: bytes.freeze(), user, door, shared: Arc::clone(shared), awaited };
        Self { stream, asked }
    }

    /// Gives it to whoever moves newcomers, or answers it.
    pub(super) async fn go(mut self) {
        if let Some(awaited) = self.asked.awaited.take() {
            // Who does not wait any more moves nobody any more.
            match awaited.send(LetIn::Misplaced(Box::new(self))) {
                Err(LetIn::Misplaced(this)) => this.refuse().await,
                Ok(()) | Err(LetIn::Here(_)) => {}
            }
            return;
        }
        let mover = self.asked.shared.newcomers.get().cloned();
        match mover {
            None => self.refuse().await,
            Some(mover) => {
                if let Err(mpsc::error::TrySendError::Full(this) | mpsc::error::TrySendError::Closed(this)) =
                    mover.try_send(self)
                {
                    this.refuse().await;
                }
            }
        }
    }

    /// Has it answered with the owner's name, as whoever cannot be moved is answered. Gives it back if there is no need
    /// to: the ring that has come in the meantime makes it ours.
    pub fn turn_away(self) -> Option<Self> {
        let response = match self.place() {
            Err(not_ours) => not_ours.response(&self.asked.door.parameter),
            Ok(_) => return Some(self),
        };
        let shared = Arc::clone(&self.asked.shared);
        shared.counters.newcomer(Newcomer::TurnedAway);
        shared.tasks.spawn(self.answer(response));
        None
    }

    /// Has it answered that there is no room for it.
    pub fn put_off(self) {
        self.asked.shared.tasks.clone().spawn(self.refuse());
    }

    /// Serves it here, as if it had just come. Says what becomes of it.
    pub fn let_in(self) -> oneshot::Receiver<LetIn> {
        let Self { stream, asked: Asked { client, bytes, door, shared, .. } } = self;
        let (awaited, answer) = oneshot::channel();
        let mut connection = Connection::new(stream, client);
        connection.unread.extend_from_slice(&bytes);
        let tasks = shared.tasks.clone();
        tasks.spawn(websocket::serve_request(connection, door, Some(awaited), shared));
        answer
    }

    /// Whose it is by the present ring.
    fn place(&self) -> Result<Ours, NotOurs> {
        place(self.asked.user.clone(), self.asked.shared.published().as_deref())
    }

    async fn refuse(self) {
        let response = match self.place() {
            Err(not_ours) => not_ours.response(&self.asked.door.parameter),
            // Nobody lets it in here any more, so it has to come again.
            Ok(_) => Response::error(503, "the ring has just changed; try again").header("Retry-After", "1"),
        };
        self.answer(response).await;
    }

    async fn answer(self, response: Response) {
        let Self { stream, asked: Asked { client, shared, .. } } = self;
        shared.counters.refused(response.status());
        Connection::new(stream, client).refuse(&response, shared.limits.close_timeout).await;
    }
}

// === impl Asked ===

impl Asked {
    /// Who wants to be let in.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// What travels of it.
    pub fn travelling(&self) -> Travelling {
        let Self { client, bytes, user, door, .. } = self;
        Travelling { service: (*door.service).into(), client: *client, user: user.clone(), bytes: bytes.to_vec() }
    }

    /// It is another node's now.
    pub fn gone(self) {
        self.shared.counters.newcomer(Newcomer::Moved);
    }
}

impl Sessions {
    /// The clients that come to the wrong node from now on, for who moves them. `None` if somebody has them already.
    pub fn misplaced(&self) -> Option<mpsc::Receiver<Misplaced>> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        self.0.newcomers.set(sender).ok().map(|()| receiver)
    }

    /// What a client wants that came to another node first. `None` if the service that it came to is not served here.
    pub fn arrived(&self, travelling: Travelling) -> Option<Asked> {
        let Travelling { service, client, user, bytes } = travelling;
        let door = self.0.doors.iter().find(|door| *door.service == service)?.clone();
        let shared = Arc::clone(&self.0);
        Some(Asked { client, bytes: bytes.into(), user, door, shared, awaited: None })
    }

    /// A client that came to another node first is here now.
    pub fn newcomer_taken(&self) {
        self.0.counters.newcomer(Newcomer::Taken);
    }
}
