//! A gateway or `ringsteer push`, by OpenIM's interface.

use std::time::Duration;

use ringsteer_openim_rpc::{
    Caller, RpcError,
    msggateway::{OnlineBatchPushOneMsgReq, msg_gateway_client::MsgGatewayClient},
};
use tonic::{
    async_trait,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{PushError, Pusher};
use crate::book::Push;

/// How long a connection may take to come about, and a call to be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A service that pushes.
#[derive(Clone, Debug)]
pub struct GrpcPusher {
    client: MsgGatewayClient<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
}

// === impl GrpcPusher ===

impl GrpcPusher {
    /// One at that URL, which is not dialled before the first message. It is shown `token`, if there is one. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// If that is no URL, or the token cannot stand in a header.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .connect_lazy();
        let bearer = token.map(|token| format!("Bearer {token}").parse());
        let bearer = bearer.transpose().map_err(|_| "the token has characters that no header takes".to_owned())?;
        Ok(Self { client: MsgGatewayClient::new(channel), bearer })
    }
}

#[async_trait]
impl Pusher for GrpcPusher {
    async fn push(&self, push: &Push, users: &[String]) -> Result<(), PushError> {
        let message =
            OnlineBatchPushOneMsgReq { msg_data: Some(push.message.clone()), push_to_user_i_ds: users.to_vec() };
        // The operation is the message: a second try is the same operation.
        let mut request = Caller::service(push.message.server_msg_id.clone()).request(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        let answer = self.client.clone().super_group_online_batch_push_one_msg(request).await;
        // Who was online is in the answer, and is for the one who pushes to act on.
        answer.map(|_| ()).map_err(|status| {
            let error = RpcError::of(&status);
            PushError { reason: error.to_string(), may_pass: error.may_pass() || status.code() == tonic::Code::Unknown }
        })
    }
}
