//! Clients whose request came to a node that does not own their user. Nothing was answered yet, so they can still end up
//! where they belong, as if they had come there.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{net::TcpStream, sync::mpsc};

use super::{
    Shared,
    http::{Connection, WholeHead},
    moving::Sessions,
    placement::NotOurs,
    websocket::{self, Door},
};
use crate::ring::Member;

/// Newcomers that wait for whoever moves them; who comes beyond that is answered here.
const MAX_WAITING: usize = 1024;

/// A client that has come to the wrong node. Dropping it resets the connection; whoever cannot have it moved calls
/// [`Misplaced::refuse`].
#[derive(Debug)]
pub struct Misplaced {
    /// Its connection. All that the client has sent so far is in `request`.
    pub stream: TcpStream,
    /// The client; it differs from the connection's other end behind a proxy.
    pub client: SocketAddr,
    /// The name of the service that it came to.
    pub service: Arc<str>,
    /// What it has sent: the request and whatever came with it, not one byte of which has been answered.
    pub request: Bytes,
    /// Its user.
    pub user: Vec<u8>,
    /// Who owns that one.
    pub owner: Member,
    door: Door,
    shared: Arc<Shared>,
}

impl Misplaced {
    pub(super) fn new(
        connection: Connection,
        head: WholeHead,
        door: Door,
        user: Vec<u8>,
        owner: Member,
        shared: &Arc<Shared>,
    ) -> Self {
        let Connection { stream, unread, peer } = connection;
        let mut request = BytesMut::from(head.bytes());
        request.extend_from_slice(&unread);
        let (service, shared) = (Arc::clone(&door.service), Arc::clone(shared));
        Self { stream, client: peer, service, request: request.freeze(), user, owner, door, shared }
    }

    /// Gives it to whoever moves newcomers, or answers it.
    pub(super) async fn go(self) {
        let mover = self.shared.newcomers.get().cloned();
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

    /// Answers it with the owner's name, as whoever cannot be moved is answered.
    pub async fn refuse(self) {
        let Self { stream, client, user, owner, door, shared, .. } = self;
        let response = NotOurs::Foreign { user, owner }.response(&door.parameter);
        shared.counters.refused(response.status());
        Connection::new(stream, client).refuse(&response, shared.limits.close_timeout).await;
    }
}

impl Sessions {
    /// The clients that come to the wrong node from now on, for who moves them. `None` if somebody has them already.
    pub fn misplaced(&self) -> Option<mpsc::Receiver<Misplaced>> {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        self.0.newcomers.set(sender).ok().map(|()| receiver)
    }

    /// Serves a client that came to another node first, at the service of that name, and has sent these bytes. False if
    /// there is no such service here.
    pub fn admit(&self, service: &str, stream: TcpStream, client: SocketAddr, request: &[u8]) -> bool {
        let Some(door) = self.0.doors.iter().find(|door| &*door.service == service) else { return false };
        let mut connection = Connection::new(stream, client);
        connection.unread.extend_from_slice(request);
        self.0.tasks.spawn(websocket::serve(connection, door.clone(), Arc::clone(&self.0)));
        true
    }
}
