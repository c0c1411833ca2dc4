//! The message service, asked for clients over gRPC: the one of ours or OpenIM's own.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use ringsteer_openim::{
    dispatch::{Failure, Question},
    error::{ApiError, Code},
};
use ringsteer_openim_rpc::{Caller, RpcError, msg::msg_client::MsgClient};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::config;

/// The service, if there is one.
#[derive(Debug)]
pub(super) struct MessageService {
    client: Option<MsgClient<Channel>>,
    /// What the service wants to see.
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    /// Questions that may still be asked at this moment.
    room: Semaphore,
}

// === impl MessageService ===

impl MessageService {
    /// The service as configured; it is dialled when it is asked first.
    pub(super) fn new(config: &config::OpenIm, token: Option<String>) -> Self {
        let client =
            config.msg_service.as_ref().and_then(|url| Endpoint::from_shared(url.clone()).ok()).map(|endpoint| {
                let endpoint = endpoint.connect_timeout(config.msg_timeout).tcp_nodelay(true);
                MsgClient::new(endpoint.connect_lazy())
            });
        let token = token.and_then(|token| format!("Bearer {token}").parse().ok());
        Self { client, token, timeout: config.msg_timeout, room: Semaphore::new(config.msg_in_flight) }
    }

    /// The answer to a question, as it goes to the client.
    pub(super) async fn ask(&self, caller: &Caller, question: Question) -> Result<Bytes, Failure> {
        let Some(client) = self.client.clone() else { return Err(failure("there is no message service")) };
        // Whoever waits here would wait for a service that does not keep up.
        let Ok(_place) = self.room.try_acquire() else { return Err(failure("too much is asked at once")) };
        let answer = match timeout(self.timeout, self.call(client, caller, question)).await {
            Ok(answer) => answer.map_err(|status| RpcError::of(&status)),
            Err(_) => Err(RpcError::internal(format!("no answer within {:?}", self.timeout))),
        };
        answer.map_err(|error| {
            tracing::debug!("the message service: {error}");
            // gRPC's own numbers mean nothing to clients.
            let code = if error.code < Code::ServerInternal as i32 { Code::ServerInternal as i32 } else { error.code };
            Failure { code: code.into(), message: error.to_string() }
        })
    }

    async fn call(&self, mut client: MsgClient<Channel>, caller: &Caller, question: Question) -> Result<Bytes, Status> {
        Ok(match question {
            Question::NewestSeqs(request) => bytes(client.get_max_seq(self.request(caller, request)).await?),
            Question::PullByRanges(request) => bytes(client.pull_message_by_seqs(self.request(caller, request)).await?),
            Question::Send(request) => bytes(client.send_msg(self.request(caller, *request)).await?),
            Question::PullBySeqs(request) => bytes(client.get_seq_message(self.request(caller, request)).await?),
            Question::ReadAndNewestSeqs(request) => {
                bytes(client.get_conversations_has_read_and_max_seq(self.request(caller, request)).await?)
            }
            Question::LastMessages(request) => bytes(client.get_last_message(self.request(caller, request)).await?),
            Question::OnlineStatus(_) => return Err(Status::unimplemented("the gateway knows that itself")),
        })
    }

    fn request<T>(&self, caller: &Caller, message: T) -> Request<T> {
        let mut request = caller.request(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

/// Something that the client cannot help.
pub(super) fn failure(why: &str) -> Failure {
    ApiError::new(Code::ServerInternal, why).into()
}

fn bytes<T: Message>(response: Response<T>) -> Bytes {
    response.into_inner().encode_to_vec().into()
}
