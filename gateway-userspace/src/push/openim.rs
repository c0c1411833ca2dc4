//! OpenIM's messages as pushes.

use prost::Message as _;
use ringsteer_openim::message::{pushed, sdkws::MsgData};

use crate::{
    session::message::{Message, Purpose},
    websocket::decoder::Kind,
};

/// What OpenIM is told of a platform that could not be reached.
pub const NOT_DELIVERED: i64 = -1;

/// What makes a message that is sent again the same push.
pub fn id_of(message: &MsgData) -> Option<String> {
    let MsgData { server_msg_id, client_msg_id, send_id, .. } = message;
    match (server_msg_id.as_str(), client_msg_id.as_str()) {
        ("", "") => None,
        ("", client) => Some(format!("client/{client}/{send_id}")),
        (server, _) => Some(format!("server/{server}")),
    }
}

/// A message for sessions of either kind: in its envelope, of which plain clients get the content.
pub fn message_of(message: MsgData, operation: String) -> Message {
    Message::for_purpose(Purpose::Envelope, Kind::Binary, pushed(message).encode_to_vec().into(), operation)
}

#[cfg(test)]
mod tests {
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
}
