//! OpenIM's message service.

use std::time::{SystemTime, UNIX_EPOCH};

use ringsteer_openim_rpc::{
    Caller, RpcError,
    msg::{
        GetConversationMaxSeqReq, GetConversationMaxSeqResp, GetConversationsHasReadAndMaxSeqReq,
        GetConversationsHasReadAndMaxSeqResp, GetHasReadSeqsReq, GetLastMessageReq, GetLastMessageResp, GetMaxSeqsReq,
        GetSeqMessageReq, GetSeqMessageResp, GetServerTimeReq, GetServerTimeResp, MarkConversationAsReadReq,
        MarkConversationAsReadResp, MarkMsgsAsReadReq, MarkMsgsAsReadResp, SendMsgReq, SendMsgResp, SeqsInfoResp,
        SetConversationHasReadSeqReq, SetConversationHasReadSeqResp, SetUserConversationMaxSeqReq,
        SetUserConversationMaxSeqResp, SetUserConversationMinSeqReq, SetUserConversationMinSeqResp,
        SetUserConversationsMinSeqReq, SetUserConversationsMinSeqResp, msg_server::Msg,
    },
    sdkws::{GetMaxSeqReq, GetMaxSeqResp, PullMessageBySeqsReq, PullMessageBySeqsResp},
};
use tonic::{Request, Response, Status, async_trait};

use super::Service;
use crate::{
    book::Refusal,
    writer::{Command, Outcome},
};

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl Msg for Service {
    async fn get_max_seq(&self, request: Request<GetMaxSeqReq>) -> Answer<GetMaxSeqResp> {
        let GetMaxSeqReq { user_id } = self.asked_by(request, |asked| &asked.user_id)?;
        self.read(move |book| book.newest(&user_id)).await.map(Response::new)
    }

    async fn get_max_seqs(&self, request: Request<GetMaxSeqsReq>) -> Answer<SeqsInfoResp> {
        let GetMaxSeqsReq { conversation_i_ds } = self.asked_by_service(request)?;
        let max_seqs = self.read(move |book| book.newest_of(&conversation_i_ds)).await?;
        Ok(Response::new(SeqsInfoResp { max_seqs }))
    }

    async fn get_has_read_seqs(&self, request: Request<GetHasReadSeqsReq>) -> Answer<SeqsInfoResp> {
        let GetHasReadSeqsReq { user_id, conversation_i_ds } = self.asked_by(request, |asked| &asked.user_id)?;
        let max_seqs = self.read(move |book| book.has_read(&user_id, &conversation_i_ds)).await?;
        Ok(Response::new(SeqsInfoResp { max_seqs }))
    }

    async fn get_conversation_max_seq(
        &self,
        request: Request<GetConversationMaxSeqReq>,
    ) -> Answer<GetConversationMaxSeqResp> {
        let GetConversationMaxSeqReq { conversation_id } = self.asked_by_service(request)?;
        let newest = self.read(move |book| book.newest_of(&[conversation_id])).await?;
        Ok(Response::new(GetConversationMaxSeqResp { max_seq: newest.into_values().next().unwrap_or(0) }))
    }

    async fn pull_message_by_seqs(&self, request: Request<PullMessageBySeqsReq>) -> Answer<PullMessageBySeqsResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        self.read(move |book| book.pull(&asked.user_id, &asked.seq_ranges, asked.order())).await.map(Response::new)
    }

    async fn get_seq_message(&self, request: Request<GetSeqMessageReq>) -> Answer<GetSeqMessageResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        self.read(move |book| book.by_seqs(&asked.user_id, &asked.conversations, asked.order()))
            .await
            .map(Response::new)
    }

    async fn send_msg(&self, request: Request<SendMsgReq>) -> Answer<SendMsgResp> {
        let caller = self.caller(&request)?;
        let Some(message) = request.into_inner().msg_data else {
            return Err(RpcError::arguments("there is no message in it").into());
        };
        caller.may_act_for(&message.send_id)?;
        let by_service = caller.user_id.is_none();
        match self.write(Command::Send { message: Box::new(message), by_service }).await? {
            Outcome::Accepted(accepted) => Ok(Response::new(SendMsgResp {
                server_msg_id: accepted.server_msg_id,
                client_msg_id: accepted.client_msg_id,
                send_time: accepted.send_time_ms,
                modify: None,
            })),
            _ => Err(odd()),
        }
    }

    async fn mark_msgs_as_read(&self, request: Request<MarkMsgsAsReadReq>) -> Answer<MarkMsgsAsReadResp> {
        let MarkMsgsAsReadReq { conversation_id, seqs, user_id } = self.asked_by(request, |asked| &asked.user_id)?;
        let Some(last) = seqs.iter().copied().max() else {
            return Err(RpcError::arguments("no message is named").into());
        };
        self.mark(user_id, conversation_id, last, seqs).await?;
        Ok(Response::new(MarkMsgsAsReadResp {}))
    }

    async fn mark_conversation_as_read(
        &self,
        request: Request<MarkConversationAsReadReq>,
    ) -> Answer<MarkConversationAsReadResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        self.mark(asked.user_id, asked.conversation_id, asked.has_read_seq, asked.seqs).await?;
        Ok(Response::new(MarkConversationAsReadResp {}))
    }

    async fn set_conversation_has_read_seq(
        &self,
        request: Request<SetConversationHasReadSeqReq>,
    ) -> Answer<SetConversationHasReadSeqResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        let SetConversationHasReadSeqReq { conversation_id, user_id, has_read_seq, no_notification } = asked;
        let (user, conversation) = (user_id.clone(), conversation_id.clone());
        self.write(Command::SetRead { user, conversation, seq: has_read_seq }).await?;
        if !no_notification {
            self.tell_read(&user_id, &conversation_id, &[], has_read_seq, false).await;
        }
        Ok(Response::new(SetConversationHasReadSeqResp {}))
    }

    async fn get_conversations_has_read_and_max_seq(
        &self,
        request: Request<GetConversationsHasReadAndMaxSeqReq>,
    ) -> Answer<GetConversationsHasReadAndMaxSeqResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        self.read(move |book| book.has_read_and_newest(&asked.user_id, &asked.conversation_i_ds))
            .await
            .map(Response::new)
    }

    async fn get_server_time(&self, request: Request<GetServerTimeReq>) -> Answer<GetServerTimeResp> {
        self.caller(&request)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Response::new(GetServerTimeResp { server_time: since.as_millis().try_into().unwrap_or(i64::MAX) }))
    }

    async fn get_last_message(&self, request: Request<GetLastMessageReq>) -> Answer<GetLastMessageResp> {
        let asked = self.asked_by(request, |asked| &asked.user_id)?;
        self.read(move |book| book.last_messages(&asked.user_id, &asked.conversation_i_ds)).await.map(Response::new)
    }

    async fn set_user_conversations_min_seq(
        &self,
        request: Request<SetUserConversationsMinSeqReq>,
    ) -> Answer<SetUserConversationsMinSeqResp> {
        let asked = self.asked_by_service(request)?;
        let SetUserConversationsMinSeqReq { user_i_ds: users, conversation_id: conversation, seq } = asked;
        self.write(Command::SetFirst { users, conversation, seq }).await?;
        Ok(Response::new(SetUserConversationsMinSeqResp {}))
    }

    async fn set_user_conversation_max_seq(
        &self,
        request: Request<SetUserConversationMaxSeqReq>,
    ) -> Answer<SetUserConversationMaxSeqResp> {
        let asked = self.asked_by_service(request)?;
        let SetUserConversationMaxSeqReq { owner_user_id: users, conversation_id: conversation, max_seq: seq } = asked;
        self.write(Command::SetLast { users, conversation, seq }).await?;
        Ok(Response::new(SetUserConversationMaxSeqResp {}))
    }

    async fn set_user_conversation_min_seq(
        &self,
        request: Request<SetUserConversationMinSeqReq>,
    ) -> Answer<SetUserConversationMinSeqResp> {
        let asked = self.asked_by_service(request)?;
        let SetUserConversationMinSeqReq { owner_user_id: users, conversation_id: conversation, min_seq: seq } = asked;
        self.write(Command::SetFirst { users, conversation, seq }).await?;
        Ok(Response::new(SetUserConversationMinSeqResp {}))
    }
}

