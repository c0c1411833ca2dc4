//! Which conversation a message belongs to.

use bytes::Bytes;
use prost::Message as _;

use super::{
    sdkws::{MsgData, PullMsgs, PushMessages},
    session_type,
};

/// The option that says, where it is false, that a message is a notification.
const IS_NOT_NOTIFICATION: &str = "isNotNotification";

impl MsgData {
    /// The conversation it belongs to, as OpenIM names it; `None` if its session type is none of OpenIM's.
    pub fn conversation_id(&self) -> Option<String> {
        let notification = self.options.get(IS_NOT_NOTIFICATION) == Some(&false);
        let kind = match self.session_type {
            _ if notification => "n",
            session_type::SINGLE => "si",
            session_type::WRITE_GROUP => "g",
            session_type::READ_GROUP => "sg",
            session_type::NOTIFICATION => "sn",
            _ => return None,
        };
        match self.session_type {
            session_type::SINGLE | session_type::NOTIFICATION => {
                let (first, second) = if self.send_id <= self.recv_id {
                    (&self.send_id, &self.recv_id)
                } else {
                    (&self.recv_id, &self.send_id)
                };
                Some(format!("{kind}_{first}_{second}"))
            }
            session_type::WRITE_GROUP | session_type::READ_GROUP => Some(format!("{kind}_{}", self.group_id)),
            _ => None,
        }
    }
}

/// Whether a conversation is one of notifications.
pub fn is_notification(conversation_id: &str) -> bool {
    conversation_id.starts_with("n_")
}

/// What clients are pushed of `message`, the data of a frame 2001. The conversation's name is empty where the message's
/// session type is none of OpenIM's.
pub fn pushed(message: MsgData) -> PushMessages {
    let conversation = message.conversation_id().unwrap_or_default();
    let notification = is_notification(&conversation);
    let messages = [(conversation, PullMsgs { msgs: vec![message], ..PullMsgs::default() })].into();
    if notification {
        PushMessages { notification_msgs: messages, ..PushMessages::default() }
    } else {
        PushMessages { msgs: messages, ..PushMessages::default() }
    }
}

/// The content of the message in the data of a frame 2001, as [`pushed`] makes it; `None` if that is none, or brings
/// another number of messages than one.
pub fn content(pushed: Bytes) -> Option<Bytes> {
    let PushMessages { msgs, notification_msgs } = PushMessages::decode(pushed).ok()?;
    let mut all = msgs.into_values().chain(notification_msgs.into_values()).flat_map(|pulled| pulled.msgs);
    let message = all.next()?;
    all.next().is_none().then_some(message.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(session_type: i32) -> MsgData {
        MsgData { send_id: "b".into(), recv_id: "a".into(), group_id: "g7".into(), session_type, ..MsgData::default() }
    }

    #[test]
    fn conversations_are_named_as_openim_names_them() {
        let names = [(1, "si_a_b"), (2, "g_g7"), (3, "sg_g7"), (4, "sn_a_b")];
        for (session_type, name) in names {
            assert_eq!(message(session_type).conversation_id().as_deref(), Some(name));
        }
        for unknown in [0, 5, -1] {
            assert_eq!(message(unknown).conversation_id(), None);
        }
        let itself = MsgData { recv_id: "b".into(), ..message(1) };
        assert_eq!(itself.conversation_id().as_deref(), Some("si_b_b"));
    }

    #[test]
    fn both_sides_name_it_alike() {
        let answer = MsgData { send_id: "a".into(), recv_id: "b".into(), ..message(1) };
        assert_eq!(answer.conversation_id(), message(1).conversation_id());
    }

    #[test]
    fn notifications_are_apart() {
        let with = |value| MsgData { options: [(IS_NOT_NOTIFICATION.into(), value)].into(), ..message(1) };
        assert_eq!(with(false).conversation_id().as_deref(), Some("n_a_b"));
        assert_eq!(with(true).conversation_id().as_deref(), Some("si_a_b"));
        let group = MsgData { session_type: 3, ..with(false) };
        assert_eq!(group.conversation_id().as_deref(), Some("n_g7"));
        assert!(pushed(group).msgs.is_empty());
        assert!(pushed(with(true)).notification_msgs.is_empty());
        assert_eq!(pushed(with(true)).msgs["si_a_b"].msgs, [with(true)]);
    }

    #[test]
    fn the_content_comes_out_of_the_envelope() {
        let sealed = |pushed: PushMessages| content(pushed.encode_to_vec().into());
        for options in [vec![], vec![(IS_NOT_NOTIFICATION.to_owned(), false)]] {
            for session_type in 0..=4 {
                let options = options.iter().cloned().collect();
                let message = MsgData { content: "hi".into(), options, ..message(session_type) };
                assert_eq!(sealed(pushed(message)).unwrap(), "hi");
            }
        }
        assert_eq!(sealed(pushed(message(1))).unwrap(), "", "one without content is one, too");
        assert_eq!(sealed(PushMessages::default()), None);
        let two = PullMsgs { msgs: vec![message(1), message(1)], ..PullMsgs::default() };
        assert_eq!(sealed(PushMessages { msgs: [(String::new(), two)].into(), ..PushMessages::default() }), None);
        assert_eq!(content("no protobuf".into()), None);
    }
}
