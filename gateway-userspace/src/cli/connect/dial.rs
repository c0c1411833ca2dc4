//! The request line, and the connection.

use std::{fmt, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use ringsteer_openim::{
    error::Reply,
    frame::Wire,
    login::{Compression, Encoding},
    platform::Platform,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, http},
};

/// How long connecting and logging in may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection.
pub(super) type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where a gateway is: scheme, host, port and path.
#[derive(Clone, Debug)]
pub struct Url(String);

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Who logs in, and how it wants to be spoken to.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) token: &'a str,
    pub(super) platform: Platform,
    pub(super) wire: Wire,
}

/// Reads an address.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("ws://{text}") };
    let uri: http::Uri = text.parse().map_err(|error| format!("no address of a gateway: {error}"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err("TLS is not spoken here; go past what terminates it".into()),
        _ => return Err("an address starts with ws://".into()),
    }
    if uri.query().is_some() {
        return Err("the address has a query already; the login goes there".into());
    }
    let authority = uri.authority().ok_or("the address has no host")?;
    Ok(Url(format!("ws://{authority}{}", uri.path())))
}

impl Login<'_> {
    /// The parameters, in the order of the native SDK or, for JSON, of the JS SDK; escaped, for every server decodes them.
    fn query(&self) -> String {
        let operation = format!("connect-{}", std::process::id());
        let mut query = format!(
            "sendID={}&token={}&platformID={}&operationID={operation}&isBackground=false",
            escape(self.user),
            escape(self.token),
            self.platform.number()
        );
        if self.wire.compression == Compression::Gzip {
            query += "&compression=gzip";
        }
        if self.wire.encoding == Encoding::Json {
            query += "&isMsgResp=true&sdkType=js";
        }
        query
    }
}

/// Connects and logs in. An error that a gateway tells in a text frame comes later, as that frame.
pub(super) async fn dial(url: &Url, login: &Login<'_>) -> Result<Stream> {
    let request = format!("{url}?{}", login.query());
    let (stream, _) = timeout(DIAL_TIMEOUT, connect_async(request))
        .await
        .map_err(|_| anyhow!("{url} has not answered within {} s", DIAL_TIMEOUT.as_secs()))?
        .map_err(|error| refusal(url, error))?;
    if let MaybeTlsStream::Plain(socket) = stream.get_ref() {
        socket.set_nodelay(true).context("cannot turn off the delay of small packets")?;
    }
    Ok(stream)
}

/// What a gateway says when it does not upgrade.
fn refusal(url: &Url, error: Error) -> anyhow::Error {
    let Error::Http(response) = error else { return anyhow::Error::new(error).context(format!("cannot reach {url}")) };
    let status = response.status();
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    match serde_json::from_str::<Reply>(&body) {
        Ok(Reply { err_code, err_msg, err_dlt }) if err_code != 0 => {
            anyhow!("{url} refuses: {err_msg} ({err_code}): {err_dlt}")
        }
        _ => anyhow!("{url} answers {status}: {}", body.trim()),
    }
}

/// Escapes all that means something in a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use ringsteer_openim::login;
    use ringsteer_websocket::request::parse_head;

    use super::*;

    #[test]
    fn what_is_dialled_is_what_gateways_read() {
        for wire in Wire::ALL {
            let asked = Login { user: "用户 &+7", token: "a.b-_c", platform: Platform::Web, wire };
            let request = format!("GET /?{} HTTP/1.1\r\n\r\n", asked.query());
            let (head, _) = parse_head(request.as_bytes()).unwrap().unwrap();
            let login = login::Login::parse(&head).unwrap();
            assert_eq!((login.user.as_str(), login.token.as_str()), (asked.user, asked.token));
            assert_eq!((login.platform, Wire::from(&login)), (asked.platform, wire));
        }
    }

    #[test]
    fn an_address_is_completed_or_refused() {
        for (text, expected) in [
            ("192.0.2.1:10001", "ws://192.0.2.1:10001/"),
            ("ws://[2001:db8::1]:10001/ws", "ws://[2001:db8::1]:10001/ws"),
            ("ws://gateway.example", "ws://gateway.example/"),
        ] {
            assert_eq!(url(text).unwrap().to_string(), expected);
        }
        for text in ["http://h/", "wss://h/", "ws://h/?a=b", "ws://", ""] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let url = url("h:1").unwrap();
        let told = |status: u16, body: &str| {
            let response = http::Response::builder().status(status).body(Some(body.as_bytes().to_vec())).unwrap();
            refusal(&url, Error::Http(response.into())).to_string()
        };
        let json = r#"{"errCode":1501,"errMsg":"TokenExpiredError","errDlt":"the token has expired"}"#;
        assert_eq!(told(200, json), "ws://h:1/ refuses: TokenExpiredError (1501): the token has expired");
        assert_eq!(told(421, "node-2 owns it\n"), "ws://h:1/ answers 421 Misdirected Request: node-2 owns it");
    }
}
