//! OpenIM's `msgGateway` service, as much of it as pushing needs, under both names that it has had.

use std::sync::Arc;

use ringsteer_batch::{Status, UserResult};
use ringsteer_openim_rpc::{
    Caller, RpcError,
    msggateway::{
        GetUsersOnlineStatusReq, GetUsersOnlineStatusResp, KickUserOfflineReq, KickUserOfflineResp,
        MultiTerminalLoginCheckReq, MultiTerminalLoginCheckResp, OnlineBatchPushOneMsgReq, OnlineBatchPushOneMsgResp,
        OnlinePushMsgReq, OnlinePushMsgResp, SingleMsgToUserPlatform, SingleMsgToUserResults,
        msg_gateway_server::MsgGateway,
    },
    sdkws::MsgData,
    server::{authorization, serve_gateway},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status as RpcStatus};

use crate::{
    config::GrpcAuth,
    front::{Shared, push::Push},
    push::openim,
};

/// Most users of one call.
const MAX_USERS: usize = 100_000;

/// The service.
#[derive(Clone)]
struct Rpc(Arc<Shared>);

/// Answers calls until the front stops.
pub(in crate::front) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let stopping = shared.stopping.clone();
    let served = serve_gateway(listener, Rpc(shared), stopping.cancelled()).await;
    if let Err(error) = served {
        tracing::error!("OpenIM's services cannot call any more: {error}");
    }
}

impl Rpc {
    fn admit<T>(&self, request: &Request<T>) -> Result<Caller, RpcStatus> {
        if self.0.config.grpc_auth == GrpcAuth::Token {
            self.0.tokens.check(authorization(request)).map_err(|unauthorized| {
                self.0.counters.unauthorized();
                RpcStatus::unauthenticated(unauthorized.to_string())
            })?;
        }
        Caller::of(request)
    }

    async fn push(
        &self,
        caller: Caller,
        message: Option<MsgData>,
        users: Vec<String>,
    ) -> Result<Vec<UserResult>, RpcStatus> {
        if users.len() > MAX_USERS {
            return Err(RpcError::arguments(format!("a push is for at most {MAX_USERS} users")).into());
        }
        let message = message.ok_or_else(|| RpcError::arguments("a push brings a message"))?;
        let id = openim::id_of(&message);
        let push = Push { id, users, message: openim::message_of(message, caller.operation_id) };
        let pushing = Arc::clone(&self.0);
        let results = self.0.tasks.spawn(async move { pushing.push(push).await }).await;
        results.map_err(|_| RpcError::internal("the push failed").into())
    }
}

fn platforms(result: &UserResult) -> Vec<SingleMsgToUserPlatform> {
    let one = |result_code, platform| SingleMsgToUserPlatform {
        result_code,
        recv_id: result.user.clone(),
        recv_plat_form_id: platform,
    };
    match result.status {
        Status::Delivered => result.platforms.iter().map(|&platform| one(0, platform)).collect(),
        Status::Offline => vec![],
        Status::Unknown => vec![one(openim::NOT_DELIVERED, 0)],
    }
}

fn elsewhere<T>() -> Result<Response<T>, RpcStatus> {
    Err(RpcStatus::unimplemented("this is the front for pushes; a gateway answers that (`grpc` in `[push]`)"))
}

#[tonic::async_trait]
impl MsgGateway for Rpc {
    async fn online_push_msg(
        &self,
        request: Request<OnlinePushMsgReq>,
    ) -> Result<Response<OnlinePushMsgResp>, RpcStatus> {
        let caller = self.admit(&request)?;
        let OnlinePushMsgReq { msg_data, push_to_user_id } = request.into_inner();
        let results = self.push(caller, msg_data, vec![push_to_user_id]).await?;
        Ok(Response::new(OnlinePushMsgResp { resp: results.iter().flat_map(platforms).collect() }))
    }

    async fn online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, RpcStatus> {
        let caller = self.admit(&request)?;
        let OnlineBatchPushOneMsgReq { msg_data, push_to_user_i_ds } = request.into_inner();
        let results = self.push(caller, msg_data, push_to_user_i_ds).await?;
        let result = |result: UserResult| SingleMsgToUserResults {
            resp: platforms(&result),
            online_push: result.online_push,
            user_id: result.user,
        };
        Ok(Response::new(OnlineBatchPushOneMsgResp { single_push_result: results.into_iter().map(result).collect() }))
    }

    async fn super_group_online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, RpcStatus> {
        self.online_batch_push_one_msg(request).await
    }

    async fn get_users_online_status(
        &self,
        request: Request<GetUsersOnlineStatusReq>,
    ) -> Result<Response<GetUsersOnlineStatusResp>, RpcStatus> {
        self.admit(&request)?;
        elsewhere()
    }

    async fn kick_user_offline(
        &self,
        request: Request<KickUserOfflineReq>,
    ) -> Result<Response<KickUserOfflineResp>, RpcStatus> {
        self.admit(&request)?;
        elsewhere()
    }

    async fn multi_terminal_login_check(
        &self,
        request: Request<MultiTerminalLoginCheckReq>,
    ) -> Result<Response<MultiTerminalLoginCheckResp>, RpcStatus> {
        self.admit(&request)?;
        elsewhere()
    }
}
