//! What somebody else has to be asked for a client.

use bytes::Bytes;
use prost::Message;

use super::unreadable;
use crate::{
    error::{ApiError, Code},
    frame::id,
    message::{
        msg::{GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq, GetSeqMessageReq, SendMsgReq},
        sdkws::{GetMaxSeqReq, MsgData, PullMessageBySeqsReq},
    },
};

/// A question. All but the last are for the message service, in its own words; the answer's bytes go back to the client
/// as they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// `GetMaxSeq`.
    NewestSeqs(GetMaxSeqReq),
    /// `PullMessageBySeqs`.
    PullByRanges(PullMessageBySeqsReq),
    /// `SendMsg`.
    Send(Box<SendMsgReq>),
    /// `GetSeqMessage`.
    PullBySeqs(GetSeqMessageReq),
    /// `GetConversationsHasReadAndMaxSeq`.
    ReadAndNewestSeqs(GetConversationsHasReadAndMaxSeqReq),
    /// `GetLastMessage`.
    LastMessages(GetLastMessageReq),
    /// On which platforms these users are online; the answer is a
    /// [`SubUserOnlineStatusTips`](crate::message::sdkws::SubUserOnlineStatusTips).
    OnlineStatus(Vec<String>),
}

impl Question {
    /// The question that a request asks, on behalf of `user`. Whoever leaves out who asks means itself.
    ///
    /// # Errors
    /// If it cannot be read, is about somebody else, or nobody answers such requests.
    pub(super) fn of(request: i32, user: &str, data: Bytes) -> Result<Self, ApiError> {
        Ok(match request {
            id::NEWEST_SEQS => Self::NewestSeqs(own(user, data, |of: &mut GetMaxSeqReq| &mut of.user_id)?),
            id::PULL_BY_RANGES => Self::PullByRanges(own(user, data, |of: &mut PullMessageBySeqsReq| &mut of.user_id)?),
            id::SEND => {
                let message = own(user, data, |of: &mut MsgData| &mut of.send_id)?;
                Self::Send(Box::new(SendMsgReq { msg_data: Some(message) }))
            }
            id::PULL_BY_SEQS => Self::PullBySeqs(own(user, data, |of: &mut GetSeqMessageReq| &mut of.user_id)?),
            id::READ_AND_NEWEST_SEQS => {
                Self::ReadAndNewestSeqs(own(user, data, |of: &mut GetConversationsHasReadAndMaxSeqReq| {
                    &mut of.user_id
                })?)
            }
            id::LAST_MESSAGES => Self::LastMessages(own(user, data, |of: &mut GetLastMessageReq| &mut of.user_id)?),
            other => {
                return Err(ApiError::new(Code::Args, format!("requests {other} are not served")));
            }
        })
    }
}

/// Reads the data of a request and makes sure whose it is.
fn own<T: Message + Default>(user: &str, data: Bytes, whose: fn(&mut T) -> &mut String) -> Result<T, ApiError> {
    let mut request = T::decode(data).map_err(unreadable)?;
    let its = whose(&mut request);
    if its.is_empty() {
        user.clone_into(its);
    }
    if *its != user {
        return Err(ApiError::new(Code::NoPermission, "the request is in another user's name"));
    }
    Ok(request)
}
