//! What became of a push to many users, user by user.

use serde::{Deserialize, Serialize};

/// What a gateway answers. It says more, for people; this is what the front goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which member of the ring answers; none if it is no member.
    pub member: Option<String>,
    /// In the order in which the users were named.
    pub results: Vec<UserResult>,
}

/// What became of the push to one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserResult {
    /// The user.
    pub user: String,
    /// In one word.
    pub status: Status,
    /// The platforms of the sessions that took it, by OpenIM's numbers.
    pub platforms: Vec<i32>,
    /// Whether no notification is wanted.
    pub online_push: bool,
}

/// What became of it in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A session took it.
    Delivered,
    /// The user has none: every node that could have one has said so.
    Offline,
    /// Nobody knows yet.
    Unknown,
}

// === impl Answer ===

impl Answer {
    /// The answer in the body of a response; whatever else it says is passed over.
    ///
    /// # Errors
    /// If it is no JSON of that shape.
    pub fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

// === impl UserResult ===

impl UserResult {
    /// No session of that user has got the message.
    pub fn without_session(user: &str, status: Status) -> Self {
        Self { user: user.to_owned(), status, platforms: vec![], online_push: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whatever_else_it_says() {
        let body = br#"{"node":"n","member":"m:88","owner":"m:88","ring":{"epoch":1},"results":[
            {"user":"a","status":"delivered","platforms":[5,1],"online_push":true},
            {"user":"b","status":"offline","platforms":[],"online_push":false}]}"#;
        let delivered =
            UserResult { user: "a".into(), status: Status::Delivered, platforms: vec![5, 1], online_push: true };
        let results = vec![delivered, UserResult::without_session("b", Status::Offline)];
        assert_eq!(Answer::read(body).unwrap(), Answer { member: Some("m:88".into()), results });
        assert_eq!(Answer::read(br#"{"member":null,"results":[]}"#).unwrap().member, None);
        for body in [&b""[..], b"{}", br#"{"results":[{"user":"a"}]}"#, br#"{"member":1,"results":[]}"#] {
            assert!(Answer::read(body).is_err(), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn every_user_is_answered_for() {
        let written = serde_json::to_string(&UserResult::without_session("u", Status::Unknown)).unwrap();
        assert_eq!(written, r#"{"user":"u","status":"unknown","platforms":[],"online_push":false}"#);
    }
}
