//! The head of an HTTP request and the parameters in it, read as a Go server reads them.
//!
//! The kernel program finds the key of a connection in the same bytes by the same rules; a test compares the two, and
//! OpenIM's own gateway is written in Go. So these rules are exact, and no HTTP library stands in between: those at
//! hand cut the target at a `#` or refuse bytes that Go takes, and would read another user than the kernel did.
//!
//! 1. The request line ends at the first LF; a CR before it is not part of it.
//! 2. The **target** is what stands between its first and its second space. What follows must be an HTTP version.
//! 3. A control byte (below 0x20, or 0x7f) in the target makes the request bad. Any other byte is taken as it is: raw
//!    UTF-8, Latin-1, quotes.
//! 4. The **query** is what follows the first `?` of the target. A `#` has no meaning.
//! 5. The query is split at every `&` into **pairs**, and a pair at its first `=` into name and value; a pair without
//!    `=` has an empty value.
//! 6. An empty pair and a pair with a `;` in it are skipped.
//! 7. In name and value, `+` stands for a space and `%XX` (hexadecimal, either case) for that byte. A pair with any other
//!    use of `%`, in name or value, is skipped.
//! 8. The first pair with the wanted name decides, also when its value is empty.
//!
//! Decoded values are bytes: nothing makes them UTF-8.

use std::borrow::Cow;

/// Longest request head, in bytes, from the method to the empty line.
pub const MAX_HEAD: usize = 16 * 1024;

/// Most header lines in one head.
pub const MAX_HEADERS: usize = 100;

/// The head of a request; borrows the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, such as `GET`; never empty.
    pub method: &'a [u8],
    /// The request target, as sent; never empty.
    pub target: &'a [u8],
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The header lines, in order.
    pub headers: Vec<httparse::Header<'a>>,
}

/// Why a head cannot be read. Always the client's fault, and the same bytes will fail again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// Not `METHOD target HTTP/1.x`.
    #[error("the request line is not `METHOD target HTTP/1.1`")]
    RequestLine,
    /// The target is empty, has a control byte in it, or is neither a path nor an absolute URL.
    #[error("the request target must be a path such as /?name=value, without control bytes")]
    Target,
    /// A major version other than 1, or a minor one above 1.
    #[error("this server speaks HTTP/1.0 and HTTP/1.1 only")]
    Version,
    /// A malformed header line.
    #[error("a header line is malformed")]
    Headers,
    /// More than [`MAX_HEAD`] bytes or [`MAX_HEADERS`] lines.
    #[error("the request head exceeds {MAX_HEAD} bytes or {MAX_HEADERS} header lines")]
    TooLarge,
}

impl BadHead {
    /// The HTTP status that tells the client.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestLine | Self::Target | Self::Headers => 400,
            Self::TooLarge => 431,
            Self::Version => 505,
        }
    }
}

/// Reads the head that `bytes` start with: the head and its length in bytes, or `None` if it is not complete yet.
///
/// # Errors
/// As soon as the bytes cannot become a good head any more, which may be before its end.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, BadHead> {
    let within_limit = &bytes[..bytes.len().min(MAX_HEAD)];
    let incomplete = || if bytes.len() >= MAX_HEAD { Err(BadHead::TooLarge) } else { Ok(None) };

    let Some(line_end) = within_limit.iter().position(|&byte| byte == b'\n') else {
        // TLS, say, would have us wait for a line end that never comes.
        let (method, _) = cut(within_limit, b' ');
        return if method.iter().all(|&byte| is_token(byte)) { incomplete() } else { Err(BadHead::RequestLine) };
    };
    let (method, target, minor_version) = parse_request_line(&within_limit[..line_end])?;

    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let headers_start = line_end + 1;
    match httparse::parse_headers(&within_limit[headers_start..], &mut lines) {
        Ok(httparse::Status::Complete((length, headers))) => {
            let head = Head { method, target, minor_version, headers: headers.to_vec() };
            Ok(Some((head, headers_start + length)))
        }
        Ok(httparse::Status::Partial) => incomplete(),
        Err(httparse::Error::TooManyHeaders) => Err(BadHead::TooLarge),
        Err(_) => Err(BadHead::Headers),
    }
}

