//! Errors as clients are told them: a number they act on, its name, and words for people.
//!
//! Before a session there are two ways to tell an error. A client that has not said `isMsgResp=true` gets HTTP **200**
//! with the JSON of [`ApiError::to_json`] as its body, and no upgrade: its library hands it the body then. A browser's
//! does not. So a client that has said it is answered 101, gets the same JSON as its first text frame, and is closed; if
//! all is well that first frame is [`SUCCESS`]. Which of the two is [`crate::login::Refused::wants_reply`].

use serde::{Deserialize, Serialize};

/// The first text frame of a session, for a client that wants one.
pub const SUCCESS: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

/// OpenIM's error codes, as far as a gateway gives them.
///
/// On the seven about tokens the SDKs give up and tell the application; on all others they keep trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Code {
    /// Something failed here; trying again may help.
    ServerInternal = 500,
    /// The data of a request cannot be read, or it asks for what there is not.
    Args = 1001,
    /// The user may not do that.
    NoPermission = 1002,
    /// The token is over its time.
    TokenExpired = 1501,
    /// A good token, but for another user or platform.
    TokenInvalid = 1502,
    /// Not a token at all.
    TokenMalformed = 1503,
    /// The token's time has not come.
    TokenNotValidYet = 1504,
    /// Not signed by us.
    TokenUnknown = 1505,
    /// Another login has ended this one.
    TokenKicked = 1506,
    /// The token has been taken back.
    TokenNotExist = 1507,
    /// No room for another connection.
    TooManyConnections = 1601,
    /// The request to log in lacks something.
    ConnectionArgs = 1602,
}

/// An error as a client is told it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} ({}): {detail}", code.name(), *code as u16)]
pub struct ApiError {
    /// What the client acts on.
    pub code: Code,
    /// What exactly is wrong, in words.
    pub detail: String,
}

/// The JSON of an error or of success.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// 0 if all is well.
    #[serde(default)]
    pub err_code: i64,
    /// The name of the error.
    #[serde(default)]
    pub err_msg: String,
    /// Its details.
    #[serde(default)]
    pub err_dlt: String,
}

// === impl Code ===

impl Code {
    /// The name that goes with the number, `errMsg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServerInternal => "ServerInternalError",
            Self::Args => "ArgsError",
            Self::NoPermission => "NoPermissionError",
            Self::TokenExpired => "TokenExpiredError",
            Self::TokenInvalid => "TokenInvalidError",
            Self::TokenMalformed => "TokenMalformedError",
            Self::TokenNotValidYet => "TokenNotValidYetError",
            Self::TokenUnknown => "TokenUnknownError",
            Self::TokenKicked => "TokenKickedError",
            Self::TokenNotExist => "TokenNotExistError",
            Self::TooManyConnections => "ConnOverMaxNumLimit",
            Self::ConnectionArgs => "ConnArgsErr",
        }
    }

    /// Whether a client that is told this stops dialling.
    pub fn is_final(self) -> bool {
        (1501..=1507).contains(&(self as u16))
    }
}

// === impl ApiError ===

impl ApiError {
    /// An error with its details.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    /// The JSON that tells a client: the body of an HTTP answer or the first text frame.
    pub fn to_json(&self) -> String {
        let reply =
            Reply { err_code: self.code as i64, err_msg: self.code.name().to_owned(), err_dlt: self.detail.clone() };
        serde_json::to_string(&reply).expect("strings and a number are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_as_clients_read_it() {
        let error = ApiError::new(Code::TokenExpired, "over since \"noon\"");
        assert_eq!(error.to_json(), r#"{"errCode":1501,"errMsg":"TokenExpiredError","errDlt":"over since \"noon\""}"#);
        assert_eq!(error.to_string(), "TokenExpiredError (1501): over since \"noon\"");
    }

    #[test]
    fn success_is_told_likewise() {
        let reply = Reply { err_code: 0, err_msg: String::new(), err_dlt: String::new() };
        assert_eq!(serde_json::to_string(&reply).unwrap(), SUCCESS);
    }

    #[test]
    fn on_tokens_clients_give_up_and_on_nothing_else() {
        for code in [Code::ServerInternal, Code::TooManyConnections, Code::ConnectionArgs] {
            assert!(!code.is_final());
        }
        assert!(Code::TokenExpired.is_final() && Code::TokenNotExist.is_final());
    }
}
