//! From commands to requests, and which answers are awaited.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use ringsteer_openim::{
    frame::{Request, id},
    message::{
        CONTENT_TEXT, FROM_USER,
        sdkws::{
            GetMaxSeqReq, MsgData, OfflinePushInfo, PullMessageBySeqsReq, SeqRange, SetAppBackgroundStatusReq,
            SubUserOnlineStatus,
        },
        session_type,
    },
    platform::Platform,
};

use super::command::{Command, Whom};

/// What one session has said so far.
pub(super) struct Talk {
    user: String,
    platform: Platform,
    /// Whom the next line is for, if it does not say.
    whom: Option<Whom>,
    requests: u64,
    awaited: HashSet<String>,
    logged_out: bool,
}

impl Talk {
    pub(super) fn new(user: String, platform: Platform, whom: Option<Whom>) -> Self {
        Self { user, platform, whom, requests: 0, awaited: HashSet::new(), logged_out: false }
    }

    /// Whether everything asked has been answered.
    pub(super) fn awaits_nothing(&self) -> bool {
        self.awaited.is_empty()
    }

    /// How many requests are unanswered.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// Whether the end is what we wanted.
    pub(super) fn has_logged_out(&self) -> bool {
        self.logged_out
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, msg_incr: &str) {
        self.awaited.remove(msg_incr);
    }

    /// The request that does what a command wants. Messages are stamped `now_ms`.
    pub(super) fn request(&mut self, command: Command, now_ms: i64) -> Result<Request, String> {
        let user_id = self.user.clone();
        let (id, data) = match command {
            Command::Say(whom, text) => (id::SEND, self.message(whom, &text, now_ms)?.encode_to_vec()),
            Command::Newest => (id::NEWEST_SEQS, GetMaxSeqReq { user_id }.encode_to_vec()),
            Command::Pull { conversation: conversation_id, from: begin, to: end } => {
                let num = end.saturating_sub(begin).saturating_add(1);
                let seq_ranges = vec![SeqRange { conversation_id, begin, end, num }];
                (id::PULL_BY_RANGES, PullMessageBySeqsReq { user_id, seq_ranges, order: 0 }.encode_to_vec())
            }
            Command::Watch { more: subscribe_user_id, fewer: unsubscribe_user_id } => {
                (id::ONLINE_STATUS, SubUserOnlineStatus { subscribe_user_id, unsubscribe_user_id }.encode_to_vec())
            }
            Command::Background(is_background) => {
                (id::BACKGROUND, SetAppBackgroundStatusReq { user_id, is_background }.encode_to_vec())
            }
            Command::Request { id, data } => (id, data),
            Command::Logout => {
                self.logged_out = true;
                (id::LOGOUT, vec![])
            }
            Command::Quit => return Err("there is no request to quit".into()),
        };
        self.requests += 1;
        let msg_incr = format!("{}_{}", self.user, self.requests);
        self.awaited.insert(msg_incr.clone());
        Ok(Request {
            id,
            token: String::new(),
            send_id: self.user.clone(),
            operation_id: format!("{now_ms}-{}", self.requests),
            msg_incr,
            data: data.into(),
        })
    }

    /// A text message.
    fn message(&mut self, whom: Option<Whom>, text: &str, now_ms: i64) -> Result<MsgData, String> {
        let whom = whom.or_else(|| self.whom.clone()).ok_or("to whom? Start the line with @USER or #GROUP")?;
        self.whom = Some(whom.clone());
        let (session_type, recv_id, group_id) = match whom {
            Whom::User(user) => (session_type::SINGLE, user, String::new()),
            Whom::Group(group) => (session_type::READ_GROUP, String::new(), group),
        };
        let content = serde_json::json!({ "content": text }).to_string();
        Ok(MsgData {
            send_id: self.user.clone(),
            recv_id,
            group_id,
            // Another run of the same user must not repeat it.
            client_msg_id: format!("{}-{now_ms}-{}-{}", self.user, std::process::id(), self.requests),
            sender_platform_id: self.platform.number(),
            session_type,
            msg_from: FROM_USER,
            content_type: CONTENT_TEXT,
            content: Bytes::from(content),
            create_time: now_ms,
            send_time: now_ms,
            status: 1,
            offline_push_info: Some(OfflinePushInfo {
                title: format!("A message from {}", self.user),
                ..OfflinePushInfo::default()
            }),
            ..MsgData::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_goes_where_the_last_one_went() {
        let mut talk = Talk::new("alice".into(), Platform::Linux, None);
        let say = |whom, text: &str| Command::Say(whom, text.into());
        assert!(talk.request(say(None, "hello"), 5).is_err());
        assert!(talk.awaits_nothing());

        let request = talk.request(say(Some(Whom::User("bob".into())), "a \"b\""), 5).unwrap();
        assert_eq!((request.id, request.send_id.as_str(), request.msg_incr.as_str()), (id::SEND, "alice", "alice_1"));
        let first = MsgData::decode(request.data).unwrap();
        assert_eq!(&first.content[..], br#"{"content":"a \"b\""}"#);
        assert_eq!(first.conversation_id().as_deref(), Some("si_alice_bob"));
        let next = MsgData::decode(talk.request(say(None, "x"), 5).unwrap().data).unwrap();
        assert_eq!(next.recv_id, "bob");
        assert_ne!(next.client_msg_id, first.client_msg_id);

        let group = talk.request(say(Some(Whom::Group("team".into())), "x"), 5).unwrap();
        assert_eq!(MsgData::decode(group.data).unwrap().conversation_id().as_deref(), Some("sg_team"));
    }

    #[test]
    fn answers_are_awaited() {
        let mut talk = Talk::new("alice".into(), Platform::Linux, None);
        let first = talk.request(Command::Newest, 1).unwrap();
        let second = talk.request(Command::Logout, 1).unwrap();
        assert!(talk.has_logged_out());
        talk.answered("");
        talk.answered(&first.msg_incr);
        assert!(!talk.awaits_nothing());
        talk.answered(&second.msg_incr);
        assert!(talk.awaits_nothing());
    }
}
