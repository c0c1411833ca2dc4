//! The request that logs a client in: who it is, and how it wants to be spoken to.
//!
//! Every SDK says the same in another order and spelling: the native one unescaped and raw, the wasm one in alphabetical
//! order and escaped as a form, the JS one escaped as a browser does it. The newest servers also take one parameter `v`,
//! base64url of a JSON object, which wins over all others. Parameters are found and decoded by the rules of
//! [`ringsteer_websocket::request`], which are Go's.
//!
//! # What is required
//!
//! Old servers want `token`, `sendID` and an integer `platformID`. Newer ones also an `operationID`, a boolean
//! `isBackground`, a known platform and a known `sdkType`. What is taken here is what any of them takes and what can be
//! served:
//!
//! | parameter | in `v` | |
//! |---|---|---|
//! | `token` | `token` | required |
//! | `sendID` | `userID` | required; UTF-8, at most 256 bytes |
//! | `platformID` | `platformID` | required; an integer that names a platform |
//! | `operationID` | `operationID` | else empty |
//! | `isBackground` | `background` | else, or if it is no boolean, false |
//! | `isMsgResp` | `sendResponse` | else, or if it is no boolean, false |
//! | `compression`, or a header of that name | `compression` | `gzip`; anything else is none |
//! | `sdkType` | `sdkType` | empty or `go`: gob; `js`: JSON; another is refused, for we could not speak to it |
//! | `sdkVersion` | `sdkVersion` | else empty |
//!
//! All that is wrong with a request is one error to clients, 1602. A boolean is what Go's `strconv.ParseBool` takes.

mod query;
mod v;

#[cfg(test)]
mod tests;

use ringsteer_websocket::request::Head;
use serde::{Deserialize, Serialize};

use crate::{
    error::{ApiError, Code},
    platform::Platform,
};

/// Longest user id, in bytes: the longest key that the kernel reads.
pub const MAX_USER_BYTES: usize = 256;

/// Longest operation id or SDK version that is kept, in bytes. They only serve logs, and longer ones are cut.
const MAX_NOTE_BYTES: usize = 128;

/// What a client says when it logs in. Nothing of it is proven yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who it says it is.
    pub user: String,
    /// What is to prove it.
    pub token: String,
    /// What it runs on.
    pub platform: Platform,
    /// Names this login in logs; may be empty.
    pub operation_id: String,
    /// How frames are written.
    pub encoding: Encoding,
    /// What is done to them then.
    pub compression: Compression,
    /// Whether the app is in the background.
    pub background: bool,
    /// Whether the client wants success or error as the first text frame. See [`crate::error`].
    pub wants_reply: bool,
    /// The version of its SDK, if it tells.
    pub sdk_version: String,
}

/// How frames are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Encoding {
    /// As Go's `encoding/gob` does it: the Go core's SDKs.
    #[default]
    Gob,
    /// JSON: the JS SDK.
    Json,
}

/// What is done to frames once they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// Each is a gzip file.
    Gzip,
}

/// A login that cannot be; `wants_reply` says how to tell the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: ApiError,
    /// Whether the client wants to be told in a text frame. See [`crate::error`].
    pub wants_reply: bool,
}

/// What a request says, before it is looked at.
#[derive(Debug, Default)]
struct Raw {
    token: String,
    user: String,
    platform: Option<i64>,
    operation_id: String,
    compression: String,
    sdk_type: String,
    background: bool,
    wants_reply: bool,
    sdk_version: String,
}

impl Login {
    /// Reads the login out of a request.
    ///
    /// # Errors
    /// 1602 if something required is missing or makes no sense; see the module's table.
    pub fn parse(head: &Head<'_>) -> Result<Self, Refused> {
        let query = query::Query::of(head);
        let raw = match query.text(v::PARAMETER) {
            Some(value) if !value.is_empty() => v::read(value.as_bytes()),
            _ => query.read(),
        };
        // The parameter also counts where `v` cannot be read.
        let asks = || query.flag(query::WANTS_REPLY);
        let raw = raw.map_err(|why| Refused { error: bad(why), wants_reply: asks() })?;
        let wants_reply = raw.wants_reply;
        raw.check().map_err(|why| Refused { error: bad(why), wants_reply })
    }
}

fn bad(why: impl Into<String>) -> ApiError {
    ApiError::new(Code::ConnectionArgs, why)
}

impl Raw {
    fn check(self) -> Result<Login, String> {
        if self.token.is_empty() {
            return Err("token is missing".into());
        }
        if self.user.is_empty() {
            return Err("sendID is missing".into());
        }
        if self.user.len() > MAX_USER_BYTES {
            return Err(format!("sendID has more than {MAX_USER_BYTES} bytes"));
        }
        let platform = self.platform.ok_or("platformID is missing or no integer")?;
        let platform = Platform::try_from(platform).map_err(|none| format!("platformID: {none}"))?;
        let encoding = match self.sdk_type.as_str() {
            "" | "go" => Encoding::Gob,
            "js" => Encoding::Json,
            _ => return Err("sdkType must be go or js".into()),
        };
        let compression = if self.compression == "gzip" { Compression::Gzip } else { Compression::None };
        Ok(Login {
            user: self.user,
            token: self.token,
            platform,
            operation_id: cut(self.operation_id),
            encoding,
            compression,
            background: self.background,
            wants_reply: self.wants_reply,
            sdk_version: cut(self.sdk_version),
        })
    }
}

/// The first [`MAX_NOTE_BYTES`] of a text, at a character's end.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_NOTE_BYTES));
    text
}