impl Service {
    /// Who calls, and is let in.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.admit(request)?;
        Caller::of(request)
    }

    /// What is asked, if the caller may ask it for that user.
    fn asked_by<T>(&self, request: Request<T>, user: impl FnOnce(&T) -> &String) -> Result<T, Status> {
        let caller = self.caller(&request)?;
        let asked = request.into_inner();
        caller.may_act_for(user(&asked))?;
        Ok(asked)
    }

    /// What is asked, if no client is behind it.
    fn asked_by_service<T>(&self, request: Request<T>) -> Result<T, Status> {
        match self.caller(&request)?.user_id {
            None => Ok(request.into_inner()),
            Some(user) => {
                Err(Refusal::NoPermission(format!("this is for services to ask, not for the session of {user:?}"))
                    .into())
            }
        }
    }

    async fn mark(&self, user: String, conversation: String, seq: i64, seqs: Vec<i64>) -> Result<(), Status> {
        let command = Command::MarkRead { user: user.clone(), conversation: conversation.clone(), seq };
        match self.write(command).await? {
            Outcome::Read(has_read) => {
                let has_read = has_read.try_into().unwrap_or(i64::MAX);
                self.tell_read(&user, &conversation, &seqs, has_read, true).await;
                Ok(())
            }
            _ => Err(odd()),
        }
    }
}

fn odd() -> Status {
    Status::internal("the writer answered something else")
}
