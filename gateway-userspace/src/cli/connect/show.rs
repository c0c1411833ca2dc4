//! What happened, for people or for scripts.

use std::time::Instant;

use ringsteer_openim::{
    frame::{Request, Response, Wire, id},
    login::{Compression, Encoding},
    platform::Platform,
};
use serde_json::{Value, json};

use super::decode;
use crate::cli::output::Output;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The gateway has answered 101.
    Connected { url: String, user: String, platform: Platform },
    /// We have sent a request.
    Sent(Request),
    /// An answer has come, or something pushed.
    Received(Response),
    /// A frame that is none.
    Unreadable { bytes: usize, why: String },
    /// A text has come.
    Text(String),
    /// We have sent a ping.
    Heartbeat,
    /// The other side has ended the session.
    Ended { code: Option<u16>, reason: String },
    /// We have.
    Left,
}

/// How events are told.
pub(super) struct Show {
    output: Output,
    wire: Wire,
    start: Instant,
}

impl Show {
    pub(super) fn new(output: Output, wire: Wire, start: Instant) -> Self {
        Self { output, wire, start }
    }

    /// The line, or the lines, for an event that happens now.
    pub(super) fn line(&self, event: &Event) -> String {
        let since = self.start.elapsed();
        match self.output {
            Output::Json => {
                let mut fields = self.facts(event);
                fields["at_ms"] = (since.as_micros() as f64 / 1000.0).into();
                format!("{fields}\n")
            }
            Output::Table => {
                let at = format!("{:>8.3}  ", since.as_secs_f64());
                self.words(event).lines().map(|line| format!("{at}{line}\n")).collect()
            }
        }
    }

    /// For scripts.
    fn facts(&self, event: &Event) -> Value {
        match event {
            Event::Connected { url, user, platform } => json!({
                "event": "connected", "url": url, "user": user, "platform": platform.number(), "wire": self.wire(),
            }),
            Event::Sent(request) => json!({
                "event": "sent",
                "id": request.id,
                "name": decode::name(request.id),
                "msg_incr": request.msg_incr,
                "operation_id": request.operation_id,
                "data": decode::request(request.id, &request.data),
            }),
            Event::Received(response) => json!({
                "event": match response.id {
                    id::PUSH => "push",
                    id::KICKED => "kicked",
                    // What is asked has a name, what is told of itself has none.
                    id::ONLINE_STATUS if response.msg_incr.is_empty() => "status",
                    _ => "answer",
                },
                "id": response.id,
                "name": decode::name(response.id),
                "msg_incr": response.msg_incr,
                "operation_id": response.operation_id,
                "err_code": response.err_code,
                "err_msg": response.err_msg,
                "data": decode::response(response.id, &response.data),
            }),
            Event::Unreadable { bytes, why } => json!({ "event": "unreadable", "bytes": bytes, "why": why }),
            Event::Text(text) => json!({
                "event": "text", "text": serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            }),
            Event::Heartbeat => json!({ "event": "heartbeat" }),
            Event::Ended { code, reason } => json!({ "event": "ended", "code": code, "reason": reason }),
            Event::Left => json!({ "event": "left" }),
        }
    }

    /// For people.
    fn words(&self, event: &Event) -> String {
        match event {
            Event::Connected { url, user, platform } => {
                format!("connected to {url} as {user} ({platform}, {})", self.wire())
            }
            Event::Sent(request) => {
                let data = decode::request(request.id, &request.data);
                let said = if request.id == id::SEND { spoken(&data) } else { plain(&data) };
                format!("→ {} {}{}", request.id, decode::name(request.id), after_colon(&said))
            }
            Event::Received(response) if response.err_code != 0 => {
                let Response { id, err_code, err_msg, .. } = response;
                format!("← {id} {}: error {err_code}, {err_msg}", decode::name(*id))
            }
            Event::Received(response) => {
                let name = decode::name(response.id);
                let data = decode::response(response.id, &response.data);
                match response.id {
                    id::KICKED => format!("← {} kicked: another login has ended this one", id::KICKED),
                    id::PUSH | id::PULL_BY_RANGES | id::PULL_BY_SEQS => pulled(response.id, &data),
                    id => format!("← {id} {name}{}", after_colon(&plain(&data))),
                }
            }
            Event::Unreadable { bytes, why } => format!("← {bytes} bytes that are no frame: {why}"),
            Event::Text(text) => format!("← {text}"),
            Event::Heartbeat => "→ ping".into(),
            Event::Ended { code: Some(code), reason } => format!("ended by the other side: {code} {reason}"),
            Event::Ended { code: None, reason } => format!("ended by the other side: {reason}"),
            Event::Left => "closed".into(),
        }
    }

