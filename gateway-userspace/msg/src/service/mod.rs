//! gRPC around book, storage and writer.
//!
//! | file | subject |
//! |---|---|
//! | `messages` | OpenIM's message service |
//! | `groups` | who is in which group |
//! | `receipts` | telling others how far somebody has read |
//!
//! A call that a gateway makes for a client's session may ask for what is that client's only.

mod groups;
mod messages;
mod receipts;

use std::{collections::BTreeSet, sync::Arc};

use ringsteer_openim_rpc::{Former, groups::groups_server::GroupsServer, msg::msg_server::MsgServer, server::server};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status};

use crate::{
    book::{Limits, Reader, Refusal},
    store::{Moment, Store},
    writer::{Command, Outcome, Writer},
};

/// Calls that one connection may have open.
const MAX_STREAMS: u32 = 4096;

/// Largest answer, in bytes: a page of messages, or the numbers of very many conversations.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The message service.
#[derive(Clone)]
pub struct Service {
    store: Store,
    writer: Writer,
    limits: Limits,
    /// What every call has to show, if anything.
    token: Option<Arc<str>>,
}

// === impl Service ===

impl Service {
    /// A service that reads from `store` and writes by `writer`. Calls have to bring `token` as a bearer, if there is
    /// one.
    pub fn new(store: Store, writer: Writer, limits: Limits, token: Option<&str>) -> Self {
        Self { store, writer, limits, token: token.map(Arc::from) }
    }

    /// Answers calls until `stop` is, and then those that have begun.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        let messages = MsgServer::new(self.clone()).max_encoding_message_size(MAX_ANSWER_BYTES);
        server(MAX_STREAMS)
            .add_service(Former(messages.clone()))
            .add_service(messages)
            .add_service(GroupsServer::new(self))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop)
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(Reader<Moment>) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Status> {
        let reader = Reader::new(self.store.now(), self.limits);
        // The disk may have to be asked.
        let answer = tokio::task::spawn_blocking(move || question(reader)).await;
        Ok(answer.map_err(|_| Refusal::Stopping)??)
    }

    async fn write(&self, command: Command) -> Result<Outcome, Status> {
        Ok(self.writer.carry_out(command).await?)
    }

    /// Refuses a call that does not show the token.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(token) = &self.token else { return Ok(()) };
        let shown = request.metadata().get("authorization").and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if shown.is_some_and(|shown| equal(shown, token.as_bytes())) {
            return Ok(());
        }
        Err(Status::unauthenticated("the call needs the message service's token: authorization: Bearer …"))
    }
}

/// Whether two secrets are equal, in a time that does not tell where they differ.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// As sets, for changes of members.
fn set(users: Vec<String>) -> BTreeSet<String> {
    users.into_iter().collect()
}
