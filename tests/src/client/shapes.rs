//! The handshake requests of OpenIM's SDKs, byte by byte as they are seen on the wire.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write;

/// Who asks, and how the request is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The Go core on iOS, Android and desktops: `sendID` first, nothing escaped.
    Native,
    /// The same from its newest version on: with `sdkVersion`.
    NativeNewest,
    /// The Go core in a browser: alphabetical and escaped as a form, so `sendID` stands near the end of a large request.
    Wasm,
    /// The JS SDK: escaped as a browser does it, which leaves `+` and `&` alone.
    Js,
    /// What only the newest servers take: all parameters in one, `v`. The kernel finds no key in it.
    V,
}

/// What a client says when it logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user id, not escaped.
    pub user: String,
    /// A JWT, or what looks like one.
    pub token: String,
    /// 1 iOS, 2 Android, 5 Web, …
    pub platform: u8,
    /// Names the request in logs.
    pub operation: String,
    /// Whether the app is in the background.
    pub background: bool,
    /// Whether frames are to be compressed with gzip.
    pub compression: bool,
    /// The `Host` header.
    pub host: String,
}

/// What a URL's query must not contain, by the URL standard.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

/// What Go's `url.QueryEscape` escapes; the space then becomes a `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

// === impl Shape ===

impl Shape {
    /// All shapes.
    pub const ALL: [Self; 5] = [Self::Native, Self::NativeNewest, Self::Wasm, Self::Js, Self::V];
}

// === impl Login ===

impl Login {
    /// A login from Android, with a token that is no valid one but has the length of one.
    pub fn new(user: impl Into<String>) -> Self {
        let user = user.into();
        Self {
            token: placeholder_token(&user),
            user,
            platform: 2,
            operation: "1718000000000000000".into(),
            background: false,
            compression: true,
            host: "im.example".into(),
        }
    }

    /// The whole request, to the empty line.
    pub fn request(&self, shape: Shape) -> Vec<u8> {
        let path = self.request_target(shape);
        let host = &self.host;
        let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
        let request = match shape {
            Shape::Native | Shape::NativeNewest | Shape::V => format!(
                "GET {path} HTTP/1.1\r\n\
                 Host: {host}\r\n\
                 User-Agent: Go-http-client/1.1\r\n\
                 Connection: Upgrade\r\n\
                 Sec-WebSocket-Key: {key}\r\n\
                 Sec-WebSocket-Version: 13\r\n\
                 Upgrade: websocket\r\n\
                 \r\n"
            ),
            Shape::Wasm | Shape::Js => format!(
                "GET {path} HTTP/1.1\r\n\
                 Host: {host}\r\n\
                 Connection: Upgrade\r\n\
                 Pragma: no-cache\r\n\
                 Cache-Control: no-cache\r\n\
                 User-Agent: {USER_AGENT}\r\n\
                 Upgrade: websocket\r\n\
                 Origin: https://{host}\r\n\
                 Sec-WebSocket-Version: 13\r\n\
                 Accept-Encoding: gzip, deflate\r\n\
                 Accept-Language: en-US,en;q=0.9\r\n\
                 Sec-WebSocket-Key: {key}\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                 \r\n"
            ),
        };
        request.into_bytes()
    }

