//! Text messages: the heartbeat of clients in browsers, which cannot send a websocket's own ping.
//!
//! `{"type":"ping","body":…}` is answered with `{"type":"pong","body":…}`, the body as it came.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A ping, to be answered.
    Ping,
    /// A pong, which needs no answer.
    Pong,
}

#[derive(Serialize, Deserialize)]
struct Text<'a> {
    r#type: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

/// Reads a text message: what it is, and the answer to a ping. `None` if it is neither ping nor pong.
pub fn read(text: &str) -> Option<(Kind, Option<String>)> {
    let message: Text<'_> = serde_json::from_str(text).ok()?;
    match &*message.r#type {
        "ping" => Some((Kind::Ping, Some(write("pong", message.body)))),
        "pong" => Some((Kind::Pong, None)),
        _ => None,
    }
}

/// A ping, as clients send it; `body` is a name for it, which comes back.
pub fn ping(body: &str) -> String {
    let body = serde_json::value::to_raw_value(body).expect("a string is JSON");
    write("ping", Some(&body))
}

fn write(kind: &str, body: Option<&RawValue>) -> String {
    serde_json::to_string(&Text { r#type: kind.into(), body }).expect("strings and JSON are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_comes_back_as_a_pong_with_its_body() {
        for body in [r#""1718000000_x""#, "null", "7", r#"{"a": [1,  2]}"#, r#""\u7528\"""#] {
            let answer = format!(r#"{{"type":"pong","body":{body}}}"#);
            let ping = format!(r#" {{"body":{body}, "type": "ping", "more": 1}}"#);
            assert_eq!(read(&ping), Some((Kind::Ping, Some(answer.clone()))));
            assert_eq!(read(&answer), Some((Kind::Pong, None)));
        }
        assert_eq!(read(r#"{"type":"ping"}"#), Some((Kind::Ping, Some(r#"{"type":"pong","body":null}"#.into()))));
        assert_eq!(read(&ping("a\"b")), Some((Kind::Ping, Some(r#"{"type":"pong","body":"a\"b"}"#.into()))));
    }

    #[test]
    fn nothing_else_is_text() {
        for text in ["", "ping", "{}", r#"{"type":"push"}"#, r#"{"type":1}"#, r#"{"type":"ping""#, "[]"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