/// The value of the query parameter `name` in a request target, decoded. `None` if there is no readable pair of that
/// name; an empty value is a value. See the rules of this module.
pub fn parameter<'a>(target: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let (_, query) = cut(target, b'?');
    query?.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty() && !pair.contains(&b';')).find_map(|pair| {
        let (raw_name, raw_value) = cut(pair, b'=');
        // Both are decoded before the names are compared: a bad escape in the value of an earlier pair of the
        // same name must let a later pair win.
        let (decoded_name, value) = (decode(raw_name)?, decode(raw_value.unwrap_or_default())?);
        (*decoded_name == *name).then_some(value)
    })
}

impl<'a> Head<'a> {
    /// The target's path: up to the query, and without scheme and host in the absolute form. Not decoded.
    pub fn path(&self) -> &'a [u8] {
        let (before_query, _) = cut(self.target, b'?');
        if before_query.starts_with(b"/") {
            return before_query;
        }
        let host = before_query.windows(3).position(|bytes| bytes == b"://").map_or(0, |scheme| scheme + 3);
        let path = before_query[host..].iter().position(|&byte| byte == b'/');
        path.map_or(b"/", |path| &before_query[host + path..])
    }

    /// The values of the header lines called `name`, in any letter case.
    pub fn header<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// Whether one of the comma-separated elements of the header `name` is `token`, in any letter case.
    pub fn header_has_token(&self, name: &str, token: &str) -> bool {
        self.header(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// Method, target and minor version of a request line, which comes without its LF.
fn parse_request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), BadHead> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (method, Some(rest)) = cut(line, b' ') else { return Err(BadHead::RequestLine) };
    let (target, Some(version)) = cut(rest, b' ') else { return Err(BadHead::RequestLine) };
    if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return Err(BadHead::RequestLine);
    }
    if target.iter().any(u8::is_ascii_control) || !is_path_or_url(target) {
        return Err(BadHead::Target);
    }
    match version {
        b"HTTP/1.1" => Ok((method, target, 1)),
        b"HTTP/1.0" => Ok((method, target, 0)),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(BadHead::Version)
        }
        _ => Err(BadHead::RequestLine),
    }
}

/// `/path…`, or the absolute form that proxies are sent.
fn is_path_or_url(target: &[u8]) -> bool {
    let starts_with =
        |prefix: &str| target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    starts_with("/") || ["http://", "https://", "ws://", "wss://"].into_iter().any(starts_with)
}

/// What stands before the first `separator`, and what stands after it, if there is one.
fn cut(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match bytes.iter().position(|&byte| byte == separator) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    }
}

/// Undoes query escaping; `None` if a `%` is not followed by two hexadecimal digits.
fn decode(raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !raw.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let [high, low, after @ ..] = after else { return None };
                rest = after;
                hex_digit(*high)? << 4 | hex_digit(*low)?
            }
            other => *other,
        });
    }
    Some(Cow::Owned(decoded))
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

