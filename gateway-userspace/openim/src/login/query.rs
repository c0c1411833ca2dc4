//! The login as single parameters.

use std::borrow::Cow;

use ringsteer_websocket::request::{Head, parameter};

use super::Raw;

/// The parameter that asks for success or error as the first text frame.
pub(super) const WANTS_REPLY: &str = "isMsgResp";

/// The parameters of a request.
pub(super) struct Query<'a> {
    head: &'a Head<'a>,
}

impl<'a> Query<'a> {
    pub(super) fn of(head: &'a Head<'a>) -> Self {
        Self { head }
    }

    /// The value of a parameter, if there is one and it is UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        match parameter(self.head.target, name.as_bytes())? {
            Cow::Borrowed(bytes) => str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
        }
    }

    /// Whether a parameter is there and true.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| is_true(&value))
    }

    /// All of them. Those that must be UTF-8 and are not count as missing.
    pub(super) fn read(&self) -> Result<Raw, String> {
        let text = |name| self.text(name).map_or_else(String::new, Cow::into_owned);
        let compression = match text("compression") {
            value if value.is_empty() => {
                let header = self.head.header("compression").next().unwrap_or_default();
                String::from_utf8_lossy(header).into_owned()
            }
            value => value,
        };
        Ok(Raw {
            token: text("token"),
            user: text("sendID"),
            platform: self.text("platformID").and_then(|value| value.parse().ok()),
            operation_id: text("operationID"),
            compression,
            sdk_type: text("sdkType"),
            background: self.flag("isBackground"),
            wants_reply: self.flag(WANTS_REPLY),
            sdk_version: text("sdkVersion"),
        })
    }
}

/// What Go's `strconv.ParseBool` takes for true.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