    fn wire(&self) -> &'static str {
        match (self.wire.encoding, self.wire.compression) {
            (Encoding::Gob, Compression::None) => "gob",
            (Encoding::Gob, Compression::Gzip) => "gob, gzip",
            (Encoding::Json, Compression::None) => "json",
            (Encoding::Json, Compression::Gzip) => "json, gzip",
        }
    }
}

/// One line for each message, or one that there is none.
fn pulled(id: i32, data: &Value) -> String {
    let mut lines = Vec::new();
    for kind in ["messages", "notifications"] {
        for (conversation, messages) in data[kind].as_object().into_iter().flatten() {
            for message in messages.as_array().into_iter().flatten() {
                let seq = &message["seq"];
                lines.push(format!("← {id} {} {conversation} #{seq}  {}", decode::name(id), spoken(message)));
            }
        }
    }
    if lines.is_empty() {
        lines.push(format!("← {id} {}: no messages", decode::name(id)));
    }
    lines.join("\n")
}

/// Who says what to whom.
fn spoken(message: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    let content = &message["content"];
    let said = content.get("content").unwrap_or(content);
    format!("{} to {}: {}", text(&message["from"]), text(&message["to"]), text(said))
}

fn plain(data: &Value) -> String {
    if data.is_null() { String::new() } else { data.to_string() }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use ringsteer_openim::message::{pushed, sdkws::MsgData};

    use super::*;

    fn show(output: Output) -> Show {
        Show::new(output, Wire::default(), Instant::now())
    }

    fn push() -> Event {
        let message = MsgData {
            send_id: "bob".into(),
            recv_id: "alice".into(),
            session_type: 1,
            content_type: 101,
            seq: 4,
            content: Bytes::from_static(br#"{"content":"hi"}"#),
            ..MsgData::default()
        };
        let data = pushed(message).encode_to_vec().into();
        Event::Received(Response { id: id::PUSH, data, ..Response::default() })
    }

    #[test]
    fn people_read_who_says_what() {
        let words = |event: &Event| show(Output::Table).words(event);
        assert_eq!(words(&push()), "← 2001 push si_alice_bob #4  bob to alice: hi");
        let kicked = Event::Received(Response { id: id::KICKED, ..Response::default() });
        assert_eq!(words(&kicked), "← 2002 kicked: another login has ended this one");
        let refused = Response { id: 1004, err_code: 1001, err_msg: "not served".into(), ..Response::default() };
        assert_eq!(words(&Event::Received(refused)), "← 1004 signal: error 1001, not served");
        let nothing = Response { id: id::PULL_BY_RANGES, ..Response::default() };
        assert_eq!(words(&Event::Received(nothing)), "← 1002 pull: no messages");
        let unknown = Response { id: 9, data: Bytes::from_static(b"\x01\xff"), ..Response::default() };
        assert_eq!(words(&Event::Received(unknown)), r#"← 9 unknown: {"hex":"01ff"}"#);
    }

    #[test]
    fn scripts_read_one_object_a_line() {
        let line = show(Output::Json).line(&push());
        assert_eq!(line.matches('\n').count(), 1);
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["event"], "push");
        let message = &object["data"]["messages"]["si_alice_bob"][0];
        assert_eq!((&message["seq"], &message["content"]["content"]), (&4.into(), &"hi".into()));
        assert!(object["at_ms"].is_number());
    }
}
