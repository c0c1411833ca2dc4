//! Clients and servers over real connections: both names, errors with their numbers, metadata.

use std::{collections::BTreeMap, future::poll_fn};

use bytes::Bytes;
use http_body_util::Full;
use ringsteer_openim_rpc::{
    Caller, ErrorCodes, Former, FormerClient, RpcError,
    msggateway::{
        GetUsersOnlineStatusReq, GetUsersOnlineStatusResp, KickUserOfflineReq, KickUserOfflineResp,
        MultiTerminalLoginCheckReq, MultiTerminalLoginCheckResp, OnlineBatchPushOneMsgReq, OnlineBatchPushOneMsgResp,
        OnlinePushMsgReq, OnlinePushMsgResp, SingleMsgToUserPlatform, SingleMsgToUserResults,
        msg_gateway_client::MsgGatewayClient,
        msg_gateway_server::{MsgGateway, MsgGatewayServer},
    },
    sdkws::MsgData,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Channel, Server},
};
use tower_service::Service as _;

/// Says who called, and delivers to everybody but `nobody`.
struct Example;

#[async_trait]
impl MsgGateway for Example {
    async fn online_push_msg(&self, _: Request<OnlinePushMsgReq>) -> Result<Response<OnlinePushMsgResp>, Status> {
        Err(RpcError::new(1603, "PushMsgErr", "the queue is full").into())
    }

    async fn get_users_online_status(
        &self,
        _: Request<GetUsersOnlineStatusReq>,
    ) -> Result<Response<GetUsersOnlineStatusResp>, Status> {
        Err(Status::unavailable("going"))
    }

    async fn online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, Status> {
        self.super_group_online_batch_push_one_msg(request).await
    }

    async fn super_group_online_batch_push_one_msg(
        &self,
        request: Request<OnlineBatchPushOneMsgReq>,
    ) -> Result<Response<OnlineBatchPushOneMsgResp>, Status> {
        let caller = Caller::of(&request)?;
        assert_eq!(caller.user_id.as_deref(), Some("张"));
        let results = request.into_inner().push_to_user_i_ds.into_iter().map(|user_id| SingleMsgToUserResults {
            resp: vec![SingleMsgToUserPlatform { result_code: 0, recv_id: user_id.clone(), recv_plat_form_id: 1 }],
            online_push: user_id != "nobody",
            user_id,
        });
        Ok(Response::new(OnlineBatchPushOneMsgResp { single_push_result: results.collect() }))
    }

    async fn kick_user_offline(&self, _: Request<KickUserOfflineReq>) -> Result<Response<KickUserOfflineResp>, Status> {
        Ok(Response::new(KickUserOfflineResp {}))
    }

    async fn multi_terminal_login_check(
        &self,
        _: Request<MultiTerminalLoginCheckReq>,
    ) -> Result<Response<MultiTerminalLoginCheckResp>, Status> {
        Ok(Response::new(MultiTerminalLoginCheckResp {}))
    }
}

async fn channel() -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = MsgGatewayServer::new(Example);
    let server = Server::builder().layer(ErrorCodes).add_service(Former(service.clone())).add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn push() -> Request<OnlineBatchPushOneMsgReq> {
    let caller = Caller { user_id: Some("张".into()), ..Caller::service("op") };
    caller.request(OnlineBatchPushOneMsgReq {
        msg_data: Some(MsgData { options: BTreeMap::from([("history".into(), true)]), ..MsgData::default() }),
        push_to_user_i_ds: vec!["alice".into(), "nobody".into()],
    })
}

#[tokio::test]
async fn a_service_answers_to_both_its_names() {
    let channel = channel().await;
    let mut now = MsgGatewayClient::new(channel.clone());
    let mut former = MsgGatewayClient::new(FormerClient(channel));
    let answer = now.super_group_online_batch_push_one_msg(push()).await.unwrap().into_inner();
    assert_eq!(answer.single_push_result.iter().map(|one| one.online_push).collect::<Vec<_>>(), [true, false]);
    assert_eq!(former.super_group_online_batch_push_one_msg(push()).await.unwrap().into_inner(), answer);
    assert_eq!(former.online_batch_push_one_msg(push()).await.unwrap().into_inner(), answer);
}

#[tokio::test]
async fn errors_keep_number_and_text() {
    let channel = channel().await;
    for answer in [
        MsgGatewayClient::new(channel.clone()).online_push_msg(OnlinePushMsgReq::default()).await,
        MsgGatewayClient::new(FormerClient(channel.clone())).online_push_msg(OnlinePushMsgReq::default()).await,
    ] {
        let error = RpcError::of(&answer.unwrap_err());
        assert_eq!(error, RpcError::new(1603, "PushMsgErr", "the queue is full"));
    }
    let mut client = MsgGatewayClient::new(channel);
    let status = client.get_users_online_status(GetUsersOnlineStatusReq::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    // Without its metadata a call is refused.
    let mut bare = push();
    bare.metadata_mut().remove("operationid");
    let status = client.online_batch_push_one_msg(bare).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn the_number_is_where_grpc_has_its_code() {
    let mut channel = channel().await;
    // An empty message in gRPC's framing, as whoever does not use tonic would send it.
    let request = http::Request::post("/openim.msggateway.msgGateway/OnlinePushMsg")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Full::new(Bytes::from_static(&[0; 5]))))
        .unwrap();
    poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = channel.call(request).await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "1603");
    assert_eq!(answer.headers()["grpc-message"], "PushMsgErr");
}
