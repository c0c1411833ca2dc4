//! The opening handshake: RFC 6455, section 4.2.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::{Digest as _, Sha1};

use crate::{
    deflate::{Deflate, negotiate},
    request::Head,
};

/// What RFC 6455 has the server append to the client's key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that asks for a websocket in the right way, and may be answered by [`Upgrade::response`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
    /// The best of the client's offers.
    offered: Option<Deflate>,
    /// What is made of it.
    deflate: Option<Deflate>,
}

/// Why a request cannot become a websocket. The client's fault; the same request will be refused again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("a websocket is opened with GET")]
    Method,
    /// No `Upgrade: websocket` and `Connection: Upgrade`, or HTTP/1.0, which has no upgrade.
    #[error("this address serves websockets: send `Connection: Upgrade` and `Upgrade: websocket`")]
    NotAnUpgrade,
    /// A protocol version other than 13.
    #[error("the only websocket version served is 13: send `Sec-WebSocket-Version: 13`")]
    Version,
    /// No key, several, or one that is not 16 bytes of base64.
    #[error("Sec-WebSocket-Key must be there once, 16 bytes in base64")]
    Key,
    /// Extensions are offered in a way that can mean anything; RFC 6455, section 9.1.
    #[error("Sec-WebSocket-Extensions is no list of extensions")]
    Extensions,
    /// A body before the upgrade, whose bytes would be taken for frames.
    #[error("a websocket handshake has no body")]
    Body,
}

impl Refusal {
    /// The HTTP status that tells the client.
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::NotAnUpgrade | Self::Version => 426,
            Self::Key | Self::Extensions | Self::Body => 400,
        }
    }

    /// The header line that tells the client how to do it right, if there is one.
    pub fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Method => Some(("Allow", "GET")),
            Self::NotAnUpgrade => Some(("Upgrade", "websocket")),
            Self::Version => Some(("Sec-WebSocket-Version", "13")),
            Self::Key | Self::Extensions | Self::Body => None,
        }
    }
}

impl Upgrade {
    /// Judges a request.
    ///
    /// # Errors
    /// If it is no websocket handshake, or one this server does not understand.
    pub fn of(head: &Head<'_>) -> Result<Self, Refusal> {
        if head.method != b"GET" {
            return Err(Refusal::Method);
        }
        if head.minor_version < 1
            || !head.header_has_token("Connection", "upgrade")
            || !head.header_has_token("Upgrade", "websocket")
        {
            return Err(Refusal::NotAnUpgrade);
        }
        if !head.header("Sec-WebSocket-Version").eq([b"13"]) {
            return Err(Refusal::Version);
        }
        let has_length = head.header("Content-Length").any(|length| length != b"0");
        if has_length || head.header("Transfer-Encoding").next().is_some() {
            return Err(Refusal::Body);
        }
        let mut keys = head.header("Sec-WebSocket-Key");
        let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Refusal::Key) };
        if !BASE64_STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
            return Err(Refusal::Key);
        }
        let offered = negotiate::choose(head).map_err(|_| Refusal::Extensions)?;
        Ok(Self { accept: accept(key), offered, deflate: None })
    }

    /// Agrees to compress messages, if the client offers that in a way that this server can keep.
    pub fn with_deflate(self) -> Self {
        Self { deflate: self.offered, ..self }
    }

    /// What the response agrees to about compression.
    pub fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// The 101 that makes the connection a websocket. Only who will hold the session sends it (promise 5).
    pub fn response(&self) -> Vec<u8> {
        let extensions = match self.deflate {
            Some(deflate) => format!("Sec-WebSocket-Extensions: {}\r\n", negotiate::response(deflate)),
            None => String::new(),
        };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{extensions}\r\n",
            self.accept
        )
        .into_bytes()
    }
}

/// The proof that the server has read the client's key.
fn accept(key: &[u8]) -> String {
    BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::parse_head;

    const GOOD: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn judge(request: &str) -> Result<Upgrade, Refusal> {
        Upgrade::of(&parse_head(request.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let response = String::from_utf8(judge(GOOD).unwrap().response()).unwrap();
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
    }

    #[test]
    fn tokens_are_found_in_lists_and_in_any_case() {
        for (from, to) in [
            ("Connection: Upgrade", "connection: keep-alive, upgrade"),
            ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: UPGRADE"),
            ("Upgrade: websocket", "UPGRADE: h2c , WebSocket"),
            ("Host: server.example.com", "Content-Length: 0"),
        ] {
            assert!(judge(&GOOD.replace(from, to)).is_ok(), "{to}");
        }
    }

    #[test]
    fn compression_is_agreed_on_only_where_both_want_it() {
        let response = |upgrade: Upgrade| String::from_utf8(upgrade.response()).unwrap();
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nHost:";
        let offered = judge(&GOOD.replace("Host:", offer)).unwrap();
        assert_eq!(offered.deflate(), None);
        assert!(!response(offered.clone()).contains("Extensions"));
        let agreed = offered.with_deflate();
        assert_eq!(agreed.deflate(), Some(Deflate::default()));
        let line = "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n";
        assert!(response(agreed.clone()).ends_with(line), "{}", response(agreed));
        let not_offered = judge(GOOD).unwrap().with_deflate();
        assert_eq!(not_offered.deflate(), None);
        assert!(!response(not_offered).contains("Extensions"));
    }

    #[test]
    fn anything_else_is_refused_for_its_own_reason() {
        for (from, to, expected) in [
            ("GET", "POST", Refusal::Method),
            ("HTTP/1.1", "HTTP/1.0", Refusal::NotAnUpgrade),
            ("Connection: Upgrade", "Connection: close", Refusal::NotAnUpgrade),
            ("Connection: Upgrade", "A: b", Refusal::NotAnUpgrade),
            ("Upgrade: websocket", "Upgrade: websocket2", Refusal::NotAnUpgrade),
            ("Version: 13", "Version: 8", Refusal::Version),
            ("Version: 13", "Version: 13, 8", Refusal::Version),
            ("Sec-WebSocket-Version: 13\r\n", "", Refusal::Version),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", Refusal::Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", Refusal::Key),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", Refusal::Key),
            ("Host:", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nHost:", Refusal::Key),
            ("Host: server.example.com", "Sec-WebSocket-Extensions: a;;b", Refusal::Extensions),
            ("Host: server.example.com", "Content-Length: 5", Refusal::Body),
            ("Host: server.example.com", "Transfer-Encoding: chunked", Refusal::Body),
        ] {
            assert_eq!(judge(&GOOD.replace(from, to)), Err(expected), "{from} -> {to}");
        }
    }
}