    /// The path and query of the request line.
    fn request_target(&self, shape: Shape) -> String {
        let Self { user, token, platform, operation, background, compression, .. } = self;
        let mut query = String::new();
        match shape {
            Shape::Native | Shape::NativeNewest => {
                query = format!(
                    "sendID={user}&token={token}&platformID={platform}&operationID={operation}&isBackground={background}"
                );
                if shape == Shape::NativeNewest {
                    query.push_str("&sdkVersion=v3.8.3");
                }
                if *compression {
                    query.push_str("&compression=gzip");
                }
            }
            Shape::Wasm => {
                let mut add = |name: &str, value: &str| {
                    let separator = if query.is_empty() { "" } else { "&" };
                    let escaped = utf8_percent_encode(value, FORM).to_string().replace(' ', "+");
                    let _ = write!(query, "{separator}{name}={escaped}");
                };
                if *compression {
                    add("compression", "gzip");
                }
                add("isBackground", if *background { "true" } else { "false" });
                add("isMsgResp", "true");
                add("operationID", operation);
                add("platformID", &platform.to_string());
                add("sendID", user);
                add("token", token);
            }
            Shape::Js => {
                let raw = format!(
                    "sendID={user}&token={token}&platformID={platform}&operationID={operation}\
                     &isBackground={background}&isMsgResp=true&sdkType=js"
                );
                query = utf8_percent_encode(&raw, QUERY).to_string();
            }
            Shape::V => {
                let fields = serde_json::json!({
                    "token": token,
                    "userID": user,
                    "platformID": platform,
                    "operationID": operation,
                    "compression": if *compression { "gzip" } else { "" },
                    "sdkType": "go",
                    "sendResponse": false,
                    "background": background,
                    "sdkVersion": "v3.8.3",
                });
                query = format!("v={}", URL_SAFE_NO_PAD.encode(fields.to_string()));
            }
        }
        format!("/?{query}")
    }
}

/// A token that no server should believe, of the form and about the length (200) of a real one.
fn placeholder_token(user: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let claims = serde_json::json!({
        "UserID": user, "PlatformID": 2, "exp": 1_725_776_000, "nbf": 1_717_999_700, "iat": 1_718_000_000,
    });
    let signature = URL_SAFE_NO_PAD.encode([0x5a; 32]);
    format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_line(user: &str, shape: Shape) -> String {
        let login = Login { token: "T".into(), operation: "op".into(), ..Login::new(user) };
        let request = String::from_utf8(login.request(shape)).unwrap();
        assert!(request.ends_with("\r\n\r\n"));
        request.lines().next().unwrap().to_owned()
    }

    #[test]
    fn native_escapes_nothing() {
        assert_eq!(
            request_line("a +é", Shape::Native),
            "GET /?sendID=a +é&token=T&platformID=2&operationID=op&isBackground=false&compression=gzip HTTP/1.1"
        );
        assert_eq!(
            request_line("u", Shape::NativeNewest),
            "GET /?sendID=u&token=T&platformID=2&operationID=op&isBackground=false&sdkVersion=v3.8.3&compression=gzip HTTP/1.1"
        );
    }

    #[test]
    fn wasm_is_alphabetical_and_a_form() {
        assert_eq!(
            request_line("a +é&", Shape::Wasm),
            "GET /?compression=gzip&isBackground=false&isMsgResp=true&operationID=op&platformID=2&sendID=a+%2B%C3%A9%26&token=T HTTP/1.1"
        );
        let length = Login::new("4711").request(Shape::Wasm).len();
        assert!((700..900).contains(&length), "{length} bytes, not about 800");
    }

    #[test]
    fn js_escapes_as_a_browser_does() {
        assert_eq!(
            request_line("a +é", Shape::Js),
            "GET /?sendID=a%20+%C3%A9&token=T&platformID=2&operationID=op&isBackground=false&isMsgResp=true&sdkType=js HTTP/1.1"
        );
    }

    #[test]
    fn v_carries_json() {
        let line = request_line("u", Shape::V);
        let value = line.strip_prefix("GET /?v=").and_then(|rest| rest.strip_suffix(" HTTP/1.1")).unwrap();
        let fields: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).unwrap()).unwrap();
        assert_eq!((fields["userID"].as_str(), fields["platformID"].as_u64()), (Some("u"), Some(2)));
    }

    #[test]
    fn the_placeholder_token_is_as_long_as_a_real_one() {
        let length = Login::new("4711").token.len();
        assert!((180..220).contains(&length), "{length}");
    }
}
