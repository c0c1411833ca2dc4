//! OpenIM's `msgGateway` service, under both names that it has had. Any node takes any call: pushes go to their users
//! wherever those are.
//!
//! OpenIM's own services show no token. Where they are to call, `grpc_auth = "none"` says that something else keeps
//! strangers away.

use std::sync::Arc;

use ringsteer_openim_rpc::{
    Caller, RpcError,
    msggateway::{
        GetUsersOnlineStatusReq, GetUsersOnlineStatusResp, KickUserOfflineReq, KickUserOfflineResp,
        MultiTerminalLoginCheckReq, MultiTerminalLoginCheckResp, OnlineBatchPushOneMsgReq, OnlineBatchPushOneMsgResp,
        OnlinePushMsgReq, OnlinePushMsgResp, SingleMsgToUserPlatform, SingleMsgToUserResults,
        get_users_online_status_resp::{FailedDetail, SuccessDetail, SuccessResult},
        msg_gateway_server::MsgGateway,
    },
    sdkws::MsgData,
    server::{authorization, serve_gateway},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::Push;
use crate::{
    gateway::Shared,
    push::{
        Outcome, openim,
        round::{MAX_HOPS, Wanted},
    },
};

/// Most users of one call.
const MAX_USERS: usize = 10_000;

/// As OpenIM calls somebody who is there, and somebody who is not.
const ONLINE: i32 = 1;
const OFFLINE: i32 = 0;

/// The service.
#[derive(Clone)]
struct Rpc(Arc<Shared>);

/// Answers calls until the gateway stops.
pub(in crate::gateway) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let stopping = shared.stopping.clone();
    let served = serve_gateway(listener, Rpc(shared), stopping.cancelled()).await;
    if let Err(error) = served {
        tracing::error!("OpenIM's services cannot call any more: {error}");
    }
}

impl Rpc {
    /// Who calls, if they may.
    fn admit<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let pushes = &self.0.pushes;
        if pushes.config.grpc_auth == crate::config::GrpcAuth::Token {
            pushes.authorize(authorization(request)).map_err(|unauthorized| {
                self.0.counters.push_unauthorized();
                Status::unauthenticated(unauthorized.to_string())
            })?;
        }
        Caller::of(request)
    }

    /// Pushes a message to users; what became of it, user by user.
    async fn push(&self, caller: Caller, message: Option<MsgData>, users: &[String]) -> Result<Vec<Outcome>, Status> {
        if users.len() > MAX_USERS {
            return Err(RpcError::arguments(format!("a push is for at most {MAX_USERS} users")).into());
        }
        let message = message.ok_or_else(|| RpcError::arguments("a push brings a message"))?;
        let pushes = &self.0.pushes;
        let push = Push {
            id: openim::id_of(&message),
            users: users.iter().map(|user| Wanted { user: user.clone().into_bytes(), except: vec![] }).collect(),
            message: openim::message_of(message, caller.operation_id),
            via: vec![],
            hops: MAX_HOPS,
            patience: pushes.config.deadline,
        };
        Ok(self.0.push(push).outcomes().await)
    }
}

/// What became of it on each platform.
fn platforms(user: &str, outcome: &Outcome) -> Vec<SingleMsgToUserPlatform> {
    let one = |result_code, platform| SingleMsgToUserPlatform {
        result_code,
        recv_id: user.to_owned(),
        recv_plat_form_id: platform,
    };
    match outcome {
        Outcome::Delivered(reached) => reached.iter().map(|reached| one(0, reached.platform)).collect(),
        Outcome::Offline => vec![],
        // Nobody knows whether the user is there. That much is said, and that no phone was reached.
        Outcome::Unknown => vec![one(openim::NOT_DELIVERED, 0)],
    }
}

#[tonic::async_trait]
impl MsgGateway for Rpc {
    async fn online_push_msg(&self, request: Request<OnlinePushMsgReq>) -> Result<Response<OnlinePushMsgResp>, Status> {
        let caller = self.admit(&request)?;
        let OnlinePushMsgReq { msg_data, push_to_user_id } = request.into_inner();
        let users = [push_to_user_id];
        let outcomes = self.push(caller, msg_data, &users).await?;
        let resp = users.iter().zip(&outcomes).flat_map(|(user, outcome)| platforms(user, outcome)).collect();
        Ok(Response::new(OnlinePushMsgResp { resp }))
    }

    async fn online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, Status> {
        let caller = self.admit(&request)?;
        let OnlineBatchPushOneMsgReq { msg_data, push_to_user_i_ds } = request.into_inner();
        let outcomes = self.push(caller, msg_data, &push_to_user_i_ds).await?;
        let rule = self.0.pushes.config.online;
        let result = |(user, outcome): (String, &Outcome)| SingleMsgToUserResults {
            resp: platforms(&user, outcome),
            online_push: rule.is_online(outcome),
            user_id: user,
        };
        let single_push_result = push_to_user_i_ds.into_iter().zip(&outcomes).map(result).collect();
        Ok(Response::new(OnlineBatchPushOneMsgResp { single_push_result }))
    }

    async fn super_group_online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, Status> {
        self.online_batch_push_one_msg(request).await
    }

    async fn get_users_online_status(
        &self,
        request: Request<GetUsersOnlineStatusReq>,
    ) -> Result<Response<GetUsersOnlineStatusResp>, Status> {
        self.admit(&request)?;
        let users = request.into_inner().user_i_ds;
        if users.len() > MAX_USERS {
            return Err(RpcError::arguments(format!("a question is about at most {MAX_USERS} users")).into());
        }
        let mut answer = GetUsersOnlineStatusResp::default();
        let found = self.0.online(users.iter().map(|user| user.clone().into_bytes()).collect()).await;
        for (user_id, cards) in users.into_iter().zip(found) {
            let Some(cards) = cards else {
                answer.failed_result.push(FailedDetail { user_id });
                continue;
            };
            let detail = |card: super::ask::Terminal| SuccessDetail {
                platform_id: card.platform,
                conn_id: card.connection,
                is_background: card.background,
                token: card.token,
            };
            let status = if cards.is_empty() { OFFLINE } else { ONLINE };
            let detail_platform_status = cards.into_iter().map(detail).collect();
            answer.success_result.push(SuccessResult { user_id, status, detail_platform_status });
        }
        Ok(Response::new(answer))
    }

    async fn kick_user_offline(
        &self,
        request: Request<KickUserOfflineReq>,
    ) -> Result<Response<KickUserOfflineResp>, Status> {
        self.admit(&request)?;
        let KickUserOfflineReq { platform_id, kick_user_id_list } = request.into_inner();
        if kick_user_id_list.len() > MAX_USERS {
            return Err(RpcError::arguments(format!("at most {MAX_USERS} users are kicked at once")).into());
        }
        let users = kick_user_id_list.into_iter().map(String::into_bytes).collect();
        if self.0.kick(users, platform_id).await {
            Ok(Response::new(KickUserOfflineResp {}))
        } else {
            Err(RpcError::internal("a node that may have sessions of these users did not answer").into())
        }
    }

    async fn multi_terminal_login_check(
        &self,
        request: Request<MultiTerminalLoginCheckReq>,
    ) -> Result<Response<MultiTerminalLoginCheckResp>, Status> {
        self.admit(&request)?;
        let MultiTerminalLoginCheckReq { user_id, platform_id, token } = request.into_inner();
        if self.0.login_elsewhere(user_id.into_bytes(), platform_id, token).await {
            Ok(Response::new(MultiTerminalLoginCheckResp {}))
        } else {
            Err(RpcError::internal("a node that may have sessions of this user did not answer").into())
        }
    }
}