/// A `tchar` of RFC 9110, section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn send_id(target: &[u8]) -> Option<Vec<u8>> {
        parameter(target, b"sendID").map(Cow::into_owned)
    }

    #[test]
    fn the_three_sdks_are_understood() {
        let native = "/?sendID=用户 7&token=t&platformID=1&operationID=a b+c&isBackground=false&compression=gzip";
        // Unescaped as the native SDK writes it; its space ends the target, so the client library escapes that much.
        assert_eq!(send_id(native.as_bytes()), Some("用户 7".into()));
        let browser = "/ws?compression=gzip&isBackground=false&isMsgResp=true&operationID=1&platformID=5&sendID=%E7%94%A8&token=x";
        assert_eq!(send_id(browser.as_bytes()), Some("用".into()));
        let javascript = "/?sendID=u+1&token=x&platformID=5&operationID=1&isBackground=false&isMsgResp=true&sdkType=js";
        assert_eq!(send_id(javascript.as_bytes()), Some(b"u 1".to_vec()));
    }

    /// Each line is a rule of the module; what Go's `url.ParseQuery` answers was taken from its source.
    #[test]
    fn a_query_is_read_as_go_reads_it() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (b"/", None),
            (b"/?", None),
            (b"/?sendID", Some(b"")),
            (b"/?sendID=", Some(b"")),
            (b"/?sendID=&sendID=b", Some(b"")),
            (b"/?sendID=a&sendID=b", Some(b"a")),
            (b"/?sendID=a=b", Some(b"a=b")),
            (b"/?a=?sendID=b&sendID=c", Some(b"c")),
            (b"/?a?sendID=b", None),
            (b"/sendID=a", None),
            (b"/?xsendID=a&sendIDx=b&SENDID=c", None),
            (b"/?x=sendID=a", None),
            (b"/?&&sendID=a", Some(b"a")),
            (b"/?sendID=a#b&c", Some(b"a#b")),
            (b"/#?sendID=a", Some(b"a")),
            (b"/?sendID=a;b", None),
            (b"/?sendID=a;b&sendID=c", Some(b"c")),
            (b"/?x=1;sendID=a&sendID=c", Some(b"c")),
            (b"/?sendID=a%3Bb", Some(b"a;b")),
            (b"/?sendID=%41%6a%6A", Some(b"Ajj")),
            (b"/?sendID=%", None),
            (b"/?sendID=%4", None),
            (b"/?sendID=a%4&sendID=b", Some(b"b")),
            (b"/?sendID=%4g", None),
            (b"/?sendID=%+1", None),
            (b"/?sendID=%zz&sendID=b", Some(b"b")),
            (b"/?send%49D=a", Some(b"a")),
            (b"/?%zz=a&sendID=b", Some(b"b")),
            (b"/?sendID%=a&sendID=b", Some(b"b")),
            (b"/?sendID=%2541", Some(b"%41")),
            (b"/?sendID=a+b%2Bc", Some(b"a b+c")),
            (b"/?sendID=%00%ff\xfe", Some(b"\x00\xff\xfe")),
            (b"/?sendID=%26%3d", Some(b"&=")),
            (b"http://host/?sendID=a", Some(b"a")),
        ];
        for (target, expected) in cases {
            assert_eq!(send_id(target).as_deref(), *expected, "{}", target.escape_ascii());
        }
    }

    #[test]
    fn a_value_without_escapes_is_not_copied() {
        assert!(matches!(parameter(b"/?sendID=abc", b"sendID"), Some(Cow::Borrowed(b"abc"))));
    }

    #[test]
    fn a_head_is_read_to_its_empty_line() {
        let bytes = b"GET /?sendID=\xff\"<u> HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\r\nrest";
        let (head, length) = parse_head(bytes).unwrap().unwrap();
        assert_eq!((head.method, head.minor_version), (&b"GET"[..], 1));
        assert_eq!(send_id(head.target), Some(b"\xff\"<u>".to_vec()));
        assert_eq!(&bytes[length..], b"rest");
        assert!(head.header_has_token("connection", "upgrade"));
        assert!(!head.header_has_token("connection", "keep"));
        assert_eq!(head.header("HOST").collect::<Vec<_>>(), [b"h"]);
    }

    #[test]
    fn the_path_is_found_in_both_forms() {
        for (target, path) in [
            ("/push?recvID=/x", "/push"),
            ("/", "/"),
            ("//push", "//push"),
            ("http://host:80/push?recvID=u", "/push"),
            ("http://host?recvID=/u", "/"),
        ] {
            let bytes = format!("POST {target} HTTP/1.1\r\n\r\n");
            let (head, _) = parse_head(bytes.as_bytes()).unwrap().unwrap();
            assert_eq!(head.path(), path.as_bytes(), "{target}");
        }
    }

    #[test]
    fn lines_may_end_in_a_bare_lf() {
        let (head, length) = parse_head(b"POST /push HTTP/1.0\nA: b\n\n").unwrap().unwrap();
        assert_eq!((head.target, head.minor_version, length), (&b"/push"[..], 0, 26));
    }

    #[test]
    fn a_bad_head_is_refused_as_early_as_can_be() {
        let cases: &[(&[u8], BadHead)] = &[
            (b"\x16\x03\x01\x02", BadHead::RequestLine),
            (b"\r\nGET / HTTP/1.1\r\n\r\n", BadHead::RequestLine),
            (b"GET /\r\n", BadHead::RequestLine),
            (b" / HTTP/1.1\r\n", BadHead::RequestLine),
            (b"GET /a b HTTP/1.1\r\n", BadHead::RequestLine),
            (b"GET / HTTP/1.1 \r\n", BadHead::RequestLine),
            (b"GET / http/1.1\r\n", BadHead::RequestLine),
            (b"GET / HTTP/2.0\r\n", BadHead::Version),
            (b"GET  HTTP/1.1 HTTP/1.1\r\n", BadHead::Target),
            (b"GET /a\tb HTTP/1.1\r\n", BadHead::Target),
            (b"GET /a\x7f HTTP/1.1\r\n", BadHead::Target),
            (b"GET /a\rb HTTP/1.1\r\n", BadHead::Target),
            (b"GET ?sendID=u HTTP/1.1\r\n", BadHead::Target),
            (b"OPTIONS * HTTP/1.1\r\n", BadHead::Target),
            (b"GET / HTTP/1.1\r\nno colon\r\n", BadHead::Headers),
            (b"GET / HTTP/1.1\r\na : b\r\n\r\n", BadHead::Headers),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse_head(bytes), Err(*expected), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_head_has_a_largest_size() {
        let head_of = |length: usize| {
            let mut bytes = b"GET / HTTP/1.1\r\nA: ".to_vec();
            bytes.resize(length - 4, b'a');
            bytes.extend_from_slice(b"\r\n\r\n");
            bytes
        };
        assert!(matches!(parse_head(&head_of(MAX_HEAD)), Ok(Some((_, MAX_HEAD)))));
        assert_eq!(parse_head(&head_of(MAX_HEAD + 1)), Err(BadHead::TooLarge));
        assert_eq!(parse_head(&vec![b'a'; MAX_HEAD - 1]), Ok(None));
        assert_eq!(parse_head(&vec![b'a'; MAX_HEAD]), Err(BadHead::TooLarge));
        let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(parse_head(lines.as_bytes()), Err(BadHead::TooLarge));
    }

    /// Escapes some bytes that need it not, and all that do.
    fn escape(value: &[u8], also: &[bool]) -> Vec<u8> {
        let mut escaped = Vec::new();
        for (index, &byte) in value.iter().enumerate() {
            let must = matches!(byte, b'%' | b'+' | b'&' | b';' | b'=' | b' ') || byte.is_ascii_control();
            if byte == b' ' && also.get(index).is_some_and(|&plus| plus) {
                escaped.push(b'+');
            } else if must || also.get(index).is_some_and(|&escape| escape) {
                escaped.extend_from_slice(format!("%{byte:02X}").as_bytes());
            } else {
                escaped.push(byte);
            }
        }
        escaped
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_is_read_back(
            value in prop::collection::vec(any::<u8>(), 0..60),
            also in prop::collection::vec(any::<bool>(), 0..60),
            before in "([a-z]{1,4}=[^&;%+ \\x00-\\x1f\\x7f]{0,9}&){0,4}",
        ) {
            let target = [b"/?", before.as_bytes(), b"sendID=", &escape(&value, &also), b"&sendID=other"].concat();
            prop_assert_eq!(send_id(&target), Some(value));
        }

        #[test]
        fn a_head_cut_anywhere_is_incomplete_not_wrong(cut_at: prop::sample::Index) {
            let whole = b"GET /ws?sendID=u1 HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n";
            prop_assert_eq!(parse_head(&whole[..cut_at.index(whole.len())]), Ok(None));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), query in "[/?&;=%+a-fsendID0-9]{0,80}") {
            let _ = parse_head(&bytes);
            let _ = parse_head(&[b"GET /", &bytes[..], b" HTTP/1.1\r\n\r\n"].concat());
            let _ = parameter(&bytes, b"sendID");
            let _ = parameter(query.as_bytes(), b"sendID");
        }
    }
}
