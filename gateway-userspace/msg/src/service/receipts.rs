//! Telling others how far somebody has read: the user's other devices, and in a conversation of two the other user.
//!
//! A receipt is a notification that is pushed and forgotten: whoever misses it learns the same from the next question.

use ringsteer_openim::message::{sdkws::MsgData, session_type};
use serde_json::json;

use super::Service;
use crate::writer::Command;

/// `MsgData.contentType` of a receipt.
const HAS_READ_RECEIPT: i32 = 2200;

/// `MsgData.msgFrom` of what nobody has written.
const FROM_SYSTEM: i32 = 200;

/// Options of a receipt, all of which are off. The first makes a notification of it.
const OFF: [&str; 7] = [
    "isNotNotification",
    "history",
    "persistent",
    "offlinePush",
    "unreadCount",
    "conversationUpdate",
    "senderConversationUpdate",
];

impl Service {
    /// Tells whoever is to know. Nobody waits for it, and nothing depends on it.
    pub(super) async fn tell_read(&self, user: &str, conversation: &str, seqs: &[i64], has_read: i64, peer_too: bool) {
        let name = conversation.to_owned();
        let Ok(Some((first, second))) = self.read(move |book| book.whose(&name)).await else { return };
        let peer = if first == user { second } else { first };
        let direct = conversation.starts_with("si_") && peer_too && !peer.is_empty();
        let receipt = receipt(user, if direct { &peer } else { user }, conversation, seqs, has_read);
        let told = self.writer.carry_out(Command::Send { message: Box::new(receipt), by_service: true }).await;
        if let Err(refusal) = told {
            tracing::debug!("no receipt: {refusal}");
        }
    }
}

fn receipt(from: &str, to: &str, conversation: &str, seqs: &[i64], has_read: i64) -> MsgData {
    let detail = json!({
        "markAsReadUserID": from,
        "conversationID": conversation,
        "seqs": seqs,
        "hasReadSeq": has_read,
    });
    // The details are JSON within JSON.
    let content = json!({ "detail": detail.to_string() }).to_string();
    MsgData {
        send_id: from.to_owned(),
        recv_id: to.to_owned(),
        // It is not kept, so its name need not differ from others'.
        client_msg_id: format!("read-{has_read}"),
        session_type: session_type::SINGLE,
        msg_from: FROM_SYSTEM,
        content_type: HAS_READ_RECEIPT,
        content: content.into(),
        options: OFF.map(|option| (option.to_owned(), false)).into(),
        ..MsgData::default()
    }
}
