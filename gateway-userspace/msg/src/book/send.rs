//! Taking a message.

use prost::Message as _;
use ringsteer_openim::message::{sdkws::MsgData, session_type};

use super::{Conversation, Limits, Pending, Refusal, Seat, Sent, Table, View, key, pending};

/// Option that says, where it is false, that a message is to be pushed and forgotten.
const HISTORY: &str = "history";

/// Option that says, where it is false, that the sender's own devices are left alone.
const SENDER_SYNC: &str = "senderSync";

/// `MsgData.status` of a message that is on its way to the service, and of one that has got there.
const SENDING: i32 = 1;
const SENT: i32 = 2;

/// A message that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// The sender's name for it.
    pub client_msg_id: String,
    /// Our name for it.
    pub server_msg_id: String,
    /// When it was taken, in milliseconds since 1970.
    pub send_time_ms: i64,
    /// Its number in its conversation; 0 if it is not kept.
    pub seq: u64,
    /// What is to be pushed; nothing if the message was taken before.
    pub push: Option<Box<Push>>,
}

/// A message to push.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The message, with number, name and time.
    pub message: MsgData,
    /// Its conversation: pushes of one keep their order.
    pub conversation: String,
    /// Whom to.
    pub audience: Audience,
}

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These users.
    Users(Vec<String>),
    /// The members of a group, as they are when it is pushed.
    Group {
        /// Which.
        group: String,
        /// Whoever of them is left alone.
        except: Option<String>,
    },
}

// === impl Pending ===

impl<V: View> Pending<V> {
    /// Takes a message, or finds that it was taken before. `by_service`: it is not a client that sends it. Clients cannot
    /// speak in groups they are not in.
    ///
    /// # Errors
    /// If the message cannot be taken; then nothing is written.
    pub fn send(
        &mut self,
        message: MsgData,
        by_service: bool,
        server_msg_id: String,
        now_ms: i64,
        limits: &Limits,
    ) -> Result<Accepted, Refusal> {
        let conversation = check(&message, limits)?;
        let sent_key = key::pair(&message.send_id, &message.client_msg_id);
        let kept = is_on(&message, HISTORY);
        if kept && let Some(sent) = pending::record::<Sent>(self, Table::Sent, &sent_key)? {
            return again(message, sent, &conversation);
        }
        if is_group(&message) && !by_service {
            self.may_speak(&message.group_id, &message.send_id)?;
        }
        let known = self.conversation_of(&message, &conversation)?;
        if !kept {
            let message = MsgData { seq: 0, ..taken(message, server_msg_id, now_ms) };
            return Ok(accepted(message, conversation));
        }

        // Clocks may be set back; the times of a conversation are not.
        let send_time_ms = now_ms.max(known.max_time_ms);
        let seq = known.max_seq + 1;
        let message = MsgData { seq: seq as i64, ..taken(message, server_msg_id, send_time_ms) };
        self.put(Table::Messages, key::message(&conversation, seq), &message);
        let now = Conversation { max_seq: seq, max_time_ms: send_time_ms, ..known };
        self.put(Table::Conversations, conversation.clone().into_bytes(), &now);
        let sent = Sent {
            conversation: conversation.clone(),
            seq,
            server_msg_id: message.server_msg_id.clone(),
            send_time_ms,
        };
        self.put(Table::Sent, sent_key, &sent);
        // What one says oneself one has read.
        let own = pending::seat(self, &message.send_id, &conversation)?.unwrap_or_default();
        self.put(Table::Seats, key::pair(&message.send_id, &conversation), &Seat { has_read: seq, ..own });
        // Members of a group got their seats when they joined.
        if !is_group(&message) && pending::seat(self, &message.recv_id, &conversation)?.is_none() {
            self.put(Table::Seats, key::pair(&message.recv_id, &conversation), &Seat::default());
        }
        Ok(accepted(message, conversation))
    }

    /// The conversation a message belongs to, as it is; a new one if nothing was said in it. Refused if the name means
    /// another one already.
    fn conversation_of(&self, message: &MsgData, name: &str) -> Result<Conversation, Refusal> {
        let (first, second) = if is_group(message) {
            (&message.group_id, "")
        } else if message.send_id <= message.recv_id {
            (&message.send_id, message.recv_id.as_str())
        } else {
            (&message.recv_id, message.send_id.as_str())
        };
        match pending::conversation(self, name)? {
            Some(known) if known.first != *first || known.second != second => Err(Refusal::Arguments(format!(
                "the conversation {name:?} is that of {:?} and {:?}: underscores in names make two of one name",
                known.first, known.second
            ))),
            Some(known) => Ok(known),
            None => Ok(Conversation { first: first.clone(), second: second.to_owned(), ..Conversation::default() }),
        }
    }
}

/// Refuses what cannot be a message; the conversation of what can.
fn check(message: &MsgData, limits: &Limits) -> Result<String, Refusal> {
    key::check("sendID", &message.send_id)?;
    key::check("clientMsgID", &message.client_msg_id)?;
    if is_group(message) {
        key::check("groupID", &message.group_id)?;
    } else {
        key::check("recvID", &message.recv_id)?;
    }
    let bytes = message.encoded_len();
    if bytes > limits.message_bytes {
        return Err(Refusal::Arguments(format!(
            "the message is {bytes} bytes long, and {} are taken",
            limits.message_bytes
        )));
    }
    message
        .conversation_id()
        .ok_or_else(|| Refusal::Arguments(format!("the sessionType {} is unknown", message.session_type)))
}

/// The answer to a message that was taken before.
fn again(message: MsgData, sent: Sent, conversation: &str) -> Result<Accepted, Refusal> {
    if sent.conversation != conversation {
        return Err(Refusal::Arguments(format!(
            "the clientMsgID {:?} is that of a message in another conversation",
            message.client_msg_id
        )));
    }
    Ok(Accepted {
        client_msg_id: message.client_msg_id,
        server_msg_id: sent.server_msg_id,
        send_time_ms: sent.send_time_ms,
        seq: sent.seq,
        push: None,
    })
}

/// The message with what the service says about it.
fn taken(message: MsgData, server_msg_id: String, send_time_ms: i64) -> MsgData {
    let status = if message.status == SENDING { SENT } else { message.status };
    MsgData { server_msg_id, send_time: send_time_ms, status, ..message }
}

fn accepted(message: MsgData, conversation: String) -> Accepted {
    let sender_too = is_on(&message, SENDER_SYNC);
    let audience = if is_group(&message) {
        Audience::Group { group: message.group_id.clone(), except: (!sender_too).then(|| message.send_id.clone()) }
    } else {
        let mut users = vec![message.recv_id.clone()];
        if sender_too && message.send_id != message.recv_id {
            users.push(message.send_id.clone());
        }
        Audience::Users(users)
    };
    Accepted {
        client_msg_id: message.client_msg_id.clone(),
        server_msg_id: message.server_msg_id.clone(),
        send_time_ms: message.send_time,
        seq: message.seq as u64,
        push: Some(Box::new(Push { message, conversation, audience })),
    }
}

/// Options that are not there are on.
fn is_on(message: &MsgData, option: &str) -> bool {
    message.options.get(option).copied().unwrap_or(true)
}

fn is_group(message: &MsgData) -> bool {
    matches!(message.session_type, session_type::WRITE_GROUP | session_type::READ_GROUP)
}
