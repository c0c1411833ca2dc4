//! OpenIM's messages as pushes.

use prost::Message as _;
use ringsteer_batch::{good_id, shorten_operation};
use ringsteer_openim::message::{pushed, sdkws::MsgData};
use sha2::{Digest as _, Sha256};

use crate::{
    session::message::{Message, Purpose},
    websocket::decoder::Kind,
};

/// What OpenIM is told of a platform that could not be reached.
pub const NOT_DELIVERED: i64 = -1;

/// What makes a message that is sent again the same push.
///
/// OpenIM allows any string as an id, and pushes do not: what cannot be the id of a push is replaced by its digest, which
/// every repeat has, too, wherever it comes in.
pub fn id_of(message: &MsgData) -> Option<String> {
    let MsgData { server_msg_id, client_msg_id, send_id, .. } = message;
    let id = match (server_msg_id.as_str(), client_msg_id.as_str()) {
        ("", "") => return None,
        ("", client) => format!("client/{client}/{send_id}"),
        (server, _) => format!("server/{server}"),
    };
    if good_id(&id) {
        return Some(id);
    }
    let digest: String = Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256/{digest}"))
}

/// A message for sessions of either kind: in its envelope, of which plain clients get the content.
pub fn message_of(message: MsgData, operation: String) -> Message {
    let operation = shorten_operation(operation);
    Message::for_purpose(Purpose::Envelope, Kind::Binary, pushed(message).encode_to_vec().into(), operation)
}

#[cfg(test)]
mod tests {
    use ringsteer_batch::MAX_ID;
    use ringsteer_openim::message::sdkws::PushMessages;

    use super::*;

    fn message() -> MsgData {
        MsgData {
            send_id: "a".into(),
            recv_id: "b".into(),
            session_type: 1,
            content: "hi".into(),
            ..MsgData::default()
        }
    }

    #[test]
    fn an_openim_client_gets_the_conversation_and_a_plain_one_the_content() {
        let openim = message_of(message(), "op".into());
        let envelope = PushMessages::decode(&openim.payload()[..]).unwrap();
        assert_eq!(envelope.msgs["si_a_b"].msgs, [message()]);
        assert_eq!((openim.kind(), openim.operation()), (Kind::Binary, "op"));
        let notification = MsgData { options: [("isNotNotification".to_owned(), false)].into(), ..message() };
        let envelope = message_of(notification, String::new());
        let envelope = PushMessages::decode(&envelope.payload()[..]).unwrap();
        assert!(envelope.msgs.is_empty() && envelope.notification_msgs.contains_key("n_a_b"));
        assert_eq!(openim.plain(), (Kind::Text, "hi".into()));
        let binary = MsgData { content: vec![0xff].into(), ..message() };
        assert_eq!(message_of(binary, String::new()).plain(), (Kind::Binary, vec![0xff].into()));
    }

    #[test]
    fn a_message_is_known_by_the_servers_id_or_the_senders() {
        let with = |server: &str, client: &str| {
            id_of(&MsgData { server_msg_id: server.into(), client_msg_id: client.into(), ..message() })
        };
        assert_eq!(with("s", "c").unwrap(), "server/s");
        assert_eq!(with("", "c").unwrap(), "client/c/a");
        assert_eq!(with("", ""), None);
    }

    #[test]
    fn an_id_that_no_push_may_have_is_replaced_by_its_digest() {
        let with = |server: &str, client: &str| {
            id_of(&MsgData { server_msg_id: server.into(), client_msg_id: client.into(), ..message() }).unwrap()
        };
        // printf 'server/a b' | sha256sum
        let digest = "37dd5be2db7ae8ce68f0140635c4ad3d46cf15e60e2504a492e2b39cf235f54d";
        assert_eq!(with("a b", ""), format!("sha256/{digest}"));
        let long = "x".repeat(MAX_ID);
        let ids = [with("a b", ""), with("a c", ""), with("", "a b"), with(&long, ""), with("", &long), with("ü", "")];
        for (index, id) in ids.iter().enumerate() {
            assert!(good_id(id), "{id}");
            assert!(!ids[..index].contains(id), "{id} names two messages");
        }
        let fits = "x".repeat(MAX_ID - "server/".len());
        assert_eq!(with(&fits, ""), format!("server/{fits}"), "one that fits stays readable");
    }

    #[test]
    fn the_name_of_an_operation_is_cut_where_a_push_allows_no_more() {
        let operation = |length: usize| message_of(message(), "ü".repeat(length)).operation().to_owned();
        assert_eq!(operation(128), "ü".repeat(128));
        assert_eq!(operation(129), "ü".repeat(128));
        let odd = message_of(message(), format!("x{}", "ü".repeat(128)));
        assert_eq!(odd.operation(), format!("x{}", "ü".repeat(127)), "not within a character");
    }
}
