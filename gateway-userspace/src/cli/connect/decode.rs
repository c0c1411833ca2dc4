//! What is in frames, as JSON.

use bytes::Bytes;
use prost::Message;
use ringsteer_openim::{
    frame::id,
    message::{
        msg::{
            GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp, GetLastMessageReq,
            GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp, SendMsgResp,
        },
        sdkws::{
            GetMaxSeqReq, GetMaxSeqResp, MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp, PullMsgs, PushMessages,
            SetAppBackgroundStatusReq, SubUserOnlineStatus, SubUserOnlineStatusTips,
        },
    },
};
use serde_json::{Value, json};

/// What frames of an id are called.
pub(super) fn name(id: i32) -> &'static str {
    match id {
        id::NEWEST_SEQS => "newest",
        id::PULL_BY_RANGES => "pull",
        id::SEND => "send",
        id::SIGNAL => "signal",
        id::PULL_BY_SEQS => "pull by numbers",
        id::READ_AND_NEWEST_SEQS => "read and newest",
        id::LAST_MESSAGES => "last messages",
        id::PUSH => "push",
        id::KICKED => "kicked",
        id::LOGOUT => "logout",
        id::BACKGROUND => "background",
        id::ONLINE_STATUS => "online status",
        id::DATA_ERROR => "data error",
        _ => "unknown",
    }
}

/// The data of a request.
pub(super) fn request(id: i32, data: &Bytes) -> Value {
    match id {
        id::NEWEST_SEQS => decoded(data, |GetMaxSeqReq { user_id }| json!({ "user": user_id })),
        id::PULL_BY_RANGES => decoded(data, |request: PullMessageBySeqsReq| {
            let range = |range: &ringsteer_openim::message::sdkws::SeqRange| json!({ "conversation": range.conversation_id, "from": range.begin, "to": range.end, "at_most": range.num });
            json!({ "ranges": request.seq_ranges.iter().map(range).collect::<Vec<_>>() })
        }),
        id::SEND => decoded(data, |sent: MsgData| message(&sent)),
        id::PULL_BY_SEQS => decoded(data, |request: GetSeqMessageReq| {
            let list = request.conversations.into_iter().map(|list| (list.conversation_id, list.seqs.into()));
            Value::Object(list.collect())
        }),
        id::READ_AND_NEWEST_SEQS => decoded(
            data,
            |request: GetConversationsHasReadAndMaxSeqReq| json!({ "conversations": request.conversation_i_ds }),
        ),
        id::LAST_MESSAGES => {
            decoded(data, |request: GetLastMessageReq| json!({ "conversations": request.conversation_i_ds }))
        }
        id::BACKGROUND => {
            decoded(data, |request: SetAppBackgroundStatusReq| json!({ "background": request.is_background }))
        }
        id::ONLINE_STATUS => decoded(
            data,
            |request: SubUserOnlineStatus| json!({ "watch": request.subscribe_user_id, "unwatch": request.unsubscribe_user_id }),
        ),
        _ => raw(data),
    }
}

/// The data of an answer, or of something pushed.
pub(super) fn response(id: i32, data: &Bytes) -> Value {
    match id {
        id::NEWEST_SEQS => {
            decoded(data, |answer: GetMaxSeqResp| json!({ "newest": answer.max_seqs, "first": answer.min_seqs }))
        }
        id::PULL_BY_RANGES => {
            decoded(data, |answer: PullMessageBySeqsResp| both(answer.msgs, answer.notification_msgs))
        }
        id::SEND => decoded(data, |answer: SendMsgResp| {
            json!({
                "server_msg_id": answer.server_msg_id,
                "client_msg_id": answer.client_msg_id,
                "send_time_ms": answer.send_time,
            })
        }),
        id::PULL_BY_SEQS => decoded(data, |answer: GetSeqMessageResp| both(answer.msgs, answer.notification_msgs)),
        id::READ_AND_NEWEST_SEQS => {
            decoded(data, |answer: GetConversationsHasReadAndMaxSeqResp| {
                let seqs = answer.seqs.into_iter().map(|(conversation, seqs)| {
                (conversation, json!({ "newest": seqs.max_seq, "read": seqs.has_read_seq, "newest_time_ms": seqs.max_seq_time }))
            });
                Value::Object(seqs.collect())
            })
        }
        id::LAST_MESSAGES => decoded(data, |answer: GetLastMessageResp| {
            Value::Object(answer.msgs.into_iter().map(|(conversation, its)| (conversation, message(&its))).collect())
        }),
        id::PUSH => decoded(data, |pushed: PushMessages| both(pushed.msgs, pushed.notification_msgs)),
        id::ONLINE_STATUS => decoded(data, |tips: SubUserOnlineStatusTips| {
            let users = tips.subscribers.into_iter().map(|its| (its.user_id, its.online_platform_i_ds.into()));
            Value::Object(users.collect())
        }),
        _ => raw(data),
    }
}

/// A message, with what people care about.
fn message(message: &MsgData) -> Value {
    let content = serde_json::from_slice(&message.content)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&message.content).into_owned()));
    json!({
        "conversation": message.conversation_id(),
        "seq": message.seq,
        "from": message.send_id,
        "to": if message.group_id.is_empty() { &message.recv_id } else { &message.group_id },
        "session_type": message.session_type,
        "content_type": message.content_type,
        "content": content,
        "client_msg_id": message.client_msg_id,
        "server_msg_id": message.server_msg_id,
        "send_time_ms": message.send_time,
    })
}

fn both(
    messages: impl IntoIterator<Item = (String, PullMsgs)>,
    notifications: impl IntoIterator<Item = (String, PullMsgs)>,
) -> Value {
    json!({ "messages": conversations(messages), "notifications": conversations(notifications) })
}

fn conversations(pulled: impl IntoIterator<Item = (String, PullMsgs)>) -> Value {
    let pulled = pulled.into_iter().map(|(name, its)| (name, its.msgs.iter().map(message).collect()));
    Value::Object(pulled.collect())
}

fn decoded<T: Message + Default>(data: &Bytes, tell: impl FnOnce(T) -> Value) -> Value {
    T::decode(data.clone()).map_or_else(|_| raw(data), tell)
}

/// Bytes that nobody can read; `null` if there are none.
fn raw(data: &Bytes) -> Value {
    if data.is_empty() {
        return Value::Null;
    }
    json!({ "hex": data.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
}
